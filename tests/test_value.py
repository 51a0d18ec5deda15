"""Frozen values behave as the dataclasses that they stand for."""

from __future__ import annotations

import copy
import pickle
from typing import ClassVar

import pytest

from luksctl.value import as_dict, field, frozen, replace


@frozen
class Point:
    """A value with every kind of attribute."""

    x: int
    name: str = "origin"
    hidden: bytes = field(default=b"", repr=False)
    tags: list[str] = field(default_factory=list)
    dimensions: ClassVar[int] = 2

    @property
    def far(self) -> bool:
        """Tell whether it is far."""
        return self.x > 10


@frozen
class Other:
    """A value of the same attributes."""

    x: int
    name: str = "origin"
    hidden: bytes = b""
    tags: tuple[str, ...] = ()


def test_attributes_come_by_position_name_and_default() -> None:
    """In their order; methods and class variables stay."""
    point = Point(11, hidden=b"h")
    assert (point.x, point.name, point.hidden, point.tags) == (11, "origin", b"h", [])
    assert point.far
    assert Point.dimensions == 2


def test_a_default_factory_makes_a_new_one_each_time() -> None:
    """Two values never share a default list."""
    assert Point(1).tags is not Point(1).tags


@pytest.mark.parametrize(
    ("positional", "named", "says"),
    [
        ((), {}, "needs x"),
        ((1, "a", b"", [], 5), {}, "has 4 attributes, 5 were given"),
        ((1,), {"x": 2}, "was given x twice"),
        ((1,), {"color": 2}, "has no color"),
    ],
)
def test_wrong_arguments_are_refused(positional: tuple[object, ...], named: dict[str, object], says: str) -> None:
    """As by a function with these parameters."""
    with pytest.raises(TypeError, match=says):
        Point(*positional, **named)  # type: ignore[arg-type]  # wrong on purpose


def test_values_are_equal_by_content_and_class() -> None:
    """Equal content of another class is another value."""
    assert Point(1) == Point(1)
    assert Point(1) != Point(2)
    other: object = Other(1)
    assert other != Point(1)
    assert hash(Other(1)) == hash(Other(1))


def test_values_are_frozen() -> None:
    """Neither an attribute nor a new name can be set or deleted."""
    point = Point(1)
    for name in ("x", "color"):
        with pytest.raises(AttributeError, match="frozen"):
            setattr(point, name, 2)
    with pytest.raises(AttributeError, match="frozen"):
        del point.x


def test_repr_shows_what_is_not_hidden() -> None:
    """In the order of the attributes."""
    assert repr(Point(1, hidden=b"no")) == "Point(x=1, name='origin', tags=[])"


def test_patterns_match_by_position() -> None:
    """The order of the attributes is that of the pattern."""
    match Point(3, "c"):
        case Point(x, name):
            assert (x, name) == (3, "c")


def test_replace_changes_a_copy() -> None:
    """The original stays, and an unknown attribute is refused."""
    point = Point(1, "a")
    assert replace(point, x=2) == Point(2, "a")
    assert point.x == 1
    with pytest.raises(TypeError, match="has no color"):
        replace(point, color=1)


def test_values_can_be_listed_copied_and_pickled() -> None:
    """Hypothesis, multiprocessing and JSON output do so."""
    point = Point(1, "a")
    assert as_dict(point) == {"x": 1, "name": "a", "hidden": b"", "tags": []}
    assert copy.deepcopy(point) == point
    assert pickle.loads(pickle.dumps(point)) == point  # noqa: S301  # our own bytes
