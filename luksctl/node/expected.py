"""Which volumes are expected to be encrypted, as `luksctl enable` recorded it.

META knows what was once finished encrypted; this file knows it before the first format, and where META was lost. A
plain filesystem on such a volume was put there by somebody else and is never mounted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from luksctl.hints import Final
from luksctl.model.config import EPHEMERAL, STATE
from luksctl.model.desired import DesiredVolume
from luksctl.node.files import read_file, replace_file
from luksctl.node.node import Paths
from luksctl.value import replace

_VERSION: Final = 1
_VOLUMES: Final = frozenset({STATE, EPHEMERAL})


def expected_encrypted(paths: Paths) -> frozenset[str]:
    """Return the volumes that must be encrypted; all of them where the file is there and cannot be understood."""
    text = read_file(paths.expected_encrypted)
    if text is None:
        return frozenset()
    known = _parse(text)
    return _VOLUMES if known is None else known


def expected_is_readable(paths: Paths) -> bool:
    """Tell whether the file is absent or can be understood."""
    text = read_file(paths.expected_encrypted)
    return text is None or _parse(text) is not None


def expecting(paths: Paths, desired: DesiredVolume) -> DesiredVolume:
    """Return the wish with what was recorded about its volume."""
    return replace(desired, expect_encrypted=desired.volume in expected_encrypted(paths))


def forget_expected(paths: Paths, volume: str) -> None:
    """Take back that `volume` is expected to be encrypted, if that is recorded. Cut: the old record or the new one."""
    text = read_file(paths.expected_encrypted)
    known = None if text is None else _parse(text)
    if known is not None and volume in known:
        write_expected(paths.expected_encrypted, known - {volume})


def write_expected(path: str, volumes: Iterable[str]) -> None:
    """Record exactly these volumes. Cut: the old record or the new one."""
    document = {"version": _VERSION, "encrypted": sorted(volumes)}
    replace_file(path, json.dumps(document).encode() + b"\n", mode=0o644)


def _parse(text: bytes) -> frozenset[str] | None:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or document.get("version") != _VERSION:
        return None
    names = document.get("encrypted")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    return frozenset(names)
