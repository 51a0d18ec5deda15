"""A key that is typed bit by bit: right groups stay, wrong ones are asked for again, in the end it is the key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luksctl.errors import RecoveryKeyMistyped
from luksctl.providers.recovery_key import encode
from luksctl.providers.typed_key import TypedKey
from luksctl.secret import Secret
from tests.marker import MARKER, shown_in


def text_of(key: bytes) -> str:
    """Return the canonical text of `key`."""
    with Secret.take(key) as entropy, encode(entropy) as text, text.view() as view:
        return str(view, "ascii")


GROUPS = text_of(bytes(range(32))).split("-")
OTHER = text_of(bytes([9] * 32)).split("-")


def take(growing: TypedKey, text: str) -> str | None:
    """Type `text`; return what is wrong with it, if anything is."""
    with Secret.take(text.encode()) as typed:
        try:
            growing.take(typed)
        except RecoveryKeyMistyped as error:
            return error.cause
    return None


def finished(growing: TypedKey) -> str:
    """Return the key."""
    with growing.finish() as text, text.view() as view:
        return str(view, "ascii")


@given(st.lists(st.integers(1, 5)))
def test_groups_may_come_in_any_portions(sizes: list[int]) -> None:
    """One, several or all at once, with or without hyphens."""
    with TypedKey() as growing:
        for size in [*sizes, 13]:
            if growing.missing:
                first = growing.missing[0] - 1
                assert take(growing, "".join(GROUPS[first : first + min(size, 13 - first)])) is None
        assert growing.missing == ()
        assert finished(growing) == "-".join(GROUPS)


@given(st.sets(st.integers(1, 13), min_size=1), st.sampled_from("?0z"))
def test_only_wrong_groups_are_asked_for_again(wrong: set[int], instead: str) -> None:
    """All of it at once with mistakes: each is named, and what was right stays."""
    typed = [f"{instead}{group[1:]}" if number in wrong else group for number, group in enumerate(GROUPS, start=1)]
    truly = tuple(number for number in range(1, 14) if typed[number - 1] != GROUPS[number - 1])
    with TypedKey() as growing:
        cause = take(growing, "-".join(typed))
        assert growing.missing == truly
        assert (cause is None) == (not truly)
        for number in truly:
            assert f"{number}" in str(cause)
            assert growing.missing[0] == number
            assert take(growing, GROUPS[number - 1]) is None
        assert finished(growing) == "-".join(GROUPS)


@pytest.mark.parametrize(
    ("text", "cause", "missing"),
    [
        ("\n", "nothing was typed", 13),
        ("000g", "group 1 is mistyped", 13),
        (f"{GROUPS[0]}-{GROUPS[1]}-{GROUPS[2][:4]}", "group 3 is mistyped", 11),
        (f"{GROUPS[0]}{GROUPS[1][1:]}{GROUPS[2]}", "group 2 is mistyped", 12),
        (GROUPS[1], "group 1 is mistyped", 13),
        (f"{''.join(GROUPS)}abc", "more was typed than was missing", 0),
    ],
)
def test_parts_count_as_far_as_they_are_right(text: str, cause: str, missing: int) -> None:
    """A missing character spoils what follows it, not what came before."""
    with TypedKey() as growing:
        assert take(growing, text) == cause
        assert len(growing.missing) == missing


def test_groups_of_two_keys_start_from_nothing() -> None:
    """Each is right by itself, so nobody knows which to ask for again."""
    with TypedKey() as growing:
        assert take(growing, "".join([*GROUPS[:5], *OTHER[5:]])) is None
        with pytest.raises(RecoveryKeyMistyped, match="together they are no recovery key"):
            growing.finish()
        assert len(growing.missing) == 13
        assert take(growing, "".join(OTHER)) is None
        assert finished(growing) == "-".join(OTHER)


def test_it_is_not_finished_early() -> None:
    """A key with groups missing is a bug of who asks for it."""
    with TypedKey() as growing, pytest.raises(ValueError, match="missing"):
        growing.finish()


def test_nothing_is_shown() -> None:
    """Neither by the object nor by its errors."""
    text = text_of(MARKER)
    with TypedKey() as growing:
        assert take(growing, text[:-1]) == "group 13 is mistyped"
        assert shown_in(repr(growing), text.encode()) == []
        assert not any(group in repr(growing) for group in text.split("-"))
