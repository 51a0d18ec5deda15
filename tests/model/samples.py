"""One sample of any value, built from its type: secrets, bytes and texts that could carry a key hold the marker."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from enum import Enum
from typing import Any

from luksctl.errors import LuksctlError
from luksctl.secret import Secret
from tests.marker import MARKER

# Exceptions compare by identity, so that two samples of a value carry the same one.
_ERRORS: dict[type, LuksctlError] = {}
_PLAIN: dict[type, object] = {str: "text", bytes: MARKER, int: 1, float: 1.0, bool: True, object: "anything"}


def sample(kind: Any) -> Any:
    """Return an instance of `kind`, each optional part filled in, each tuple with one entry.

    TypeError for a type nobody thought of: then add it here.
    """
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        return sample(next(part for part in typing.get_args(kind) if part is not types.NoneType))
    if origin is tuple:
        return tuple(sample(part) for part in typing.get_args(kind) if part is not Ellipsis)
    if origin is Callable:
        return _nobody
    if kind is Secret:
        return Secret.take(MARKER)
    return _PLAIN[kind] if kind in _PLAIN else _sample_of_class(kind)


def _nobody(*_: object) -> typing.NoReturn:
    raise AssertionError("a sample is not called")


def samples_of_union(kind: Any) -> list[Any]:
    """Return one sample for each member of a union of classes."""
    return [sample(part) for part in typing.get_args(kind)]


def _sample_of_class(kind: Any) -> Any:
    if isinstance(kind, type) and issubclass(kind, Enum):
        return next(iter(kind))
    if isinstance(kind, type) and issubclass(kind, LuksctlError):
        return _ERRORS.setdefault(kind, kind("cause"))
    if not isinstance(kind, type) or not hasattr(kind, "__fields__"):
        raise TypeError(f"no sample for {kind}")
    hints = typing.get_type_hints(kind)
    names: tuple[str, ...] = getattr(kind, "__match_args__")  # noqa: B009  # every value has it, and no type says so
    return kind(**{name: sample(hints[name]) for name in names})
