"""What /etc/fstab and /etc/crypttab say: others that mount, and others that open."""

from __future__ import annotations

import os
from collections.abc import Iterator

from luksctl.devices.tree import unescape
from luksctl.hints import Final
from luksctl.value import frozen

FSTAB: Final = "/etc/fstab"
CRYPTTAB: Final = "/etc/crypttab"

# fstab(5) and crypttab(5): which field has the device, and which the place where it appears.
_FSTAB_FIELDS: Final = (0, 1)
_CRYPTTAB_FIELDS: Final = (1, 0)
_OPTIONS_FIELD: Final = 3
# Tags of a device, and where udev links to it by them.
_LINKS: Final = {
    "UUID": "by-uuid",
    "LABEL": "by-label",
    "PARTUUID": "by-partuuid",
    "PARTLABEL": "by-partlabel",
    "ID": "by-id",
}


@frozen
class TableLine:
    """One entry of either table.

    `source` is the device as it is written, without quotes; `target` the mount point, or the name of the mapping;
    `device` the node that the source leads to now, or None. `automatic` is false with the option noauto.
    """

    file: str
    number: int
    source: str
    target: str
    device: str | None = None
    automatic: bool = True


def read_fstab(path: str = FSTAB, dev: str = "/dev") -> tuple[TableLine, ...]:
    """Return the entries of fstab(5); none where there is no such file. Raises OSError."""
    return tuple(_lines(path, _FSTAB_FIELDS, dev))


def read_crypttab(path: str = CRYPTTAB, dev: str = "/dev") -> tuple[TableLine, ...]:
    """Return the entries of crypttab(5); none where there is no such file. Raises OSError."""
    return tuple(_lines(path, _CRYPTTAB_FIELDS, dev))


def _lines(path: str, places: tuple[int, int], dev: str) -> Iterator[TableLine]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as table:
            lines = table.readlines()
    except FileNotFoundError:
        return
    for number, line in enumerate(lines, start=1):
        fields = [unescape(field) for field in line.split()]
        if len(fields) <= max(places) or fields[0].startswith("#"):
            continue
        source, target = _unquoted(fields[places[0]]), fields[places[1]]
        options = fields[_OPTIONS_FIELD].split(",") if len(fields) > _OPTIONS_FIELD else ()
        yield TableLine(path, number, source, target, _node_of(source, dev), "noauto" not in options)


def _unquoted(source: str) -> str:
    """Return a source without the quotes that fstab(5) allows around the value of a tag."""
    tag, is_tag, value = source.partition("=")
    return f"{tag}={value.strip(chr(34))}" if is_tag and tag in _LINKS else source


def _node_of(source: str, dev: str) -> str | None:
    tag, _, value = source.partition("=")
    path = f"{dev}/disk/{_LINKS[tag]}/{value}" if tag in _LINKS else source
    return os.path.realpath(path) if path.startswith("/") and os.path.exists(path) else None
