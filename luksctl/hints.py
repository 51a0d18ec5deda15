"""What annotations need of `typing`, without loading it: none is evaluated here, and the start of a boot is timed.

Type checkers see typing's own names. At run time the words that only stand in annotations are empty, and the functions
do what typing's do.
"""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import IO as IO
    from typing import Any as Any
    from typing import ClassVar as ClassVar
    from typing import Concatenate as Concatenate
    from typing import Final as Final
    from typing import NoReturn as NoReturn
    from typing import ParamSpec as ParamSpec
    from typing import Protocol as Protocol
    from typing import Self as Self
    from typing import TextIO as TextIO
    from typing import TypeVar as TypeVar
    from typing import assert_never as assert_never
    from typing import cast as cast
    from typing import dataclass_transform as dataclass_transform
    from typing import final as final
else:

    class _Word:
        """Stands in annotations; with a type in brackets it means that type."""

        def __class_getitem__(cls, item):
            return item

    IO = Any = ClassVar = Concatenate = Final = NoReturn = Self = TextIO = _Word

    class Protocol:
        """A base that adds nothing."""

        __slots__ = ()

    def ParamSpec(name):  # noqa: N802  # typing's name
        """Return something that an annotation may name."""
        return name

    def TypeVar(name, **_):  # noqa: N802  # as above
        """Return something that an annotation may name."""
        return name

    def assert_never(value):
        """Raise AssertionError: `value` is none of the cases that were thought of."""
        raise AssertionError(f"{type(value).__name__} was not expected here")

    def cast(_, value):
        """Return `value`."""
        return value

    def dataclass_transform(**_):
        """Return a decorator that changes nothing."""
        return lambda decorator: decorator

    def final(decorated):
        """Return `decorated`."""
        return decorated
