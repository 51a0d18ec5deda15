"""What is counted before keyslots are added; that it is what libcryptsetup writes is tried on real headers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from luksctl.model.bookkeeping import Bookkeeping
from luksctl.model.config import (
    ConfiguredKey,
    EncryptionPolicy,
    KdfCost,
    KeySource,
    KmsKey,
    NodeIdKey,
    TpmKey,
    VolumeEncryption,
)
from luksctl.model.header import LuksHeader
from luksctl.model.json_budget import budget_of_format, budget_of_sync

POLICY = EncryptionPolicy()
SOURCES: st.SearchStrategy[KeySource] = st.sampled_from([NodeIdKey(), KmsKey("kms.example:4050"), TpmKey()])


@st.composite
def encryptions(draw: st.DrawFn) -> VolumeEncryption:
    """Draw one to 30 keys."""
    sources = draw(st.lists(SOURCES, min_size=1, max_size=30))
    return VolumeEncryption(tuple(ConfiguredKey(slot, source) for slot, source in enumerate(sources)))


@given(encryptions())
def test_every_further_key_needs_more(encryption: VolumeEncryption) -> None:
    """A config with one key less never needs more room."""
    fewer = VolumeEncryption(encryption.keys[:-1])
    assert budget_of_format(fewer, POLICY).needed_bytes < budget_of_format(encryption, POLICY).needed_bytes


@given(encryptions())
def test_what_talos_need_not_read_holds_thirty_of_any_kind(encryption: VolumeEncryption) -> None:
    """With 64 KiB of metadata every config with bookkeeping fits, whatever its keys cost."""
    large = EncryptionPolicy(kdf=KdfCost(4096, 4 << 20, 4), talos_readable=False)
    assert budget_of_format(encryption, large).fits


@given(encryptions())
def test_adding_nothing_still_counts_the_bookkeeping_and_a_spare(encryption: VolumeEncryption) -> None:
    """A header that is there needs room for a change, even where no slot is missing."""
    found = LuksHeader("", "", "", 3, 0x4000, (), (), (), 1000, (), (), '{"keyslots":{}}')
    without = budget_of_sync(found, Bookkeeping(), encryption, (), POLICY)
    assert without.needed_bytes > len(found.json)
    assert budget_of_sync(found, Bookkeeping(), encryption, encryption.keys, POLICY).needed_bytes > without.needed_bytes
