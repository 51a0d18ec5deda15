"""Frozen values: what `dataclass(frozen=True)` gives, made without generating code.

A dataclass compiles its methods from text when its module is imported: half a millisecond each, and a hundred of them
were most of the boot hook's start. Here all values share six plain functions, and a class costs some microseconds.
Creating an instance is a little slower, which nothing here does often.
"""

from __future__ import annotations

from collections.abc import Callable

from luksctl.hints import Any, NoReturn, TypeVar, dataclass_transform

Class = TypeVar("Class", bound=type)
Instance = TypeVar("Instance")

_MISSING = object()


class _Field:
    """What `field` noted about one attribute until `frozen` takes it."""

    __slots__ = ("default", "factory", "shown")

    def __init__(self, default: object, factory: Callable[[], object] | None, shown: bool) -> None:  # noqa: FBT001
        self.default = default
        self.factory = factory
        self.shown = shown


def field(*, default: Any = _MISSING, default_factory: Callable[[], Any] | None = None, repr: bool = True) -> Any:  # noqa: A002  # dataclasses' own names
    """Describe an attribute further: a default made anew for each instance, or one that `repr` leaves out."""
    return _Field(default, default_factory, repr)


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: Class) -> Class:
    """Make `cls` a frozen value of its annotated attributes, in their order, with structural equality.

    Annotations must be text (`from __future__ import annotations`); those that begin with ClassVar are left alone.
    A value does not inherit attributes from another value.
    """
    own, fields = cls.__dict__, {}
    annotations: dict[str, str] = cls.__annotations__
    for name, kind in annotations.items():
        if kind.startswith("ClassVar"):
            continue
        given = own.get(name, _MISSING)
        if given is not _MISSING:
            delattr(cls, name)
        fields[name] = given if isinstance(given, _Field) else _Field(given, None, shown=True)
    for name, method in _METHODS:
        if name not in own:
            setattr(cls, name, method)
    setattr(cls, "__fields__", fields)  # noqa: B010  # no type knows of it; likewise the next
    setattr(cls, "__match_args__", tuple(fields))  # noqa: B010
    return cls


def replace(instance: Instance, /, **changes: object) -> Instance:
    """Return a copy of a value with some attributes changed; TypeError for one that it does not have."""
    kept = {name: getattr(instance, name) for name in _names(instance) if name not in changes}
    return type(instance)(**kept, **changes)


def as_dict(instance: object) -> dict[str, Any]:
    """Return the attributes of a value by name, as they are."""
    return {name: getattr(instance, name) for name in _names(instance)}


def _names(instance: object) -> tuple[str, ...]:
    names: tuple[str, ...] = type(instance).__match_args__  # type: ignore[attr-defined]  # every value has it
    return names


def _values(instance: object) -> tuple[Any, ...]:
    return tuple(getattr(instance, name) for name in _names(instance))


def _init(self: Any, /, *positional: Any, **named: Any) -> None:
    fields: dict[str, _Field] = type(self).__fields__
    if len(positional) > len(fields):
        raise TypeError(f"{type(self).__name__} has {len(fields)} attributes, {len(positional)} were given")
    given = dict(zip(fields, positional, strict=False))
    for name in given:
        if name in named:
            raise TypeError(f"{type(self).__name__} was given {name} twice")
    given |= named
    for name, about in fields.items():
        item = given.pop(name, _MISSING)
        if item is _MISSING:
            item = about.default if about.factory is None else about.factory()
        if item is _MISSING:
            raise TypeError(f"{type(self).__name__} needs {name}")
        object.__setattr__(self, name, item)
    if given:
        raise TypeError(f"{type(self).__name__} has no {', '.join(given)}")


def _repr(self: Any) -> str:
    fields: dict[str, _Field] = type(self).__fields__
    shown = ", ".join(f"{name}={getattr(self, name)!r}" for name, about in fields.items() if about.shown)
    return f"{type(self).__qualname__}({shown})"


def _eq(self: object, other: object) -> Any:
    if type(other) is not type(self):
        return NotImplemented
    return _values(self) == _values(other)


def _hash(self: object) -> int:
    return hash(_values(self))


def _setattr(self: object, name: str, item: object) -> NoReturn:  # noqa: ARG001
    raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be set")


def _delattr(self: object, name: str) -> NoReturn:
    raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be deleted")


def _reduce(self: object) -> tuple[type, tuple[Any, ...]]:
    return type(self), _values(self)


# The class is changed in place and has no slots: making it anew with slots costs half as much again at every start.
_METHODS = tuple(
    (f"__{method.__name__[1:]}__", method) for method in (_init, _repr, _eq, _hash, _setattr, _delattr, _reduce)
)
