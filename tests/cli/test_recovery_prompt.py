"""Typing a recovery key at a terminal: group by group, again where it is wrong, never on the screen."""

from __future__ import annotations

import os
import termios

import pytest

from luksctl.cli.recovery_prompt import ask_recovery_key
from luksctl.errors import RecoveryKeyMistyped, UsageError
from luksctl.providers.recovery_key import encode
from luksctl.secret import Secret
from tests.cli.terminals import Typist
from tests.marker import MARKER


def text_of(key: bytes) -> bytes:
    """Return the canonical text of `key`."""
    with Secret.take(key) as entropy, encode(entropy) as text, text.view() as view:
        return bytes(view)


TEXT = text_of(MARKER)
GROUPS = TEXT.split(b"-")
OTHER = text_of(bytes(32)).split(b"-")

NIGHTS = {
    "all at once": ([TEXT.upper()], []),
    "group by group": (GROUPS, [b"Group 2 of 13: ", b"Group 13 of 13: "]),
    "one group wrong": (
        [TEXT.replace(GROUPS[6], b"?" * 5), GROUPS[6]],
        [b"group 7 is mistyped\r\n", b"Group 7 of 13: "],
    ),
    "a character missing": (
        [TEXT.replace(GROUPS[3], GROUPS[3][1:]), b"".join(GROUPS[3:])],
        [b"group 4 is mistyped\r\n", b"Group 4 of 13: "],
    ),
    "an empty line": ([b"", *GROUPS[:2], b"", b"".join(GROUPS[2:])], [b"nothing was typed"]),
    "two sheets mixed": (
        [b"".join([*OTHER[:4], *GROUPS[4:]]), TEXT],
        [b"together they are no recovery key\r\nRecovery key, all of it or group by group: "],
    ),
}


@pytest.mark.parametrize("night", list(NIGHTS))
def test_it_is_asked_for_until_it_is_right(terminal: tuple[int, str], night: str) -> None:
    """What was right is kept; the screen shows the groups' numbers and no group."""
    person, name = terminal
    lines, shown = NIGHTS[night]
    before = termios.tcgetattr(person)
    typist = Typist(person, [line + b"\n" for line in lines])
    typist.start()
    with ask_recovery_key(None, terminal=name) as key, key.view() as view:
        assert bytes(view) == TEXT
    assert termios.tcgetattr(person) == before
    screen = typist.whole_screen()
    assert all(part in screen for part in shown)
    assert not any(group.lower() in screen.lower() for group in GROUPS)


def test_the_end_of_input_ends_it(terminal: tuple[int, str]) -> None:
    """Ctrl-D after some groups: 64, and the terminal is as it was."""
    person, name = terminal
    before = termios.tcgetattr(person)
    typist = Typist(person, [GROUPS[0] + b"\n", b"\x04"])
    typist.start()
    with pytest.raises(UsageError, match="the recovery key is empty"):
        ask_recovery_key(None, terminal=name)
    typist.whole_screen()
    assert termios.tcgetattr(person) == before


def _piped(data: bytes) -> Secret:
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    try:
        return ask_recovery_key(reading)
    finally:
        os.close(reading)


def test_a_descriptor_gives_all_of_it() -> None:
    """Read as tolerantly, and refused where it is wrong: nobody can be asked again."""
    with _piped(TEXT.upper().replace(b"-", b" ") + b"\n") as key, key.view() as view:
        assert bytes(view) == TEXT
    with pytest.raises(RecoveryKeyMistyped) as caught:
        _piped(TEXT.replace(GROUPS[9], b"aaaaa"))
    assert caught.value.groups == (10,)
