"""Whether a key will open at the next boot, said before it, and then booted: what is said comes true."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from luksctl.errors import LuksctlError, TpmUnavailable
from luksctl.model.config import TpmPolicy
from luksctl.providers.tpm_connection import TpmConnection
from luksctl.providers.tpm_files import SIGNATURE
from luksctl.providers.tpm_policy import PcrValues
from luksctl.providers.tpm_preflight import Forecast, TpmPreflight
from tests.providers.measured_boot import (
    FIRMWARE,
    IMAGE,
    NO_PCRS,
    Machine,
    boot,
    entry,
    image_value,
    loaded_handles,
    signing_key,
)
from tests.providers.swtpm import Swtpm

NEXT_IMAGE = b"the image of next week"
NEW_FIRMWARE = b"a dbx update"


@pytest.fixture(autouse=True)
def nothing_left(machine: Machine) -> Iterator[None]:
    """At the end nothing may be left in its TPM."""
    yield
    assert loaded_handles(machine.tpm) == []


def signatures_of(path: Path, *values: bytes, key: int = 0) -> str:
    """Write the signature file of an image, and return its path."""
    path.write_text(json.dumps({"sha256": [entry(signing_key(key), value) for value in values]}), encoding="ascii")
    return str(path)


def forecast(machine: Machine, token: str | None, *files: str, foreseen: PcrValues | None = None) -> Forecast:
    """Look ahead on a machine that is up, long after the phase that was signed."""
    with TpmConnection(machine.tpm.tcti) as connection:
        directories = (str(machine.files.directory),)
        ahead = TpmPreflight(connection, machine.policy, signatures=files, foreseen=foreseen, directories=directories)
        return ahead.forecast(token)


def opens_after(machine: Machine, token: str, image: bytes, signed: str, firmware: bytes = FIRMWARE) -> bool:
    """Boot `image`, whose signature file is `signed`, and tell whether the key opens."""
    (machine.files.directory / SIGNATURE).write_bytes(Path(signed).read_bytes())
    boot(machine.tpm, firmware=firmware, image=image)
    try:
        machine.recover(token)
    except LuksctlError:
        return False
    return True


def test_an_image_that_the_same_key_signed_will_open(machine: Machine, tmp_path: Path) -> None:
    """Said from a phase in which nothing could be unsealed; the value of PCR 11 may be given, and then it must fit."""
    _, token = machine.make()
    boot(machine.tpm, phases=("enter-initrd", "leave-initrd", "ready"))
    signed = signatures_of(tmp_path / "next.json", image_value(NEXT_IMAGE))
    assert forecast(machine, token, signed) == Forecast(opens=True, because="PCR 11 is signed for 1 value(s)")
    assert forecast(machine, token, signed, foreseen={11: image_value(NEXT_IMAGE)}).opens
    other = forecast(machine, token, signed, foreseen={11: image_value(IMAGE)})
    assert other == Forecast(opens=False, because="no signature is for the value given for PCR 11")
    assert opens_after(machine, token, NEXT_IMAGE, signed)


def test_an_image_of_another_key_will_not_open(machine: Machine, tmp_path: Path) -> None:
    """Nor one whose signature was spoilt: the TPM itself looks at it."""
    _, token = machine.make()
    foreign = signatures_of(tmp_path / "foreign.json", image_value(NEXT_IMAGE), key=1)
    assert "no valid signature" in forecast(machine, token, foreign).because
    assert not opens_after(machine, token, NEXT_IMAGE, foreign)
    spoilt = entry(signing_key(0), image_value(NEXT_IMAGE))
    spoilt["sig"] = entry(signing_key(0), image_value(IMAGE))["sig"]
    (tmp_path / "spoilt.json").write_text(json.dumps({"sha256": [spoilt]}), encoding="ascii")
    assert not forecast(machine, token, str(tmp_path / "spoilt.json")).opens


def test_firmware_that_measures_something_else_will_not_open(machine: Machine, tmp_path: Path) -> None:
    """PCR 7 as the operator foresees it; where nothing is said, it stays as it is."""
    _, token = machine.make()
    signed = signatures_of(tmp_path / "next.json", image_value(NEXT_IMAGE))
    said = forecast(machine, token, signed, foreseen={7: bytes(31) + b"\1"})
    assert not said.opens
    assert said.because.startswith("PCR 7 will not be what it was")
    assert not opens_after(machine, token, NEXT_IMAGE, signed, NEW_FIRMWARE)
    assert opens_after(machine, token, NEXT_IMAGE, signed)


def test_a_key_without_pcrs_of_its_own_depends_on_the_signature_alone(machine: Machine, tmp_path: Path) -> None:
    """Firmware does not matter to it."""
    _, token = machine.make(NO_PCRS)
    signed = signatures_of(tmp_path / "next.json", image_value(NEXT_IMAGE))
    assert forecast(machine, token, signed, foreseen={7: bytes(32)}).opens


def test_a_key_bound_to_values_alone(machine: Machine) -> None:
    """No signature counts for it."""
    machine.policy = TpmPolicy(literal_pcrs=True)
    _, token = machine.make()
    assert forecast(machine, token) == Forecast(opens=True, because="PCR 7 will be as it was")
    assert not forecast(machine, token, foreseen={7: bytes(32)}).opens


def test_what_has_no_future(machine: Machine) -> None:
    """No token, garbage, no public key, another TPM, none at all."""
    _, token = machine.make()
    assert "no token" in forecast(machine, None).because
    assert "not JSON" in forecast(machine, "garbage").because
    machine.files.remove()
    assert "no public key" in forecast(machine, token).because
    with Swtpm() as other:
        boot(other)
        mine, machine.tpm = machine.tpm, other
        assert "replaced, or cleared" in forecast(machine, token).because
        machine.tpm = mine
    with TpmConnection(devices=("/nowhere/tpm0",)) as nothing, pytest.raises(TpmUnavailable):
        TpmPreflight(nothing, TpmPolicy()).forecast(token)
