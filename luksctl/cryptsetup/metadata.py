"""The JSON area of a LUKS2 header as facts (LUKS2 On-Disk Format Specification 1.1, section 3).

`parse_metadata` takes text from anyone; what does not fit is a ValueError that says where.
"""

from __future__ import annotations

import functools
import json

from luksctl.hints import Any, Final
from luksctl.model.config import MAX_SLOT
from luksctl.model.header import Keyslot, Segment, Token
from luksctl.value import frozen

_MAX_NUMBER: Final = 2**64 - 1


@frozen
class Area:
    """Where a keyslot's key material lies on the device."""

    slot: int
    offset_bytes: int
    size_bytes: int


@frozen
class Metadata:
    """The parsed JSON area; `digest_iterations` is the largest of all digests."""

    keyslots: tuple[Keyslot, ...]
    tokens: tuple[Token, ...]
    segments: tuple[Segment, ...]
    digest_iterations: int
    requirements: tuple[str, ...]
    flags: tuple[str, ...]
    areas: tuple[Area, ...]
    keyslots_size_bytes: int


@functools.lru_cache(maxsize=4)
def parse_metadata(text: str) -> Metadata:
    """Return the facts of a JSON area; ValueError where something is missing, of a wrong type, or out of range.

    A boot sees the same text in both copies, and each several times, so the latest ones are remembered.
    """
    root = _Place(json.loads(text), "")
    keyslots = root.item("keyslots").numbered(MAX_SLOT)
    digests = root.item("digests").numbered(_MAX_NUMBER)
    config = root.item("config")
    return Metadata(
        keyslots=tuple(_keyslot(number, place) for number, place in keyslots),
        tokens=tuple(_token(number, place) for number, place in root.item("tokens").numbered(MAX_SLOT)),
        segments=tuple(_segment(number, place) for number, place in root.item("segments").numbered(_MAX_NUMBER)),
        digest_iterations=max((_iterations(place) for _, place in digests), default=0),
        requirements=config.optional("requirements").optional("mandatory").texts(),
        flags=config.optional("flags").texts(),
        areas=tuple(
            Area(number, place.item("area").item("offset").size(), place.item("area").item("size").size())
            for number, place in keyslots
        ),
        keyslots_size_bytes=config.item("keyslots_size").size(),
    )


@frozen
class _Place:
    """A value inside the document, and the path that led there."""

    value: Any
    path: str

    def wrong(self, wanted: str) -> ValueError:
        return ValueError(f"{self.path or 'the document'} is not {wanted}")

    def item(self, name: str) -> _Place:
        place = self.optional(name)
        if place.value is None:
            raise ValueError(f"{place.path} is missing")
        return place

    def optional(self, name: str) -> _Place:
        if self.value is None:
            return _Place(None, f"{self.path}.{name}")
        if not isinstance(self.value, dict):
            raise self.wrong("an object")
        return _Place(self.value.get(name), f"{self.path}.{name}")

    def numbered(self, highest: int) -> list[tuple[int, _Place]]:
        if not isinstance(self.value, dict):
            raise self.wrong("an object")
        found = []
        for name, value in self.value.items():
            place = _Place(value, f"{self.path}.{name}")
            if not (name.isascii() and name.isdecimal() and str(int(name)) == name and int(name) <= highest):
                raise place.wrong(f"numbered 0 to {highest}")
            if not isinstance(value, dict):
                raise place.wrong("an object")
            found.append((int(name), place))
        return sorted(found, key=lambda entry: entry[0])

    def text(self) -> str:
        if not isinstance(self.value, str) or not self.value.isprintable():
            raise self.wrong("text")
        return self.value

    def texts(self) -> tuple[str, ...]:
        if self.value is None:
            return ()
        if not isinstance(self.value, list):
            raise self.wrong("a list")
        return tuple(_Place(value, f"{self.path}[{index}]").text() for index, value in enumerate(self.value))

    def integer(self) -> int:
        if not isinstance(self.value, int) or isinstance(self.value, bool) or not 0 <= self.value <= _MAX_NUMBER:
            raise self.wrong("a number")
        return self.value

    def optional_integer(self) -> int | None:
        return None if self.value is None else self.integer()

    def size(self) -> int:
        """Return a 64-bit number, which LUKS2 stores as text."""
        text = self.text()
        if not (text.isascii() and text.isdecimal() and len(text) <= 20) or int(text) > _MAX_NUMBER:
            raise self.wrong("a size")
        return int(text)


def _keyslot(number: int, place: _Place) -> Keyslot:
    kind = place.item("type").text()
    kdf = place.item("kdf") if kind == "luks2" else place.optional("kdf")
    area = place.item("area")
    priority = place.optional("priority").optional_integer()
    return Keyslot(
        number=number,
        kdf=kdf.item("type").text() if kdf.value is not None else "",
        time=kdf.optional("time").optional_integer(),
        memory_kib=kdf.optional("memory").optional_integer(),
        threads=kdf.optional("cpus").optional_integer(),
        iterations=kdf.optional("iterations").optional_integer(),
        area_encryption=_optional_text(area.optional("encryption")),
        priority=1 if priority is None else priority,
        type=kind,
    )


def _token(number: int, place: _Place) -> Token:
    slots = []
    for text in place.item("keyslots").texts():
        if not (text.isascii() and text.isdecimal()) or len(text) > 2 or int(text) > MAX_SLOT:
            raise ValueError(f"{place.path}.keyslots names no keyslot")
        slots.append(int(text))
    stored = json.dumps(place.value, separators=(",", ":"))
    return Token(number=number, type=place.item("type").text(), keyslots=tuple(slots), json=stored)


def _segment(number: int, place: _Place) -> Segment:
    return Segment(
        number=number,
        type=place.item("type").text(),
        encryption=_optional_text(place.optional("encryption")),
        sector_size_bytes=place.optional("sector_size").optional_integer() or 0,
        offset_bytes=place.item("offset").size(),
        flags=place.optional("flags").texts(),
    )


def _iterations(digest: _Place) -> int:
    return digest.optional("iterations").optional_integer() or 0


def _optional_text(place: _Place) -> str:
    return "" if place.value is None else place.text()
