"""Errors say where, what and what to do next, as text and as data."""

from __future__ import annotations

import inspect
import json

import pytest

from luksctl import errors
from luksctl.errors import ConfigError, CryptsetupError, LuksctlError, Problem


def _all_errors() -> list[type[LuksctlError]]:
    found = (member for _, member in inspect.getmembers(errors, inspect.isclass))
    return [member for member in found if issubclass(member, LuksctlError)]


def test_the_message_names_volume_slot_operation_and_cause() -> None:
    """Everything known about the place comes before the cause."""
    error = LuksctlError("the key was rejected", volume="STATE", slot=3, operation="open", hint="luksctl status")
    assert str(error) == "STATE, slot 3: open: the key was rejected"


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "no such thing"),
        ({"volume": "STATE"}, "STATE: no such thing"),
        ({"slot": 0}, "slot 0: no such thing"),
        ({"operation": "format"}, "format: no such thing"),
    ],
)
def test_what_is_not_known_leaves_no_trace(fields: dict[str, str], text: str) -> None:
    """Missing fields leave neither "None" nor stray punctuation; slot 0 is a slot."""
    assert str(LuksctlError("no such thing", **fields)) == text  # type: ignore[arg-type]  # slot comes as int


@pytest.mark.parametrize("kind", _all_errors())
def test_every_error_becomes_json(kind: type[LuksctlError]) -> None:
    """Each class gives its own name and exit code to --json."""
    if issubclass(kind, ConfigError):
        error: LuksctlError = kind((Problem("machine", "wrong"),))
    elif issubclass(kind, CryptsetupError):
        error = kind("failed", errno=22, log=("library says",))
    else:
        error = kind("failed")
    fields = json.loads(json.dumps(error.fields()))
    assert fields["error"] == kind.__name__
    assert fields["exitCode"] == kind.exit_code


def test_config_errors_show_all_problems_in_order() -> None:
    """One line per problem, each with file, line and path; the same as data."""
    error = ConfigError(
        (
            Problem("machine.systemDiskEncryption.state", "no keys", file="m.yaml", line=3, hint="add a key"),
            Problem("", "not a mapping", file="m.yaml"),
            Problem("keys[0].slot", "is 32, must be 0 to 31"),
        ),
        hint="luksctl validate m.yaml",
    )
    assert str(error).splitlines() == [
        "m.yaml:3: machine.systemDiskEncryption.state: no keys",
        "m.yaml: not a mapping",
        "keys[0].slot: is 32, must be 0 to 31",
    ]
    listed = error.fields()["problems"]
    assert isinstance(listed, list)
    assert listed[0] == {
        "file": "m.yaml",
        "line": 3,
        "path": "machine.systemDiskEncryption.state",
        "message": "no keys",
        "hint": "add a key",
    }


def test_a_library_error_keeps_errno_and_log() -> None:
    """What libcryptsetup said travels with the error."""
    error = CryptsetupError("no space for the token", errno=28, log=("not enough space in header",), slot=5)
    assert (error.errno, error.log, error.slot) == (28, ("not enough space in header",), 5)
    assert isinstance(error, errors.DeviceError)
