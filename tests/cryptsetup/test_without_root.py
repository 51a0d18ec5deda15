"""Image files need no privileges: a user who is nobody formats one and opens its keyslot."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

import pytest

from luksctl.cryptsetup.device import Device
from luksctl.cryptsetup.formatting import FormatParameters
from luksctl.model.config import CHEAPEST_KDF
from luksctl.secret import Secret
from luksctl.units import MIB

NOBODY = 65534


def _format_and_open(path: str) -> None:
    key = b"a key of nobody's"
    with Device.blank(path) as device, Secret.random(64) as volume_key, Secret.take(key) as secret:
        device.format(FormatParameters(), volume_key)
        device.keyslots.add_by_volume_key(3, secret, volume_key, CHEAPEST_KDF)
    with Device.open(path) as device, Secret.take(key) as secret:
        assert device.test_key(secret) == 3


@pytest.mark.skipif(os.getuid() != 0, reason="this user is nobody special already: the other tests show it")
def test_nobody_formats_an_image_and_opens_it(tmp_path: Path) -> None:
    """In a child without any privilege, on a file that it owns and reaches by descriptor."""
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(32 * MIB)
    os.chown(image, NOBODY, NOBODY)
    descriptor = os.open(image, os.O_RDWR)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            _format_and_open(f"/proc/self/fd/{descriptor}")
            status = 0
        except BaseException:  # noqa: BLE001  # the child ends here, whatever happened
            traceback.print_exc()
        finally:
            os._exit(status)
    _, ended = os.waitpid(child, 0)
    os.close(descriptor)
    assert os.waitstatus_to_exitcode(ended) == 0
