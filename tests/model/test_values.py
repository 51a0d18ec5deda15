"""What holds for every value of the model: it cannot change, compares by value, and shows no key."""

from __future__ import annotations

import importlib
import pkgutil
import typing

import pytest

import luksctl.model
from luksctl.model.destroys import Destroys
from luksctl.model.ports import Ports
from luksctl.model.step import Step
from luksctl.value import as_dict
from tests.marker import MARKER, shown_in
from tests.model.samples import sample, samples_of_union


def _values() -> list[type]:
    modules = [
        importlib.import_module(f"luksctl.model.{found.name}") for found in pkgutil.iter_modules(luksctl.model.__path__)
    ]
    members = [(module, member) for module in modules for member in vars(module).values()]
    return [
        member
        for module, member in members
        if isinstance(member, type) and hasattr(member, "__fields__") and member.__module__ == module.__name__
    ]


VALUES = [kind for kind in _values() if kind is not Ports]  # Ports is the joint to the world, not a value


def test_the_model_was_found() -> None:
    """The list the other tests run over holds what everybody knows is there."""
    assert {"StaticKey", "Luks2", "FormatVolume", "Plan", "MetaFacts", "FormatIntent"} <= {
        kind.__name__ for kind in VALUES
    }


@pytest.mark.parametrize("kind", VALUES)
def test_values_cannot_change(kind: type) -> None:
    """Frozen and slotted: no attribute can be set, none can be added."""
    value = sample(kind)
    for name in [*as_dict(value), "surplus"]:
        with pytest.raises(AttributeError, match="frozen"):
            setattr(value, name, None)


@pytest.mark.parametrize("kind", VALUES)
def test_values_compare_by_value(kind: type) -> None:
    """Two samples made apart are equal, secrets included."""
    assert sample(kind) == sample(kind)


@pytest.mark.parametrize("kind", VALUES)
def test_no_repr_shows_a_key(kind: type) -> None:
    """A secret or raw config text anywhere inside a value is in no form readable in its repr or str."""
    value = sample(kind)
    assert shown_in(f"{value!r} {value!s}") == []


def test_the_search_finds_what_it_looks_for() -> None:
    """The marker is recognised in each form, so that an empty answer means something."""
    assert shown_in(repr(MARKER)) == ["plain"]
    assert shown_in(f"<{MARKER.hex()}>") == ["hex"]
    assert shown_in(str(list(MARKER))) == ["decimal list"]
    assert shown_in("nothing here") == []


@pytest.mark.parametrize("step", samples_of_union(Step), ids=lambda step: type(step).__name__)
def test_every_step_says_what_it_destroys_and_whom_it_concerns(step: Step) -> None:
    """A step names its volume and one of the three answers, and has a docstring that says what a cut leaves."""
    assert isinstance(step.destroys, Destroys)
    assert step.volume == "text"
    assert step.__doc__ is not None
    assert ("Cut:" in step.__doc__) or ("othing on disk" in step.__doc__) or ("Writes nothing" in step.__doc__)


def test_only_known_steps_destroy_data() -> None:
    """The list of steps that may destroy data is short; a new one belongs into the threat model too."""
    assert {type(step).__name__ for step in samples_of_union(Step) if step.destroys is Destroys.DATA} == {
        "Discard",
        "EraseEnds",
        "EraseHead",
        "EraseHeader",
        "FormatVolume",
        "MakeFilesystem",
        "Overwrite",
    }


def test_hints_of_all_values_resolve() -> None:
    """Every annotation names a type that exists where it is used."""
    for kind in VALUES:
        assert set(typing.get_type_hints(kind)) >= set(as_dict(sample(kind)))
