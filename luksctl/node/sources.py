"""Where the machine config comes from.

STATE's own `config.yaml` wins from the moment STATE is mounted. Before that, the first of: the file named by the
kernel argument `luksctl.config=`, the systemd credential `luksctl.machineconfig`, `/etc/luksctl/machine.yaml`.
"""

from __future__ import annotations

import os
from contextlib import suppress

from luksctl.errors import ConfigError, Problem
from luksctl.hints import Final
from luksctl.model.config import STATE, MachineConfig
from luksctl.model.desired import DesiredVolume
from luksctl.node.files import read_file, remove_leftover, replace_file, sync_directory
from luksctl.node.node import Node
from luksctl.value import replace

KERNEL_ARGUMENT: Final = "luksctl.config="
CREDENTIAL: Final = "luksctl.machineconfig"
STORED_NAME: Final = "config.yaml"
STAGED_NAME: Final = "staged.yaml"
PREVIOUS_DIRECTORY: Final = "previous"
HEADER_BACKUPS: Final = "header-backups"


def outside_config(node: Node) -> MachineConfig | None:
    """Return the config from outside STATE, or None; ConfigError when the first one found is wrong."""
    found = outside_text(node)
    return None if found is None else parse_config(*found)


def outside_text(node: Node) -> tuple[bytes, str, str] | None:
    """Return the first config from outside STATE as it is, its name and its path; None where there is none."""
    for argument in node.system.kernel_arguments():
        if argument.startswith(KERNEL_ARGUMENT):
            path = argument.removeprefix(KERNEL_ARGUMENT)
            text = _read(path)
            if text is None:
                problem = Problem("", f"the kernel argument {argument} names a file that is not there", file=path)
                raise ConfigError((problem,))
            return text, f"kernel argument {path}", path
    for directory in node.paths.credential_dirs:
        path = os.path.join(directory, CREDENTIAL)
        text = _read(path)
        if text is not None:
            return text, f"credential {CREDENTIAL}", path
    text = _read(node.paths.machine_config)
    return None if text is None else (text, node.paths.machine_config, node.paths.machine_config)


def state_directory(node: Node) -> str | None:
    """Return STATE's mount point if STATE, and nothing else, is mounted there."""
    mount_point = node.settings.volume(STATE).mount_point
    if mount_point is None:
        return None
    expected = os.path.realpath(node.paths.volume_link(STATE))
    return mount_point if node.system.mounted_from(mount_point) == expected else None


def stored_config(directory: str) -> MachineConfig | None:
    """Return STATE's own config, or None where STATE holds none; ConfigError when it is wrong."""
    found = stored_text(directory)
    return None if found is None else parse_config(*found)


def stored_text(directory: str) -> tuple[bytes, str, str] | None:
    """Return STATE's own config as it is, its name and its path; None where STATE holds none."""
    path = os.path.join(directory, STORED_NAME)
    text = _read(path)
    return None if text is None else (text, path, path)


def store_config(directory: str, config: MachineConfig) -> None:
    """Make `config` STATE's own, byte for byte; the one before is kept until the volumes are in sync with this one.

    Cut: the old config or the new one, never a mixture, and perhaps the old one among the previous ones already.
    """
    path = os.path.join(directory, STORED_NAME)
    before = read_file(path)
    if before is not None and before != config.text:
        _keep_previous(directory, before)
    replace_file(path, config.text)


def _keep_previous(directory: str, text: bytes) -> None:
    kept = os.path.join(directory, PREVIOUS_DIRECTORY)
    os.makedirs(kept, mode=0o700, exist_ok=True)
    names = previous_names(directory)
    if names and read_file(os.path.join(kept, names[-1])) == text:
        return
    number = 1 + (int(names[-1].removesuffix(".yaml")) if names else 0)
    replace_file(os.path.join(kept, f"{number:06}.yaml"), text)
    sync_directory(directory)


def previous_configs(directory: str) -> tuple[MachineConfig, ...]:
    """Return the configs that STATE held since the volumes were last in sync, newest first; wrong ones are left out."""
    found = []
    for name in reversed(previous_names(directory)):
        path = os.path.join(directory, PREVIOUS_DIRECTORY, name)
        try:
            text = _read(path)
            if text is not None:
                found.append(parse_config(text, f"previous config {name}", path))
        except ConfigError:
            continue  # it was valid when it was stored; whatever happened to it, the others may still serve
    return tuple(found)


def forget_previous(directory: str, names: tuple[str, ...]) -> None:
    """Remove the previous configs called `names`: those that were there when what came in sync was looked at.

    One that another process has kept since may be all that opens a volume, so it stays. What a cut left half written
    goes, too: it holds passphrases as well. Cut: some are left, and removed later.
    """
    kept = os.path.join(directory, PREVIOUS_DIRECTORY)
    if not os.path.isdir(kept):
        return
    for name in names:
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(kept, name))
    for name in os.listdir(kept):
        if name.endswith(".new"):
            remove_leftover(os.path.join(kept, name))
    remove_leftover(os.path.join(directory, f"{STORED_NAME}.new"))
    sync_directory(kept)


def previous_names(directory: str) -> tuple[str, ...]:
    """Return the names of the previous configs, oldest first."""
    try:
        names = os.listdir(os.path.join(directory, PREVIOUS_DIRECTORY))
    except FileNotFoundError:
        return ()
    return tuple(sorted(name for name in names if name.removesuffix(".yaml").isdecimal() and name.endswith(".yaml")))


def _read(path: str) -> bytes | None:
    try:
        return read_file(path)
    except OSError as error:
        problem = Problem("", f"the config cannot be read: {error.strerror}", file=path)
        raise ConfigError((problem,)) from error


def parse_config(text: bytes, source: str, path: str) -> MachineConfig:
    """Return the config in `text`, read from `path`; ConfigError where it is wrong."""
    # Not at the top: a boot that opens STATE by META alone parses no YAML, and its start is timed.
    from luksctl.config.documents import parse_machine_config  # noqa: PLC0415

    try:
        return parse_machine_config(text, source)
    except ConfigError as error:
        error.hint = error.hint or f"luksctl validate {path}"
        raise


def detached_header(directory: str, volume: str) -> str:
    """Return the file in STATE that has the header of `volume` while it is decrypted in place."""
    return os.path.join(directory, f"decrypting-{volume}.header")


def before_shrinking(directory: str, volume: str) -> str:
    """Return the file in STATE that has what shrinking the filesystem of `volume` overwrites, until that is done."""
    return os.path.join(directory, f"shrinking-{volume}.blocks")


def keeping_on(directory: str, wanted: DesiredVolume) -> DesiredVolume:
    """Return the wish for another volume with the places in STATE for what has to outlast work in place on it."""
    volume = wanted.volume
    return replace(wanted, detached=detached_header(directory, volume), shrinking=before_shrinking(directory, volume))
