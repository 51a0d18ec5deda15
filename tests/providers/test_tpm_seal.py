"""Keys sealed in a real TPM 2.0 (swtpm): what opens them, and what does not, each failure told from the others."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from luksctl.errors import TpmRejected
from luksctl.model.config import ConfiguredKey
from tests.providers.measured_boot import (
    IMAGE,
    KEY,
    VOLUME,
    Machine,
    boot,
    image_value,
    loaded_handles,
)
from tests.providers.swtpm import Swtpm

SECOND_IMAGE = b"the next release"


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """Boot a machine from a signed image; at the end nothing may be left in its TPM."""
    with Swtpm() as tpm:
        machine = Machine(tpm, tmp_path)
        machine.files.sign(image_value(IMAGE))
        boot(tpm)
        yield machine
        assert loaded_handles(machine.tpm) == []


def rejected(machine: Machine, token: str, key: ConfiguredKey = KEY) -> TpmRejected:
    """Return the error of a `recover` that must fail."""
    with pytest.raises(TpmRejected) as caught:
        machine.recover(token, key)
    assert (caught.value.volume, caught.value.slot) == (VOLUME, key.slot)
    assert caught.value.hint is not None
    return caught.value


def test_a_sealed_key_comes_back(machine: Machine) -> None:
    """It is the base64 text of 32 bytes, and the next boot of the same image has it, too."""
    key, token = machine.make()
    assert len(base64.b64decode(key, validate=True)) == 32
    assert machine.recover(token) == key
    boot(machine.tpm)
    assert machine.recover(token) == key


def test_each_key_is_another_one(machine: Machine) -> None:
    """A rotation gets 32 fresh bytes."""
    assert machine.make()[0] != machine.make()[0]
