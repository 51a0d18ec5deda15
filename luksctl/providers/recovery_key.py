"""The recovery key as people type it: 13 groups of five characters, each group with a check of its own.

Four characters of a group carry 20 bits of the key, the fifth is their remainder modulo x⁵ + x² + 1, with the group's
number added to it. So one wrong character, two that changed places, and a group in another's place are always found and
the group is known. What this text is to a keyslot, decision 0010 says; docs/recovery.md shows it to operators.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from luksctl.errors import RecoveryKeyMistyped
from luksctl.hints import Final
from luksctl.secret import Secret

GROUPS: Final = 13
GROUP_CHARACTERS: Final = 5
_DATA_CHARACTERS: Final = 4
_CHARACTERS: Final = GROUPS * GROUP_CHARACTERS
_TEXT_BYTES: Final = _CHARACTERS + GROUPS - 1
_ENTROPY_BYTES: Final = 32

# No letter i, l, o or u: they are read as what they look like.
_ALPHABET: Final = b"0123456789abcdefghjkmnpqrstvwxyz"
_LOOK_ALIKES: Final = {"i": "1", "l": "1", "o": "0", "u": "v"}
_HYPHEN: Final = 0x2D
_SEPARATORS: Final = b" \t\r\n\v\f-_.,:"
# What an editor or a printed page makes of blanks and hyphens.
_WIDE_SEPARATORS: Final = tuple(
    mark.encode() for mark in "\u00a0\u00ad\u200b\u202f\u2010\u2011\u2012\u2013\u2014\u2212"
)
_UNKNOWN: Final = 0xFF
_SEPARATOR: Final = 0xFE
_CONTINUATION: Final = range(0x80, 0xC0)

_POLYNOMIAL: Final = 0b100101
_SYMBOLS: Final = 32


def _times_x5(value: int) -> int:
    for _ in range(GROUP_CHARACTERS):
        value <<= 1
        if value & _SYMBOLS:
            value ^= _POLYNOMIAL
    return value


def _reading_table() -> bytes:
    table = bytearray([_UNKNOWN]) * 256
    for value, character in enumerate(_ALPHABET):
        table[character] = table[ord(chr(character).upper())] = value
    for letter, meant in _LOOK_ALIKES.items():
        table[ord(letter)] = table[ord(letter.upper())] = table[ord(meant)]
    for character in _SEPARATORS:
        table[character] = _SEPARATOR
    return bytes(table)


_TIMES_X5: Final = bytes(_times_x5(value) for value in range(_SYMBOLS))
_READING: Final = _reading_table()


def make_recovery_key() -> Secret:
    """Return a fresh key of 256 bits as its canonical text, which is what the keyslot gets."""
    with Secret.random(_ENTROPY_BYTES) as entropy:
        return encode(entropy)


def read_recovery_key(typed: Secret) -> Secret:
    """Return the canonical text of what was typed; RecoveryKeyMistyped names the groups that are wrong.

    Case, blanks, hyphens and their absence do not matter, and look-alikes are read as what they stand for.
    """
    with decode(typed) as entropy:
        return encode(entropy)


def encode(entropy: Secret) -> Secret:
    """Return the canonical text of 32 bytes: lower case, groups of five with hyphens between."""
    if len(entropy) != _ENTROPY_BYTES:
        raise ValueError(f"a recovery key has {_ENTROPY_BYTES} bytes")
    text = Secret(_TEXT_BYTES)
    with entropy.view() as key, text.view() as out:
        symbols = _split(key)
        for group in range(GROUPS):
            offset, rest = group * (GROUP_CHARACTERS + 1), 0
            for place in range(_DATA_CHARACTERS):
                symbol = next(symbols)
                out[offset + place] = _ALPHABET[symbol]
                rest = _TIMES_X5[rest ^ symbol]
            out[offset + _DATA_CHARACTERS] = _ALPHABET[rest ^ (group + 1)]
            if group:
                out[offset - 1] = _HYPHEN
    return text


def decode(typed: Secret) -> Secret:
    """Return the 32 bytes that the text stands for; as `read_recovery_key`."""
    with Secret(len(typed)) as cleaned, cleaned.view() as values:
        with typed.view() as characters:
            runs = _sort_out(characters, values)
        if sum(runs) != _CHARACTERS:
            raise _of_wrong_length(values, runs)
        homes = _homes(values, GROUPS)
        if homes != list(range(1, GROUPS + 1)):
            raise _mistyped(homes)
        entropy = Secret(_ENTROPY_BYTES)
        with entropy.view() as key:
            fits = _join(values, key) == _overall_check(key) >> 4
    if not fits:
        raise RecoveryKeyMistyped(
            "each group is right by itself, but together they are no recovery key",
            hint="groups of two keys may have been mixed; compare all of them",
        )
    return entropy


# ---- bits -----------------------------------------------------------------------------------------------------------


def _split(key: memoryview) -> Iterator[int]:
    """Yield the bits of `key` five at a time; four bits of its hash fill the last."""
    bits = count = 0
    for byte in chain(key, (_overall_check(key),)):
        bits, count = (bits << 8 | byte) & 0xFFF, count + 8
        while count >= GROUP_CHARACTERS:
            count -= GROUP_CHARACTERS
            yield bits >> count & (_SYMBOLS - 1)


def _join(values: memoryview, key: memoryview) -> int:
    """Fill `key` with the bits of the groups' data, and return the four that are left."""
    bits = count = position = 0
    for place in range(_CHARACTERS):
        if place % GROUP_CHARACTERS == _DATA_CHARACTERS:
            continue
        bits, count = (bits << 5 | values[place]) & 0xFFF, count + 5
        if count >= 8:
            count -= 8
            key[position] = bits >> count & 0xFF
            position += 1
    return bits & 0xF


def _overall_check(key: memoryview) -> int:
    """Return the first byte of the key's SHA-256, of which the upper half is in the text."""
    import hashlib  # noqa: PLC0415  # only where a key is made or typed

    return hashlib.sha256(key).digest()[0]


# ---- reading --------------------------------------------------------------------------------------------------------


def _sort_out(characters: memoryview, values: memoryview) -> list[int]:
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


def _homes(values: memoryview, groups: int) -> list[int]:
    """Return for each group which number it would be right at (1 is the first); none of 1 to 13 if it is garbled."""
    found = []
    for start in range(0, groups * GROUP_CHARACTERS, GROUP_CHARACTERS):
        rest, known = 0, True
        for place in range(start, start + _DATA_CHARACTERS):
            known = known and values[place] < _SYMBOLS
            rest = _TIMES_X5[rest ^ values[place]] if known else 0
        check = values[start + _DATA_CHARACTERS]
        found.append(rest ^ check if known and check < _SYMBOLS else 0)
    return found


def _mistyped(homes: Sequence[int]) -> RecoveryKeyMistyped:
    wrong = tuple(number for number, home in enumerate(homes, start=1) if home != number)
    if len(wrong) > 1 and sorted(homes[number - 1] for number in wrong) == list(wrong):
        return RecoveryKeyMistyped(
            f"groups {_listed(wrong)} have changed places", groups=wrong, hint="type them in the order of the sheet"
        )
    what = f"group {wrong[0]} is" if len(wrong) == 1 else f"groups {_listed(wrong)} are"
    return RecoveryKeyMistyped(
        f"{what} mistyped", groups=wrong, hint="compare with the sheet, and type all of it again"
    )


def _of_wrong_length(values: memoryview, runs: Sequence[int]) -> RecoveryKeyMistyped:
    count = sum(runs)
    if not count:
        return RecoveryKeyMistyped(
            "nothing was typed", hint=f"a recovery key has {GROUPS} groups of {GROUP_CHARACTERS}"
        )
    before = 0
    for run in runs if len(runs) > 1 else ():
        if run % GROUP_CHARACTERS and before < _CHARACTERS:
            group = before // GROUP_CHARACTERS + 1
            return RecoveryKeyMistyped(
                f"group {group} has {run} characters instead of {GROUP_CHARACTERS}"
                if run < 2 * GROUP_CHARACTERS
                else f"a character is missing or too many in or after group {group}",
                groups=(group,),
                hint="compare with the sheet, and type all of it again",
            )
        before += run
    homes = _homes(values, min(count // GROUP_CHARACTERS, GROUPS))
    # The groups that fit are as far as it is right; the next one is where to look.
    fitting = next((number for number, home in enumerate(homes) if home != number + 1), len(homes))
    group = min(fitting + 1, GROUPS)
    return RecoveryKeyMistyped(
        f"{count} characters instead of {_CHARACTERS}; look at group {group} first",
        groups=(group,),
        hint="compare with the sheet, and type all of it again",
    )


def _listed(numbers: Sequence[int]) -> str:
    return f"{', '.join(str(number) for number in numbers[:-1])} and {numbers[-1]}"
