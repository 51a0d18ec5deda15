"""What a config asks for that does not go with where things are on a machine."""

from __future__ import annotations

from collections.abc import Callable

from luksctl.errors import ConfigError, Problem
from luksctl.hints import Final
from luksctl.model.config import EPHEMERAL, KeyKind, MachineConfig, Settings

# Whoever brings the network up keeps its leases, sockets and logs there.
_NEEDED_BY_THE_NETWORK: Final = ("/var", "/var/lib", "/var/log")


def expect_bootable(config: MachineConfig, read_settings: Callable[[], Settings]) -> None:
    """Raise ConfigError for an EPHEMERAL that only a KMS opens where the network needs what is mounted there.

    The settings are read for such an EPHEMERAL only, and that may raise as well.
    """
    encryption = config.encryption_of(EPHEMERAL)
    if encryption is None or any(key.kind is not KeyKind.KMS for key in encryption.keys):
        return
    settings = read_settings()
    volume = dict(settings.volumes).get(EPHEMERAL)
    if encryption.keys and volume is not None and volume.mount_point in _NEEDED_BY_THE_NETWORK:
        where = f"which {settings.path} mounts at {volume.mount_point}"
        message = f"only a KMS opens {EPHEMERAL}, {where}: there is no network without it"
        hint = "add a key that needs no network (tpm, nodeID, static), or mount it elsewhere"
        raise ConfigError((Problem(f"{EPHEMERAL}.encryption.keys", message, file=config.source, hint=hint),))
