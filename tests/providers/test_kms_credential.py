"""What a node shows its KMS, sealed in the TPM where there is one: against a software TPM."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from luksctl.errors import KmsUnavailable, TpmReason, TpmRejected
from luksctl.model.meta import KeptAccess, KmsAccess
from luksctl.providers.kms_credential import keep_access, kept_access
from luksctl.providers.tpm_connection import TpmConnection
from luksctl.secret import Secret
from luksctl.value import replace
from tests.providers.measured_boot import boot
from tests.providers.swtpm import Swtpm


def access() -> KmsAccess:
    """Return an access with both kinds of credential."""
    return KmsAccess(
        roots=("PEM",), certificate="PEM", private_key=Secret.take(b"a key"), token=Secret.take(b"a token")
    )


@pytest.fixture
def tpm() -> Iterator[Swtpm]:
    """Return a TPM after a measured boot."""
    with Swtpm() as running:
        boot(running)
        yield running


def no_tpm() -> TpmConnection:
    return TpmConnection(devices=("/no/tpm",))


def test_the_credential_comes_back_on_this_machine(tpm: Swtpm) -> None:
    """Whatever was booted meanwhile: it is bound to the TPM, and to no PCR."""
    with TpmConnection(tpm.tcti) as connection:
        kept = keep_access(access(), connection)
        assert kept.sealed is not None
        assert not kept.in_clear
        assert kept_access(kept, connection) == access()
    tpm.power_off()
    tpm.power_on()
    with TpmConnection(tpm.tcti) as connection:
        assert kept_access(kept, connection) == access()


def test_another_machine_does_not_get_it(tpm: Swtpm) -> None:
    """Who has the disk alone has no credential."""
    with TpmConnection(tpm.tcti) as connection:
        kept = keep_access(access(), connection)
    with Swtpm() as other, TpmConnection(other.tcti) as connection, pytest.raises(TpmRejected) as caught:
        kept_access(kept, connection)
    assert caught.value.reason is TpmReason.SRK_CHANGED


def test_a_changed_box_is_no_credential(tpm: Swtpm) -> None:
    """Who can write to the disk cannot have the node show something else."""
    with TpmConnection(tpm.tcti) as connection:
        kept = keep_access(access(), connection)
        assert kept.sealed is not None
        box = bytearray(kept.sealed.box)
        box[-1] ^= 1
        changed = replace(kept, sealed=replace(kept.sealed, box=bytes(box)))
        with pytest.raises(KmsUnavailable, match="was changed"):
            kept_access(changed, connection)


def test_without_a_tpm_it_lies_in_clear() -> None:
    """Which validate and status say."""
    kept = keep_access(access(), no_tpm())
    assert kept == KeptAccess(access())
    assert kept.in_clear
    assert kept_access(kept, no_tpm()) == access()


def test_what_is_no_secret_asks_no_tpm() -> None:
    """Endpoints and authorities are for everybody to see."""
    kept = keep_access(KmsAccess(roots=("PEM",)), no_tpm())
    assert (kept.sealed, kept.in_clear) == (None, False)
