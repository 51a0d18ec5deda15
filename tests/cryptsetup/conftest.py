"""Plain 32 MiB files as devices, keys, and one volume that is cheap to open."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from luksctl.cryptsetup.device import Device
from luksctl.cryptsetup.formatting import FormatParameters
from luksctl.model.config import CHEAPEST_KDF
from luksctl.secret import Secret
from luksctl.units import MIB
from tests.marker import MARKER

IMAGE_BYTES = 32 * MIB


def make_image(path: Path) -> str:
    """Return the path of a new file that reads as zeros."""
    with path.open("xb") as target:
        target.truncate(IMAGE_BYTES)
    return str(path)


@pytest.fixture
def image(tmp_path: Path) -> str:
    """Return a blank image."""
    return make_image(tmp_path / "blank.img")


@pytest.fixture
def key() -> Iterator[Secret]:
    """Return the key of slot 0: the marker that must never be shown."""
    with Secret.take(MARKER) as secret:
        yield secret


@pytest.fixture
def other_key() -> Iterator[Secret]:
    """Return a key that opens nothing until a test adds it."""
    with Secret.take(b"another key") as secret:
        yield secret


@dataclass(frozen=True, slots=True)
class _Template:
    """A formatted image up to its last byte that is not zero, and its volume key as bytes: it protects nothing."""

    head: bytes
    volume_key: bytes


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> _Template:
    """Format one image, for every test to write anew: a format syncs what a test need not wait for."""
    path = make_image(tmp_path_factory.mktemp("template") / "template.img")
    parameters = FormatParameters(
        label="disk label",
        subsystem="a subsystem",
        sector_size_bytes=512,
        keyslots_size_bytes=2 * MIB,
        data_offset_bytes=16 * MIB,
    )
    with Secret.random(64) as volume_key, Secret.take(MARKER) as key, Device.blank(path) as device:
        device.format(parameters, volume_key)
        device.keyslots.add_by_volume_key(0, key, volume_key, CHEAPEST_KDF)
        with volume_key.view() as view:
            return _Template(Path(path).read_bytes().rstrip(b"\0"), bytes(view))


@pytest.fixture
def volume_key(template: _Template) -> Iterator[Secret]:
    """Return the volume key of `volume`."""
    with Secret.take(template.volume_key) as secret:
        yield secret


@pytest.fixture
def volume(tmp_path: Path, template: _Template) -> str:
    """Return an image with a LUKS2 header whose slot 0 opens with `key`."""
    path = make_image(tmp_path / "volume.img")
    with open(path, "r+b") as target:
        target.write(template.head)
    return path


@pytest.fixture(scope="session")
def template_head(template: _Template) -> bytes:
    """Return the bytes of a formatted image up to the last that is not zero."""
    return template.head
