"""The typed form of a recovery key: every likely mistake is found, its group is named, and no key is shown."""

from __future__ import annotations

import hashlib
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luksctl.cryptsetup.device import Device
from luksctl.cryptsetup.formatting import FormatParameters
from luksctl.errors import RecoveryKeyMistyped
from luksctl.model.config import CHEAPEST_KDF
from luksctl.providers.recovery_key import decode, encode, make_recovery_key, read_recovery_key
from luksctl.secret import Secret
from luksctl.units import MIB
from tests.house.tree import ROOT
from tests.marker import MARKER, shown_in
from tests.providers.stock import opens

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
KEYS = st.binary(min_size=32, max_size=32)
GROUP = st.integers(1, 13)

VECTORS = {
    bytes(32): "00001-00002-00003-00004-00005-00006-00007-00008-00009-0000a-0000b-0000c-0006k",
    bytes(range(32)): "000gv-40r42-0m300-e209n-185gf-r38ew-1w814-24gkb-2gahk-c5rra-34d1a-p70xe-3rfpw",
    b"\xff" * 32: "zzzzp-zzzzn-zzzzm-zzzzk-zzzzj-zzzzh-zzzzg-zzzzz-zzzzy-zzzzx-zzzzw-zzzzv-zzztb",
}


def content(secret: Secret) -> bytes:
    """Return the bytes of `secret`, and close it."""
    with secret, secret.view() as view:
        return bytes(view)


def text_of(key: bytes) -> str:
    """Return the canonical text of `key`."""
    with Secret.take(key) as entropy:
        return content(encode(entropy)).decode("ascii")


def typed(text: str) -> bytes:
    """Return the 32 bytes that are read from `text`."""
    with Secret.take(text.encode()) as secret:
        return content(decode(secret))


def mistake(text: str) -> RecoveryKeyMistyped:
    """Return how `text` is refused."""
    with Secret.take(text.encode()) as secret, pytest.raises(RecoveryKeyMistyped) as caught:
        read_recovery_key(secret)
    return caught.value


def slowly_encoded(key: bytes) -> str:
    """Return the text as the definition says it: whole numbers, and polynomials divided on paper."""
    number = int.from_bytes(key, "big") << 4 | hashlib.sha256(key).digest()[0] >> 4
    groups = []
    for index in range(13):
        data = number >> 20 * (12 - index) & 0xFFFFF
        rest = data << 5
        for bit in range(24, 4, -1):
            if rest >> bit & 1:
                rest ^= 0b100101 << bit - 5
        whole = data << 5 | rest ^ (index + 1)
        groups.append("".join(ALPHABET[whole >> 5 * (4 - place) & 31] for place in range(5)))
    return "-".join(groups)


@pytest.mark.parametrize("key", VECTORS, ids=lambda key: key.hex()[:8])
def test_known_keys_have_known_texts(key: bytes) -> None:
    """The form of keys that are out can never change."""
    assert text_of(key) == VECTORS[key]
    assert typed(VECTORS[key]) == key


@given(KEYS)
def test_the_text_is_that_of_the_definition(key: bytes) -> None:
    """Checked against the arithmetic of decision 0010, done in another way."""
    assert text_of(key) == slowly_encoded(key)


@given(KEYS)
def test_what_was_encoded_is_read_again(key: bytes) -> None:
    """Thirteen groups of five, in 77 characters."""
    text = text_of(key)
    assert typed(text) == key
    assert [len(group) for group in text.split("-")] == [5] * 13
    assert set(text) <= {*ALPHABET, "-"}


def test_fresh_keys_differ_and_read_as_themselves() -> None:
    """What the keyslot gets is what is shown."""
    first, second = make_recovery_key(), make_recovery_key()
    assert first != second
    assert len(first) == 77
    assert read_recovery_key(first) == first


LOOSE = st.lists(st.sampled_from(["", "", "-", " ", "  ", "\n", "_", "\u2013", "\u00a0", "\u200b"]), min_size=64)


@given(KEYS, LOOSE, st.randoms(use_true_random=False))
def test_reading_is_tolerant(key: bytes, between: list[str], random: Random) -> None:
    """Case, separators anywhere or nowhere, look-alikes: the canonical text comes out."""
    canonical = text_of(key)
    loose = ""
    for number, character in enumerate(canonical.replace("-", "")):
        alike = {"0": "0oO", "1": "1iIlL", "v": "vVuU"}.get(character, character + character.upper())
        loose += random.choice(alike) + (between[number] if number < len(between) else "")
    with Secret.take(f" {loose}\r\n".encode()) as secret:
        assert content(read_recovery_key(secret)).decode() == canonical


@given(KEYS, st.integers(0, 64), st.sampled_from([*ALPHABET, "?", "ä", "€", "\0"]))
def test_one_wrong_character_is_found_in_its_group(key: bytes, place: int, wrong: str) -> None:
    """Always, and wherever the hyphens are; a character that is none of the alphabet's too."""
    right = text_of(key).replace("-", "")
    text = right[:place] + wrong + right[place + 1 :]
    if wrong == right[place]:
        assert typed(text) == key
        return
    error = mistake(text)
    assert error.groups == (place // 5 + 1,)
    assert f"group {place // 5 + 1} " in str(error)


@given(KEYS, GROUP, st.integers(0, 4), st.integers(0, 4))
def test_two_characters_that_changed_places_are_found(key: bytes, group: int, one: int, other: int) -> None:
    """Neighbours or not, in one group."""
    groups = text_of(key).split("-")
    characters = list(groups[group - 1])
    characters[one], characters[other] = characters[other], characters[one]
    if "".join(characters) == groups[group - 1]:
        return
    groups[group - 1] = "".join(characters)
    assert mistake("-".join(groups)).groups == (group,)


@given(KEYS, GROUP, GROUP)
def test_two_groups_that_changed_places_are_both_named(key: bytes, one: int, other: int) -> None:
    """The check knows the number of its group, and the message says what happened."""
    groups = text_of(key).split("-")
    groups[one - 1], groups[other - 1] = groups[other - 1], groups[one - 1]
    if one == other:
        assert typed("-".join(groups)) == key
        return
    error = mistake("-".join(groups))
    assert error.groups == tuple(sorted((one, other)))
    assert "changed places" in str(error)


@given(KEYS, GROUP, GROUP)
def test_several_wrong_groups_are_all_named(key: bytes, one: int, other: int) -> None:
    """Whoever typed two groups wrongly is told both at once."""
    groups = text_of(key).split("-")
    for number in {one, other}:
        group = groups[number - 1]
        groups[number - 1] = ("1" if group[0] == "0" else "0") + group[1:]
    error = mistake("-".join(groups))
    if "changed places" not in str(error):  # each may look like the other's
        assert f"{' and '.join(str(number) for number in sorted({one, other}))} " in str(error)
    assert error.groups == tuple(sorted({one, other}))


@given(KEYS, st.integers(0, 64), st.sampled_from(["", "x7", "0"]))
def test_a_character_missing_or_too_many_is_told_by_its_group(key: bytes, place: int, instead: str) -> None:
    """With hyphens the group that has not five characters is known."""
    groups = text_of(key).split("-")
    group, at = divmod(place, 5)
    old = groups[group]
    groups[group] = old[:at] + (instead if len(instead) != 1 else old[at] + instead) + old[at + 1 :]
    error = mistake("-".join(groups))
    assert error.groups == (group + 1,)
    assert f"group {group + 1} has {len(groups[group])} characters" in str(error)


@given(KEYS, st.integers(0, 64))
def test_without_hyphens_it_says_where_to_look_first(key: bytes, place: int) -> None:
    """What comes before the named group fits, so the missing character is not there, unless by chance."""
    text = text_of(key).replace("-", "")
    error = mistake(text[:place] + text[place + 1 :])
    assert "64 characters instead of 65" in str(error)
    assert error.groups[0] >= place // 5 + 1


@pytest.mark.parametrize(
    ("text", "cause", "groups"),
    [
        (" - ", "nothing was typed", ()),
        ("00001-00002-00003", "15 characters instead of 65; look at group 4 first", (4,)),
        (f"{VECTORS[bytes(32)]}-00000", "70 characters instead of 65; look at group 13 first", (13,)),
        ("00001-0000200003000-00005", "a character is missing or too many in or after group 2", (2,)),
        ("x", "1 characters instead of 65; look at group 1 first", (1,)),
    ],
)
def test_what_is_no_key_at_all_is_refused(text: str, cause: str, groups: tuple[int, ...]) -> None:
    """Nothing, a beginning, and more than all of it."""
    error = mistake(text)
    assert error.cause == cause
    assert error.fields()["groups"] == list(groups)
    assert error.exit_code == 64


def test_groups_of_two_keys_do_not_make_one() -> None:
    """Each group fits, and the four bits over all of them do not."""
    one, other = text_of(bytes(32)).split("-"), text_of(bytes([7] * 32)).split("-")
    error = mistake("-".join([*one[:6], *other[6:]]))
    assert "each group is right by itself" in str(error)
    assert error.groups == ()


def test_a_key_of_another_size_is_a_bug() -> None:
    """Only 32 bytes have this form."""
    with Secret(31) as short, pytest.raises(ValueError, match="32 bytes"):
        encode(short)


@given(st.binary(min_size=1, max_size=200))
def test_whatever_is_typed_is_refused_or_read(garbage: bytes) -> None:
    """Bytes that are no text either; nothing else is ever raised."""
    with Secret.take(garbage) as secret, pytest.raises(RecoveryKeyMistyped):
        decode(secret)


@given(st.integers(0, 64), st.sampled_from(["", "?", "zz", "ü"]))
def test_no_mistake_shows_the_key(place: int, instead: str) -> None:
    """Neither the text, nor a group of it, nor the bytes, in the error, its fields and its causes."""
    text = text_of(MARKER)
    bare = text.replace("-", "")
    for wrong in (bare[:place] + instead + bare[place + 1 :], text[::-1], text.replace("-", "", 1)[1:]):
        error = mistake(wrong)
        shown = f"{error!r} {error} {error.fields()} {error.hint} {error.__cause__!r} {error.__context__!r}"
        assert shown_in(shown) == []
        assert not any(group in shown for group in (*text.split("-"), *wrong.split("-")))


def test_the_stock_tool_opens_with_what_is_on_the_sheet(tmp_path: Path) -> None:
    """`cryptsetup` takes the canonical text as a passphrase, and not the bytes or another spelling."""
    image = tmp_path / "volume.img"
    image.touch()
    with image.open("r+b") as target:
        target.truncate(32 * MIB)
    with make_recovery_key() as key, Secret.random(64) as volume_key, Device.blank(str(image)) as device:
        device.format(FormatParameters(), volume_key)
        device.keyslots.add_by_volume_key(31, key, volume_key, CHEAPEST_KDF)
        with key.view() as view, decode(key) as raw, raw.view() as raw_view:
            text, entropy = bytes(view), bytes(raw_view)
    assert opens(image, text)
    assert not opens(image, text.upper())
    assert not opens(image, text.replace(b"-", b""))
    assert not opens(image, entropy)


def test_the_page_shows_a_key_that_reads() -> None:
    """docs/recovery.md has one of the vectors as its example."""
    page = (ROOT / "docs" / "recovery.md").read_text(encoding="utf-8")
    assert any(f"    {text}\n" in page for text in VECTORS.values())
