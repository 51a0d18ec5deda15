"""The salt file is written as Talos writes it, read however YAML can write it, and refused when it is torn."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luksctl.config.salt import SALT_BYTES, parse_salt, salt_text
from luksctl.errors import ConfigError
from luksctl.secret import Secret

NUMBERS = bytes(range(200, 232))


def _content(salt: Secret) -> bytes:
    with salt, salt.view() as view:
        return bytes(view)


def test_the_file_is_byte_for_byte_that_of_talos() -> None:
    """One field, and a list with four spaces in front of each dash."""
    text = salt_text(Secret.take(bytes([0, 7, 255]) + bytes(29)))
    lines = text.decode().split("\n")
    assert lines[:4] == ["diskSalt:", "    - 0", "    - 7", "    - 255"]
    assert len(lines) == 1 + SALT_BYTES + 1
    assert lines[-1] == ""


@given(st.binary(min_size=SALT_BYTES, max_size=SALT_BYTES))
def test_what_is_written_is_read(numbers: bytes) -> None:
    """Every salt comes back as it was."""
    assert _content(parse_salt(salt_text(Secret.take(numbers)), "salt")) == numbers


@pytest.mark.parametrize(
    "text",
    [
        f"diskSalt: {list(NUMBERS)}",
        f'{{"diskSalt": {list(NUMBERS)}}}',
        "diskSalt:\n" + "".join(f"- {number}\n" for number in NUMBERS),
        "# restored\n---\ndiskSalt:\n" + "".join(f"  - 0x{number:x}\r\n" for number in NUMBERS),
        f"diskSalt: {list(NUMBERS)}\nmore: fields\n",
    ],
)
def test_other_ways_to_write_the_list(text: str) -> None:
    """A file that somebody restored by hand need not look like Talos' own."""
    assert _content(parse_salt(text.encode(), "salt")) == NUMBERS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "not one YAML mapping"),
        (bytes(200), "control character"),
        (b"\xff\xfe", "not UTF-8"),
        (b"- 1\n- 2\n", "not one YAML mapping"),
        (b"diskSalt:\n", "0 numbers, and a salt has 32"),
        (salt_text(Secret.take(NUMBERS))[:60], "numbers, and a salt has 32"),
        (salt_text(Secret.take(NUMBERS)) + b"    - 231\n", "33 numbers"),
        (salt_text(Secret.take(NUMBERS)).replace(b"231", b"256"), "outside 0-255"),
        (salt_text(Secret.take(NUMBERS)).replace(b"231", b"-1"), "outside 0-255"),
        (salt_text(Secret.take(NUMBERS)).replace(b"231", b"x"), "must be a whole number"),
        (b"diskSalt: yMnKy8zNzs/Q0dLT1NXW19jZ2tvc3d7f4OHi4+Tl5uc=\n", "must be a list"),
    ],
)
def test_a_torn_file_is_no_salt(text: bytes, message: str) -> None:
    """Talos may leave an empty or partial one behind; it must not pass for a shorter salt."""
    with pytest.raises(ConfigError, match=message) as caught:
        parse_salt(text, "encryption-salt.yaml")
    assert caught.value.problems[0].file == "encryption-salt.yaml"
    assert "200" not in str(caught.value)
