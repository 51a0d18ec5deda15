"""Header facts: which copy counts, what marks a volume as unfinished or in re-encryption."""

from __future__ import annotations

import pytest

from luksctl.model.header import (
    SECONDARY_OFFSETS,
    UNFINISHED_MARK,
    Copies,
    HeaderCopies,
    HeaderCopy,
    Keyslot,
    LuksHeader,
    Segment,
    Token,
)
from luksctl.value import replace

SEGMENT = Segment(0, "crypt", "aes-xts-plain64", 512, 16 << 20)
HEADER = LuksHeader(
    uuid="u",
    label="",
    subsystem="",
    seqid=5,
    header_size_bytes=16384,
    keyslots=(Keyslot(3, "argon2id", 4, 32, 1, None, "aes-xts-plain64"),),
    tokens=(Token(31, "luksctl", (3,), "{}"),),
    segments=(SEGMENT,),
    digest_iterations=1000,
    requirements=(),
    flags=(),
    json="{}",
)


def test_keyslots_and_tokens_are_found_by_number() -> None:
    """A number not in use answers None, never a neighbour."""
    assert HEADER.keyslot(3) is HEADER.keyslots[0]
    assert HEADER.keyslot(0) is None
    assert HEADER.token(31) is HEADER.tokens[0]
    assert HEADER.token(3) is None


def test_the_mark_is_the_subsystem_and_never_the_label() -> None:
    """A label anyone may set does not make a volume ours."""
    assert replace(HEADER, subsystem=UNFINISHED_MARK).unfinished_mark
    assert not replace(HEADER, label=UNFINISHED_MARK).unfinished_mark


@pytest.mark.parametrize(
    "header",
    [
        replace(HEADER, requirements=("online-reencrypt-v2",)),
        replace(HEADER, keyslots=(replace(HEADER.keyslots[0], type="reencrypt"),)),
        replace(HEADER, segments=(SEGMENT, replace(SEGMENT, number=1))),
    ],
    ids=["requirement", "keyslot", "segments"],
)
def test_each_trace_of_reencryption_counts(header: LuksHeader) -> None:
    """One of the three traces is enough."""
    assert header.reencrypting
    assert not HEADER.reencrypting


def test_the_newer_valid_copy_is_best() -> None:
    """The sequence id decides, whichever place the copy lies in."""
    older, newer = HeaderCopy(0, HEADER), HeaderCopy(16384, replace(HEADER, seqid=6))
    assert HeaderCopies(Copies.DIFFER, older, newer).best is newer.header
    assert HeaderCopies(Copies.DIFFER, newer, older).best is newer.header


def test_a_damaged_copy_is_never_best() -> None:
    """With one valid copy that one is best; with none there is no answer."""
    damaged = HeaderCopy(0, None, "checksum does not match")
    assert HeaderCopies(Copies.SECOND_ONLY, damaged, HeaderCopy(16384, HEADER)).best is HEADER
    assert HeaderCopies(Copies.DAMAGED, damaged, damaged).best is None
    assert HeaderCopies(Copies.NONE).best is None


def test_second_copies_are_sought_at_all_nine_places() -> None:
    """16 KiB to 4 MiB, doubling (LUKS2 specification 1.1, section 2.1)."""
    assert [offset // 1024 for offset in SECONDARY_OFFSETS] == [16, 32, 64, 128, 256, 512, 1024, 2048, 4096]
