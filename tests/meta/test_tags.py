"""Tags as people type and see them."""

from __future__ import annotations

import pytest

from luksctl.errors import UsageError
from luksctl.meta.tags import TAG_NAMES, describe_tag, parse_tag, tag_name
from tests.marker import MARKER, shown_in


@pytest.mark.parametrize(("text", "tag"), [("15", 15), ("0x0f", 15), ("0XE0", 224), ("0o17", 15), ("0b1", 1)])
def test_keys_are_numbers_with_or_without_base(text: str, tag: int) -> None:
    """Decimal, or with a prefix."""
    assert parse_tag(text) == tag


@pytest.mark.parametrize("text", ["", "x", "017", "-1", "0", "256", "0x100", "1.0", "9 9"])
def test_other_keys_are_refused(text: str) -> None:
    """Also 0, which ends the list, and leading zeros, which Talos reads as octal."""
    with pytest.raises(UsageError):
        parse_tag(text)


def test_every_named_tag_has_a_description() -> None:
    """And one that nobody named has its size only."""
    assert tag_name(9) == "STATE encryption config"
    assert tag_name(200) == ""
    for tag in TAG_NAMES:
        assert describe_tag(tag, b"text")
    assert describe_tag(200, MARKER) == f"{len(MARKER)} bytes"


def test_text_is_shown_short_and_printable() -> None:
    """A value cannot steer the terminal."""
    assert describe_tag(12, b"plain") == "plain"
    assert describe_tag(12, b"a\x1b[2Jb\n") == "a·[2Jb·"
    assert describe_tag(12, b"x" * 100) == f"{'x' * 60}… (100 bytes)"


@pytest.mark.parametrize(
    "document",
    [
        b'{"EncryptionKeys":[{"KeySlot":3,"KeyStatic":{"KeyData":"%s"}}]}',
        b'{"encryptionkeys":[{"KeySlot":3,"KEYSTATIC":{"keydata":"%s"}}]}',
        b'{"KeySlot":3,"KeyStatic":"%s"}',
        b'{"KeySlot":3,"Other":[{"KeyData":["%s"]}]}',
    ],
)
def test_a_static_passphrase_is_never_described(document: bytes) -> None:
    """In whichever spelling and place; the rest of the document is shown."""
    shown = describe_tag(9, document % MARKER)
    assert shown_in(shown) == []
    assert "REDACTED" in shown
    assert '"KeySlot":3' in shown


def test_an_encryption_config_that_is_not_json_is_not_quoted() -> None:
    """What cannot be parsed cannot be redacted."""
    assert shown_in(describe_tag(9, b'{"KeyData":"' + MARKER)) == []
    assert "not JSON" in describe_tag(9, b"[" * 200_000)


def test_a_uuid_is_shown_as_a_short_hash() -> None:
    """Tag 15 is half of every nodeID passphrase."""
    uuid = b"4c4c4544-0042-3510-8051-b4c04f4e5731"
    shown = describe_tag(15, uuid)
    assert "sha256" in shown
    assert shown_in(shown, uuid) == []
    assert describe_tag(15, b"") == "empty: no override"
