"""META's tag 0xE1: how the KMS of STATE is reached before STATE is open."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luksctl.errors import MetaError
from luksctl.meta import kms_access
from luksctl.meta.store import AdvStore
from luksctl.model.config import ConfiguredKey, KmsKey, VolumeEncryption
from luksctl.model.meta import TAG_KMS_ACCESS, KeptAccess, KmsAccess, SealedCredential
from luksctl.secret import Secret

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SECRETS = st.none() | st.binary(min_size=1, max_size=40).map(Secret.take)
ACCESSES = st.builds(
    KmsAccess,
    alternatives=st.lists(st.tuples(TEXTS, st.lists(TEXTS, max_size=3).map(tuple)), max_size=3).map(tuple),
    roots=st.lists(TEXTS, max_size=3).map(tuple),
    certificate=st.none() | TEXTS,
    private_key=SECRETS,
    token=SECRETS,
    allow_plaintext=st.booleans(),
    note=st.none() | TEXTS,
    clock_wait_s=st.floats(0, 3600),
)
SEALED = SealedCredential(b"private", b"public", b"name", b"box")


@given(ACCESSES)
def test_what_was_written_is_read(access: KmsAccess) -> None:
    """Credentials in clear as well."""
    assert kms_access.decode(kms_access.encode(KeptAccess(access))) == KeptAccess(access)


def test_a_sealed_credential_is_kept_as_it_is() -> None:
    """Nothing of it lies beside in clear."""
    kept = KeptAccess(KmsAccess(certificate="PEM"), SEALED)
    value = kms_access.encode(kept)
    assert kms_access.decode(value) == kept
    assert set(json.loads(value)["credential"]) == {"tpm", "box"}


def test_a_wait_that_an_earlier_luksctl_did_not_write_is_the_usual_one() -> None:
    """META is older than the field on most nodes."""
    document = json.loads(kms_access.encode(KeptAccess(KmsAccess(clock_wait_s=7))))
    del document["clockWaitSeconds"]
    assert kms_access.decode(json.dumps(document).encode()).access == KmsAccess()


def test_the_fields_are_those_that_are_documented() -> None:
    """docs/meta.md lists them."""
    access = KmsAccess((("https://a", ("https://b",)),), ("PEM",), token=Secret.take(b"token"), note="VLAN 7")
    assert json.loads(kms_access.encode(KeptAccess(access))) == {
        "version": 1,
        "endpoints": [{"endpoint": "https://a", "also": ["https://b"]}],
        "allowPlaintext": False,
        "network": "VLAN 7",
        "clockWaitSeconds": 120.0,
        "roots": ["PEM"],
        "clientCertificate": None,
        "credential": {"clientKey": None, "token": "token"},
    }


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"version":2}',
        b'{"version":1}',
        b"\xff",
        b"[" * 100_000,
        kms_access.encode(KeptAccess(KmsAccess())).replace(b'"roots":[]', b'"roots":[1]'),
        kms_access.encode(KeptAccess(KmsAccess())).replace(b'"endpoints":[]', b'"endpoints":{}'),
        kms_access.encode(KeptAccess(KmsAccess(), SEALED)).replace(b"Ym94", b"?"),
    ],
)
def test_what_luksctl_did_not_write_is_damaged(value: bytes) -> None:
    """Nothing of it is believed."""
    with pytest.raises(MetaError, match="0xe1"):
        kms_access.decode(value)


def test_meta_has_only_so_much_room() -> None:
    """A whole bundle of authorities would leave none for the keys of STATE."""
    with pytest.raises(MetaError, match="is reached need"):
        kms_access.encode(KeptAccess(KmsAccess(roots=("x" * kms_access.LONGEST_BYTES,))))


def test_a_damaged_tag_spoils_nothing_else(tmp_path: Path) -> None:
    """META stays readable, and says what is wrong with this tag."""
    path = str(tmp_path / "META")
    store = AdvStore(path, f"{path}.lock", create=True)
    store.write_kms_access(KeptAccess(KmsAccess(note="VLAN 7")))
    assert store.load().kms_access == KeptAccess(KmsAccess(note="VLAN 7"))
    store.write_tag(TAG_KMS_ACCESS, b"{}")
    facts = store.load()
    assert facts.readable
    assert facts.kms_access is None
    assert "damaged" in str(facts.kms_access_problem)
    store.write_kms_access(None)
    assert TAG_KMS_ACCESS not in store.list_tags()
    store.write_kms_access(None)


def test_it_goes_with_the_keys_of_state(tmp_path: Path) -> None:
    """A STATE that is erased or made plain has no KMS, and a credential no business on the disk."""
    path = str(tmp_path / "META")
    store = AdvStore(path, f"{path}.lock", create=True)
    store.write_state_encryption(VolumeEncryption((ConfiguredKey(0, KmsKey("https://kms")),)))
    store.write_kms_access(KeptAccess(KmsAccess(token=Secret.take(b"token"))))
    store.write_state_encryption(None)
    assert store.list_tags() == {}
