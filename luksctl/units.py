"""Sizes and durations as people write them, and the few sizes every room must agree on."""

from __future__ import annotations

import re

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

_SIZE = r"(\d+)\s*(B|KiB|MiB|GiB|TiB)?"
_SIZE_FACTORS = {None: 1, "B": 1, "KiB": KIB, "MiB": MIB, "GiB": GIB, "TiB": 1024 * GIB}
_DURATION = r"(\d+(?:\.\d+)?)(ms|s|m|h)?"
_LONG_DURATION = r"(?:\d+(?:\.\d+)?(?:ms|s|m|h)){2,}"
_DURATION_FACTORS = {None: 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_size(text: str) -> int:
    """Return the bytes that `text` ("100 MiB", "4096") means; ValueError otherwise."""
    match = re.fullmatch(_SIZE, text.strip())
    if match is None:
        raise ValueError(f"not a size: {text!r} (write a number with B, KiB, MiB, GiB or TiB)")
    return int(match[1]) * _SIZE_FACTORS[match[2]]


def format_size(size_bytes: int) -> str:
    """Return `size_bytes` with the largest binary unit that keeps it at one or more."""
    for unit, factor in (("TiB", 1024 * GIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if size_bytes >= factor:
            value = size_bytes / factor
            return f"{value:.0f} {unit}" if value == int(value) else f"{value:.1f} {unit}"
    return f"{size_bytes} B"


def parse_duration_s(text: str) -> float:
    """Return the seconds that `text` ("90s", "1m30s", "500ms") means; ValueError otherwise."""
    if re.fullmatch(f"{_DURATION}|{_LONG_DURATION}", text.strip()) is None:
        raise ValueError(f"not a duration: {text!r} (write a number with ms, s, m or h)")
    return sum(float(part[1]) * _DURATION_FACTORS[part[2]] for part in re.finditer(_DURATION, text))
