"""How the KMS of STATE is reached, as META keeps it: the old way or the new one, whatever a cut leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from luksctl.model.meta import KeptAccess, KmsAccess, MetaState, SealedCredential
from luksctl.secret import Secret
from tests.reconcile.images import Node
from tests.reconcile.providers import encrypted, static
from tests.reconcile.rotations import OLD
from tests.reconcile.stage import Stage

KEYS: Final = encrypted(static(0, OLD))
_ENDPOINT: Final = "https://kms.example.com:4050"
_FIRST_ROOT, _OTHER_ROOT = (
    f"-----BEGIN CERTIFICATE-----\n{letter * 1200}\n-----END CERTIFICATE-----\n" for letter in "AB"
)


def _in_clear() -> KeptAccess:
    """Return what a node without a TPM keeps: a short way, with its credential."""
    return KeptAccess(KmsAccess(roots=(_FIRST_ROOT,), token=Secret.take(b"a token for tests")))


def _sealed() -> KeptAccess:
    """Return what it keeps once it has a TPM, a second endpoint and another authority: longer, and other bytes."""
    ways = ((_ENDPOINT, ("https://kms-b.example.com:4050",)),)
    access = KmsAccess(alternatives=ways, roots=(_FIRST_ROOT, _OTHER_ROOT), certificate=_OTHER_ROOT, note="bond0")
    return KeptAccess(access, SealedCredential(b"private", b"public", b"name", b"x" * 300))


def kept(directory: Path) -> None:
    """Make a node whose META keeps the first way."""
    Stage(directory).node(KEYS).ports.meta.write_kms_access(_in_clear())


def follow(directory: Path) -> None:
    """Have META keep the second one."""
    Node(directory).ports.meta.write_kms_access(_sealed())


def forget(directory: Path) -> None:
    """Have META keep none."""
    Node(directory).ports.meta.write_kms_access(None)


def next_boot(directory: Path) -> None:
    """Raise unless META has one of the ways, whole, beside STATE's keys; then have it follow."""
    _expect(directory, (_in_clear(), _sealed()))
    follow(directory)
    _expect(directory, (_sealed(),))


def next_boot_without(directory: Path) -> None:
    """Raise unless META has the first way or none, and STATE's keys; then have it forget."""
    _expect(directory, (_in_clear(), None))
    forget(directory)
    _expect(directory, (None,))


def _expect(directory: Path, ways: tuple[KeptAccess | None, ...]) -> None:
    facts = Node(directory).facts()
    if facts.state is MetaState.UNREADABLE or facts.kms_access_problem is not None or facts.kms_access not in ways:
        raise AssertionError(f"META is {facts.state}, and keeps no way to the KMS that it was given")
    if facts.state_encryption != KEYS:
        raise AssertionError(f"META names {facts.state_encryption}")
