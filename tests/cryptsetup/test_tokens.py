"""Tokens are written whole, read back as text, and refused when they do not fit."""

from __future__ import annotations

import json

import pytest

from luksctl.cryptsetup.device import Device
from luksctl.cryptsetup.tokens import TokenStatus
from luksctl.errors import CryptsetupError
from luksctl.model.config import CHEAPEST_KDF
from luksctl.secret import Secret

_TOKEN = '{"type":"luksctl-test","keyslots":["0"],"key":"a/b"}'


def test_token_reads_back_after_a_reload(volume: str) -> None:
    """A token keeps its number, its text and its keyslots."""
    with Device.open(volume) as device:
        assert device.tokens.set(31, _TOKEN) == 31
    with Device.open(volume) as device:
        assert json.loads(device.tokens.get(31)) == json.loads(_TOKEN)
        assert device.tokens.numbers() == (31,)
        assert device.tokens.keyslots(31) == (0,)
        assert device.tokens.status(31) is TokenStatus.EXTERNAL_UNKNOWN
        assert device.tokens.count_limit() == 32


def test_token_without_a_number_takes_the_first_free_one(volume: str) -> None:
    """Two tokens without a number get 0 and 1, and replacing one leaves the other."""
    with Device.open(volume) as device:
        assert [device.tokens.set(None, _TOKEN) for _ in range(2)] == [0, 1]
        device.tokens.set(0, '{"type":"other","keyslots":[]}')
        assert device.tokens.keyslots(0) == ()
        assert device.tokens.keyslots(1) == (0,)


def test_token_assignment_follows(volume: str, other_key: Secret, volume_key: Secret) -> None:
    """A token is assigned to another keyslot, and taken off one."""
    with Device.open(volume) as device:
        device.keyslots.add_by_volume_key(3, other_key, volume_key, CHEAPEST_KDF)
        device.tokens.set(3, _TOKEN)
        device.tokens.assign(3, 3)
        device.tokens.unassign(3, 0)
        assert device.tokens.keyslots(3) == (3,)


def test_removed_token_is_gone(volume: str) -> None:
    """A removed token cannot be read."""
    with Device.open(volume) as device:
        device.tokens.set(2, _TOKEN)
        device.tokens.remove(2)
        assert device.tokens.status(2) is TokenStatus.INACTIVE
        with pytest.raises(CryptsetupError):
            device.tokens.get(2)


@pytest.mark.parametrize("text", ["not json", "[]", "{}", '{"type":"x"}', '{"type":"x","keyslots":["9"]}'])
def test_bad_token_is_refused(volume: str, text: str) -> None:
    """What is no token, or names a keyslot that is not there, is refused and nothing is written."""
    with Device.open(volume) as device, pytest.raises(CryptsetupError):
        device.tokens.set(0, text)
    with Device.open(volume) as device:
        assert device.tokens.numbers() == ()


def test_full_metadata_area_is_named(volume: str) -> None:
    """A token too large for the area is ENOSPC with a hint, and the header stays as it was."""
    large = json.dumps({"type": "x", "keyslots": [], "fill": "x" * 13000})
    with Device.open(volume) as device, pytest.raises(CryptsetupError, match="ENOSPC") as caught:
        device.tokens.set(0, large)
    assert caught.value.hint
    with Device.open(volume) as device:
        assert device.tokens.numbers() == ()
