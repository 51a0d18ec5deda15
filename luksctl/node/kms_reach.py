"""How this node reaches its KMS: by the files that its config names, before STATE is open by what META keeps of them.

META follows a new config only after a KMS was reached by it and gave a key that opens STATE: what the last boot came up
with is not given up for what nobody tried.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from luksctl.errors import KeyRejected, KmsReason, KmsUnavailable, LuksctlError
from luksctl.hints import TypeVar
from luksctl.model.config import (
    STATE,
    ConfiguredKey,
    EncryptionPolicy,
    KeyKind,
    KmsPolicy,
    MachineConfig,
    VolumeEncryption,
)
from luksctl.model.desired import DesiredVolume
from luksctl.model.meta import KeptAccess, KmsAccess, MetaFacts
from luksctl.model.observed import Luks2
from luksctl.node.node import Node
from luksctl.providers.deadline import Deadline
from luksctl.providers.kms_connection import KmsConnection
from luksctl.providers.kms_credential import keep_access, kept_access
from luksctl.providers.kms_files import read_access
from luksctl.providers.kms_run import KmsRun
from luksctl.providers.smbios import SmbiosUuid
from luksctl.providers.tpm_connection import TpmConnection
from luksctl.reconcile.converge import look
from luksctl.reconcile.keys import try_key

Result = TypeVar("Result")


def kms_run(node: Node, latest: Callable[[], MetaFacts]) -> KmsRun:
    """Return the KMS of a run; `latest` gives what META said last."""
    return KmsRun(
        lambda: latest().uuid_override or SmbiosUuid()(),
        partial(_access, node, latest),
        node.tell,
        connect=partial(KmsConnection, run_dir=node.paths.run_dir, clock_awaited=node.system.clock_awaited),
    )


def _access(node: Node, latest: Callable[[], MetaFacts], policy: KmsPolicy) -> KmsAccess:
    kept = latest().kms_access
    if policy.from_meta:
        return KmsAccess() if kept is None else _opened(kept)
    try:
        return read_access(policy)
    except KmsUnavailable as error:
        if error.reason is not KmsReason.NO_FILE or kept is None:
            raise
        node.tell(f"{error.cause}; the KMS is asked by what META keeps")
        return _opened(kept)


def _opened(kept: KeptAccess) -> KmsAccess:
    with TpmConnection() as connection:
        return kept_access(kept, connection)


# ---- META follows ---------------------------------------------------------------------------------------------------


def prepare_access(node: Node, config: MachineConfig) -> None:
    """Have META keep how the KMS is reached before STATE is formatted with keys of it, whatever it kept before.

    Then no cut leaves a STATE that only a KMS opens, and nobody who knows how to reach it. What keeps it from that is
    told: STATE may well open without. Cut: kept or not, and STATE not touched.
    """
    facts = node.ports.meta.load()
    if not _kms_keys(config.encryption_of(STATE)) or facts.has_tag9:
        return  # there is a STATE already, and what META keeps follows its own config
    try:
        if not _is_kept(config.policy.kms, facts):
            _keep(node, config.policy.kms)
    except LuksctlError as error:
        node.tell(f"META does not keep how the KMS is reached: {error}")


def follow_access(node: Node, config: MachineConfig) -> str | None:
    """Have META keep how `config` reaches the KMS of STATE, once that opened STATE; None, or why it does not.

    Cut: what META kept before, or the new.
    """
    facts = node.ports.meta.load()
    keys = _kms_keys(config.encryption_of(STATE))
    try:
        if not keys:
            # While META names a kms key, it may be all that opens STATE.
            if facts.kms_access is not None and not _kms_keys(facts.state_encryption):
                node.ports.meta.write_kms_access(None)
            return None
        if _is_kept(config.policy.kms, facts):
            return None
        if _kms_keys(facts.state_encryption):
            _prove(node, config.policy, keys)
        _keep(node, config.policy.kms)
    except LuksctlError as error:
        return f"META keeps how the KMS was reached before, and not by this config: {error.cause}"
    return None


def _kms_keys(encryption: VolumeEncryption | None) -> tuple[ConfiguredKey, ...]:
    return () if encryption is None else tuple(key for key in encryption.keys if key.kind is KeyKind.KMS)


def _is_kept(policy: KmsPolicy, facts: MetaFacts) -> bool:
    wanted, kept = read_access(policy), facts.kms_access
    if kept is None:
        return facts.kms_access_problem is None and wanted == KmsAccess()
    if wanted.has_credential != (kept.in_clear or kept.sealed is not None):
        return False
    try:
        return _in_time(lambda: _opened(kept)) == wanted
    except KeyRejected:
        return False  # another TPM, or a damaged box: nobody gets at it any more


def _keep(node: Node, policy: KmsPolicy) -> None:
    def sealed() -> KeptAccess:
        with TpmConnection() as connection:
            return keep_access(read_access(policy), connection)

    node.ports.meta.write_kms_access(_in_time(sealed))


def _in_time(work: Callable[[], Result]) -> Result:
    return Deadline("the TPM").run(work, lambda _: None)


def _prove(node: Node, policy: EncryptionPolicy, keys: tuple[ConfiguredKey, ...]) -> None:
    """Open a slot of STATE with a key that the KMS gives by `policy` now; raises what the last of `keys` raised."""
    unknown = DesiredVolume(STATE, None, EncryptionPolicy())
    observed = look(unknown, node.settings.volume(STATE), node.ports).observed
    if not isinstance(observed, Luks2):
        raise KmsUnavailable("STATE has no keyslots to try it with")
    failure: LuksctlError | None = None
    for key in keys:
        token = observed.header.token(key.slot)
        try:
            try_key(
                STATE,
                key,
                None if token is None else token.json,
                node.ports.under(policy).provider(key),
                partial(node.ports.headers.test_key, observed.device, key.slot),
            )
        except LuksctlError as error:
            failure = error
        else:
            return
    if failure is not None:
        raise failure
