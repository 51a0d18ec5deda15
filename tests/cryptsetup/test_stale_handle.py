"""A second writer makes a handle stale; loading again makes it good."""

from __future__ import annotations

import pytest

from luksctl.cryptsetup.device import Device
from luksctl.errors import CryptsetupError


def test_second_writer_is_refused_until_it_loads_again(volume: str) -> None:
    """Of two handles on one header the second write fails, says why, and works after a reload."""
    with Device.open(volume) as first, Device.open(volume) as second:
        first.header.set_label("first", "")
        with pytest.raises(CryptsetupError, match="concurrent") as caught:
            second.header.set_label("second", "")
        assert caught.value.operation == "set label and subsystem"
        second.load()
        assert second.header.label == "first"
        second.header.set_label("second", "")
    with Device.open(volume) as third:
        assert third.header.label == "second"
