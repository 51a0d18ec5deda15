"""What recovery keys are written with: the alphabet, how people spell it, and the check of a group.

Four characters of a group carry 20 bits of the key, the fifth is their remainder modulo x⁵ + x² + 1, with the group's
number added to it. So one wrong character, two that changed places, and a group in another's place are always found and
the group is known.
"""

from __future__ import annotations

from collections.abc import Sequence

from luksctl.hints import Final

GROUPS: Final = 13
GROUP_CHARACTERS: Final = 5
DATA_CHARACTERS: Final = 4
CHARACTERS: Final = GROUPS * GROUP_CHARACTERS
SYMBOLS: Final = 32

# No letter i, l, o or u: they are read as what they look like.
ALPHABET: Final = b"0123456789abcdefghjkmnpqrstvwxyz"
_LOOK_ALIKES: Final = {"i": "1", "l": "1", "o": "0", "u": "v"}
_SEPARATORS: Final = b" \t\r\n\v\f-_.,:"
# What an editor or a printed page makes of blanks and hyphens.
_WIDE_SEPARATORS: Final = tuple(
    mark.encode() for mark in "\u00a0\u00ad\u200b\u202f\u2010\u2011\u2012\u2013\u2014\u2212"
)
_UNKNOWN: Final = 0xFF
_SEPARATOR: Final = 0xFE
_CONTINUATION: Final = range(0x80, 0xC0)

_POLYNOMIAL: Final = 0b100101


def _times_x5(value: int) -> int:
    for _ in range(GROUP_CHARACTERS):
        value <<= 1
        if value & SYMBOLS:
            value ^= _POLYNOMIAL
    return value


def _reading_table() -> bytes:
    table = bytearray([_UNKNOWN]) * 256
    for value, character in enumerate(ALPHABET):
        table[character] = table[ord(chr(character).upper())] = value
    for letter, meant in _LOOK_ALIKES.items():
        table[ord(letter)] = table[ord(letter.upper())] = table[ord(meant)]
    for character in _SEPARATORS:
        table[character] = _SEPARATOR
    return bytes(table)


TIMES_X5: Final = bytes(_times_x5(value) for value in range(SYMBOLS))
_READING: Final = _reading_table()


def named(numbers: Sequence[int]) -> str:
    """Return what errors call these groups."""
    if len(numbers) == 1:
        return f"group {numbers[0]}"
    return f"groups {', '.join(str(number) for number in numbers[:-1])} and {numbers[-1]}"


def sort_out(characters: memoryview, values: memoryview) -> list[int]:
    """Write the value of each character to `values`, and return how many stand between separators, run by run."""
    runs, run, position, count = [], 0, 0, 0
    while position < len(characters):
        wide = next((mark for mark in _WIDE_SEPARATORS if characters[position : position + len(mark)] == mark), b"")
        value = _SEPARATOR if wide else _READING[characters[position]]
        if value != _SEPARATOR:
            values[count] = value
            count, run = count + 1, run + 1
        elif run:
            runs.append(run)
            run = 0
        position += len(wide) or 1
        # One character that is none of ours counts once, however many bytes it has.
        while value == _UNKNOWN and position < len(characters) and characters[position] in _CONTINUATION:
            position += 1
    return [*runs, run] if run else runs


def homes_of(values: memoryview, groups: int) -> list[int]:
    """Return for each group which number it would be right at (1 is the first); none of 1 to 13 if it is garbled."""
    found = []
    for start in range(0, groups * GROUP_CHARACTERS, GROUP_CHARACTERS):
        rest, known = 0, True
        for place in range(start, start + DATA_CHARACTERS):
            known = known and values[place] < SYMBOLS
            rest = TIMES_X5[rest ^ values[place]] if known else 0
        check = values[start + DATA_CHARACTERS]
        found.append(rest ^ check if known and check < SYMBOLS else 0)
    return found
