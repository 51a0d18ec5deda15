"""The recovery key as people type it: 13 groups of five characters, each group with a check of its own.

What this text is to a keyslot, decision 0010 says; docs/recovery.md shows it to operators.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from luksctl.errors import RecoveryKeyMistyped
from luksctl.hints import Final
from luksctl.providers.recovery_form import (
    ALPHABET,
    CHARACTERS,
    DATA_CHARACTERS,
    GROUP_CHARACTERS,
    GROUPS,
    SYMBOLS,
    TIMES_X5,
    homes_of,
    named,
    sort_out,
)
from luksctl.secret import Secret

_TEXT_BYTES: Final = CHARACTERS + GROUPS - 1
_ENTROPY_BYTES: Final = 32
_HYPHEN: Final = 0x2D


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
            for place in range(DATA_CHARACTERS):
                symbol = next(symbols)
                out[offset + place] = ALPHABET[symbol]
                rest = TIMES_X5[rest ^ symbol]
            out[offset + DATA_CHARACTERS] = ALPHABET[rest ^ (group + 1)]
            if group:
                out[offset - 1] = _HYPHEN
    return text


def decode(typed: Secret) -> Secret:
    """Return the 32 bytes that the text stands for; as `read_recovery_key`."""
    with Secret(len(typed)) as cleaned, cleaned.view() as values:
        with typed.view() as characters:
            runs = sort_out(characters, values)
        if sum(runs) != CHARACTERS:
            raise _of_wrong_length(values, runs)
        homes = homes_of(values, GROUPS)
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
            yield bits >> count & (SYMBOLS - 1)


def _join(values: memoryview, key: memoryview) -> int:
    """Fill `key` with the bits of the groups' data, and return the four that are left."""
    bits = count = position = 0
    for place in range(CHARACTERS):
        if place % GROUP_CHARACTERS == DATA_CHARACTERS:
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


def _mistyped(homes: Sequence[int]) -> RecoveryKeyMistyped:
    wrong = tuple(number for number, home in enumerate(homes, start=1) if home != number)
    if len(wrong) > 1 and sorted(homes[number - 1] for number in wrong) == list(wrong):
        return RecoveryKeyMistyped(
            f"{named(wrong)} have changed places", groups=wrong, hint="type them in the order of the sheet"
        )
    return RecoveryKeyMistyped(
        f"{named(wrong)} {'is' if len(wrong) == 1 else 'are'} mistyped",
        groups=wrong,
        hint="compare with the sheet, and type all of it again",
    )


def _of_wrong_length(values: memoryview, runs: Sequence[int]) -> RecoveryKeyMistyped:
    count = sum(runs)
    if not count:
        return RecoveryKeyMistyped(
            "nothing was typed", hint=f"a recovery key has {GROUPS} groups of {GROUP_CHARACTERS}"
        )
    before = 0
    for run in runs if len(runs) > 1 else ():
        if run % GROUP_CHARACTERS and before < CHARACTERS:
            group = before // GROUP_CHARACTERS + 1
            return RecoveryKeyMistyped(
                f"group {group} has {run} characters instead of {GROUP_CHARACTERS}"
                if run < 2 * GROUP_CHARACTERS
                else f"a character is missing or too many in or after group {group}",
                groups=(group,),
                hint="compare with the sheet, and type all of it again",
            )
        before += run
    homes = homes_of(values, min(count // GROUP_CHARACTERS, GROUPS))
    # The groups that fit are as far as it is right; the next one is where to look.
    fitting = next((number for number, home in enumerate(homes) if home != number + 1), len(homes))
    group = min(fitting + 1, GROUPS)
    return RecoveryKeyMistyped(
        f"{count} characters instead of {CHARACTERS}; look at group {group} first",
        groups=(group,),
        hint="compare with the sheet, and type all of it again",
    )
