"""Keys sealed in a real TPM 2.0 (swtpm): what opens them, and what does not, each failure told from the others."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from luksctl.errors import PcrChange, TokenInvalid, TpmReason, TpmRejected
from luksctl.model.config import ConfiguredKey, KmsKey, TpmKey, TpmPolicy
from luksctl.providers.tpm_connection import TpmConnection
from luksctl.providers.tpm_files import SIGNATURE
from tests.providers.measured_boot import (
    IMAGE,
    KEY,
    NO_PCRS,
    PHASE,
    VOLUME,
    Machine,
    Noted,
    boot,
    extend,
    image_value,
    loaded_handles,
)
from tests.providers.swtpm import Swtpm

NEXT_IMAGE = b"the next release"
NEW_FIRMWARE = b"a dbx update"
TWO_PCRS = ConfiguredKey(4, TpmKey(pcrs=(4, 7)))


@pytest.fixture(autouse=True)
def nothing_left(machine: Machine) -> Iterator[None]:
    """At the end nothing may be left in its TPM."""
    yield
    assert loaded_handles(machine.tpm) == []


def rejected(machine: Machine, token: str | None, key: ConfiguredKey = KEY) -> TpmRejected:
    """Return the error of a `recover`, or without a token of a `make`, that must fail."""
    with pytest.raises(TpmRejected) as caught:
        machine.make(key) if token is None else machine.recover(token, key)
    assert (caught.value.volume, caught.value.slot) == (VOLUME, key.slot)
    assert caught.value.hint is not None
    return caught.value


def changed(token: str, **fields: Any) -> str:
    """Return the token with some fields of its data changed, and those that are None left out."""
    document = json.loads(token)
    data = {**document["UserData"], **fields}
    document["UserData"] = {name: value for name, value in data.items() if value is not None}
    return json.dumps(document)


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


def test_the_token_is_what_talos_writes(machine: Machine) -> None:
    """These fields, in this order; base64 of structures with their size; `keyslots` outside is empty."""
    document = json.loads(machine.make()[1])
    assert list(document) == ["UserData", "type", "keyslots"]
    assert (document["type"], document["keyslots"]) == ("talos-tpm2", [])
    data = document["UserData"]
    assert list(data) == [
        "keyslots",
        "sealed_blob_private",
        "sealed_blob_public",
        "pcrs",
        "pubkey_pcrs",
        "alg",
        "encryption_version",
        "policy_hash",
        "key_name",
    ]
    plain = {name: data[name] for name in ("keyslots", "pcrs", "pubkey_pcrs", "alg", "encryption_version")}
    assert plain == {"keyslots": [4], "pcrs": [7], "pubkey_pcrs": [11], "alg": "sha256", "encryption_version": "1"}
    for name in ("sealed_blob_private", "sealed_blob_public", "key_name"):
        content = base64.b64decode(data[name])
        assert int.from_bytes(content[:2]) == len(content) - 2
    assert len(base64.b64decode(data["policy_hash"])) == 32


@pytest.mark.parametrize(
    ("pcrs", "listed"), [((7, 4, 7, 11), [4, 7, 11]), ((), None), (None, [7]), (tuple(range(8)), [*range(8)])]
)
def test_any_list_of_pcrs(machine: Machine, pcrs: tuple[int, ...] | None, listed: list[int] | None) -> None:
    """It is sorted, each once; an empty one is left out, and no list means PCR 7."""
    for pcr in range(7):
        extend(machine.tpm, pcr, b"measured")
    key, token = machine.make(ConfiguredKey(0, TpmKey(pcrs=pcrs)))
    assert json.loads(token)["UserData"].get("pcrs") == listed
    assert machine.recover(token) == key


def test_tokens_from_before_talos_1_12_unseal(machine: Machine) -> None:
    """They name the signed PCR 11, have no version, and are bound to PCR 7 without saying so."""
    key, token = machine.make()
    old = changed(token, pcrs=[11], pubkey_pcrs=None, encryption_version=None)
    assert machine.recover(old) == key
    boot(machine.tpm, firmware=NEW_FIRMWARE)
    assert [change.pcr for change in rejected(machine, old).pcrs] == [7]


def test_a_changed_pcr_is_named(machine: Machine) -> None:
    """Without a note of what it was, with what it is."""
    _, token = machine.make()
    boot(machine.tpm, firmware=NEW_FIRMWARE)
    error = rejected(machine, token)
    assert error.reason is TpmReason.PCR_MISMATCH
    assert [(change.pcr, change.was) for change in error.pcrs] == [(7, None)]
    assert error.pcrs[0].now in error.cause
    assert error.hint == "once another key opened it: luksctl keys rotate EPHEMERAL --slot 4"
    boot(machine.tpm)
    machine.recover(token)


def test_a_note_that_lacks_a_pcr_counts_as_none(machine: Machine) -> None:
    """A file in STATE that somebody shortened costs the old values, and no boot."""
    machine.noted = Noted()
    extend(machine.tpm, 4, b"a boot loader")
    _, token = machine.make(TWO_PCRS)
    for values in machine.noted.values.values():
        del values[4]  # type: ignore[attr-defined]  # a dictionary all the same
    boot(machine.tpm, firmware=NEW_FIRMWARE)
    extend(machine.tpm, 4, b"a boot loader")
    error = rejected(machine, token, TWO_PCRS)
    assert error.reason is TpmReason.PCR_MISMATCH
    assert [(change.pcr, change.was) for change in error.pcrs] == [(4, None), (7, None)]


def test_which_of_several_changed_is_known_where_it_was_noted(machine: Machine) -> None:
    """Then both values are named, and PCRs that stayed are not."""
    machine.noted = Noted()
    extend(machine.tpm, 4, b"a boot loader")
    _, token = machine.make(TWO_PCRS)
    (before,) = machine.noted.values.values()
    boot(machine.tpm, firmware=NEW_FIRMWARE)
    extend(machine.tpm, 4, b"a boot loader")
    error = rejected(machine, token, TWO_PCRS)
    assert error.reason is TpmReason.PCR_MISMATCH
    assert error.pcrs == (PcrChange(7, now=error.pcrs[0].now, was=before[7].hex()),)
    assert before[7].hex() in error.cause
    machine.noted = None
    assert [change.pcr for change in rejected(machine, token, TWO_PCRS).pcrs] == [4, 7]


def test_another_image_opens_nothing_unless_it_is_signed(machine: Machine) -> None:
    """The same key signing the next one is all it takes: nothing is sealed anew."""
    key, token = machine.make()
    boot(machine.tpm, image=NEXT_IMAGE)
    error = rejected(machine, token)
    assert error.reason is TpmReason.NO_SIGNATURE
    assert [change.pcr for change in error.pcrs] == [11]
    machine.files.sign(image_value(IMAGE), image_value(NEXT_IMAGE))
    assert machine.recover(token) == key


@pytest.mark.parametrize(
    ("phases", "told"),
    [
        ((), "PCR 11 is before the phase enter-initrd, and what is signed comes after enter-initrd"),
        ((*PHASE, "leave-initrd"), "the boot is past them, or another image was booted"),
    ],
)
def test_outside_the_signed_phase_the_phase_is_told(machine: Machine, phases: tuple[str, ...], told: str) -> None:
    """For opening and for making, as far as it can be known."""
    _, token = machine.make()
    boot(machine.tpm, phases=phases)
    for error in (rejected(machine, token), rejected(machine, None)):
        assert error.reason is TpmReason.NO_SIGNATURE
        assert told in error.cause


def test_without_an_image_that_is_told(machine: Machine) -> None:
    """Phases alone, or nothing at all."""
    boot(machine.tpm, image=None)
    error = rejected(machine, None)
    assert error.reason is TpmReason.NO_SIGNATURE
    assert "no unified kernel image was measured into PCR 11, only the phases up to enter-initrd" in error.cause
    boot(machine.tpm, image=None, phases=())
    assert rejected(machine, None).reason is TpmReason.NOT_MEASURED


def test_an_unmeasured_pcr_binds_nothing(machine: Machine) -> None:
    """All zeros or all ones say nothing about the boot, so nothing is sealed to them."""
    for pcr in (5, 17):
        error = rejected(machine, None, ConfiguredKey(1, TpmKey(pcrs=(pcr,))))
        assert error.reason is TpmReason.NOT_MEASURED
        assert [change.pcr for change in error.pcrs] == [pcr]


def test_several_signing_keys_are_tried_in_turn(machine: Machine) -> None:
    """A key sealed for one of them opens whichever else lies there, and in whatever order."""
    key, token = machine.make()
    machine.files.sign(image_value(IMAGE), keys=(1, 0))
    assert machine.recover(token) == key
    second, of_second = machine.make()
    machine.files.sign(image_value(IMAGE), keys=(1,))
    assert machine.recover(of_second) == second
    assert rejected(machine, token).reason is TpmReason.PCR_MISMATCH


def test_the_key_that_signed_this_image_is_sealed_for(machine: Machine) -> None:
    """The first public key is passed over where it signed nothing that runs."""
    machine.files.sign(image_value(IMAGE), keys=(0,), public=(1, 0))
    key, token = machine.make()
    machine.files.sign(image_value(IMAGE), keys=(0,))
    assert machine.recover(token) == key


def test_unrelated_signatures_do_no_harm(machine: Machine) -> None:
    """Entries of other images, other keys, other PCRs and other forms lie beside the one that counts."""
    key, token = machine.make()
    machine.files.sign(image_value(NEXT_IMAGE), image_value(IMAGE), keys=(1, 0), public=(0,))
    path = machine.files.directory / SIGNATURE
    document = json.loads(path.read_text())
    good = document["sha256"][-1]
    document["sha1"] = [{"pcrs": [11]}]
    document["sha256"] = [
        None,
        7,
        {},
        {**good, "pcrs": [4, 11]},
        {**good, "pol": "no hex"},
        {**good, "sig": "no base64!"},
        {**good, "pkfp": 4},
        *document["sha256"],
    ]
    path.write_text(json.dumps(document))
    assert machine.recover(token) == key


def test_a_forged_signature_opens_nothing(machine: Machine) -> None:
    """The TPM checks it; one that holds, further down, still counts."""
    key, token = machine.make()
    path = machine.files.directory / SIGNATURE
    document = json.loads(path.read_text())
    good = document["sha256"][0]
    forged = {**good, "sig": base64.b64encode(bytes(256)).decode()}
    path.write_text(json.dumps({"sha256": [forged]}))
    assert rejected(machine, token).reason is TpmReason.NO_SIGNATURE
    path.write_text(json.dumps({"sha256": [forged, good]}))
    assert machine.recover(token) == key
    assert machine.make()[0] != key


def test_a_signing_key_that_is_gone_is_told_from_a_changed_pcr(machine: Machine) -> None:
    """Where nothing else is bound or it was noted what was; else both are named as possible."""
    machine.noted = Noted()
    _, token = machine.make()
    _, unbound = machine.make(NO_PCRS)
    machine.files.sign(image_value(IMAGE), keys=(1,))
    assert rejected(machine, unbound, NO_PCRS).reason is TpmReason.KEY_UNKNOWN
    assert rejected(machine, token).reason is TpmReason.KEY_UNKNOWN
    machine.noted = None
    error = rejected(machine, token)
    assert error.reason is TpmReason.PCR_MISMATCH
    assert "or it was sealed for a signing key that is not on this node" in error.cause
    machine.files.remove()
    assert rejected(machine, token).reason is TpmReason.KEY_UNKNOWN


def test_without_a_signed_policy_nothing_is_sealed(machine: Machine) -> None:
    """The hint names the option for such nodes."""
    machine.files.remove()
    error = rejected(machine, None)
    assert error.reason is TpmReason.NO_SIGNED_POLICY
    assert "literalPCRs" in (error.hint or "")


def test_a_file_that_was_named_and_does_not_serve_is_named(machine: Machine, tmp_path: Path) -> None:
    """Missing, or something else."""
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
    machine.policy = TpmPolicy(public_keys=("/nowhere/key.pem", str(garbage)))
    error = rejected(machine, None)
    assert error.reason is TpmReason.NO_SIGNED_POLICY
    assert "/nowhere/key.pem: there is no such file" in error.cause
    assert f"{garbage}: " in error.cause


def test_literal_pcrs_need_no_signature(machine: Machine) -> None:
    """The values of the list are all that counts; the token has no signed PCRs."""
    machine.files.remove()
    machine.policy = TpmPolicy(literal_pcrs=True)
    key, token = machine.make()
    assert "pubkey_pcrs" not in json.loads(token)["UserData"]
    boot(machine.tpm, image=NEXT_IMAGE)
    assert machine.recover(token) == key
    boot(machine.tpm, firmware=NEW_FIRMWARE)
    assert rejected(machine, token).reason is TpmReason.PCR_MISMATCH
    assert rejected(machine, None, NO_PCRS).reason is TpmReason.NO_SIGNED_POLICY


def test_a_literal_key_opens_whatever_the_policy_says_now(machine: Machine) -> None:
    """The token says what it is bound to."""
    machine.policy = TpmPolicy(literal_pcrs=True)
    key, token = machine.make()
    machine.policy = TpmPolicy()
    assert machine.recover(token) == key


@pytest.mark.parametrize(
    ("secure_boot", "setup_mode", "told"),
    [
        (1, 0, None),
        (0, 0, "Secure Boot is off"),
        (1, 1, "setup mode"),
        (None, 0, "no Secure Boot state"),
    ],
)
def test_secure_boot_is_asked_for_when_a_key_is_made(
    machine: Machine, secure_boot: int | None, setup_mode: int, told: str | None
) -> None:
    """And only then."""
    key = ConfiguredKey(4, TpmKey(check_secureboot_on_enroll=True))
    machine.set_secure_boot(secure_boot, setup_mode)
    _, token = machine.make()
    machine.recover(token, key)
    if told is None:
        machine.make(key)
    else:
        error = rejected(machine, None, key)
        assert error.reason is TpmReason.NOT_SECURE_BOOT
        assert told in error.cause


def test_another_tpm_is_told(machine: Machine) -> None:
    """Whatever the PCRs of that one hold."""
    _, token = machine.make()
    with Swtpm() as other:
        replaced = Machine(other, machine.files.directory.parent)
        for firmware in (b"another board", NEW_FIRMWARE):
            boot(other, firmware=firmware)
            error = rejected(replaced, token)
            assert error.reason is TpmReason.SRK_CHANGED
        boot(other)
        assert rejected(replaced, token).reason is TpmReason.SRK_CHANGED


def test_a_damaged_object_is_told(machine: Machine) -> None:
    """One bit of the private part is enough."""
    _, token = machine.make()
    blob = bytearray(base64.b64decode(json.loads(token)["UserData"]["sealed_blob_private"]))
    blob[-1] ^= 1
    error = rejected(machine, changed(token, sealed_blob_private=base64.b64encode(blob).decode()))
    assert error.reason is TpmReason.DAMAGED


@pytest.mark.parametrize("token", [None, "", "{", "[]", '{"type":"sideroKMS"}', "[" * 100_000])
def test_what_is_no_token_is_invalid(machine: Machine, token: str | None) -> None:
    """And the TPM is not even asked."""
    machine.tpm.power_off()
    with pytest.raises(TokenInvalid) as caught:
        machine.recover(token)
    assert (caught.value.volume, caught.value.slot) == (VOLUME, 4)
    machine.tpm.power_on()


def test_a_key_of_another_kind_is_a_mistake(machine: Machine) -> None:
    """The registry asks each provider for its own only."""
    with TpmConnection(machine.tpm.tcti) as connection, pytest.raises(TypeError, match="kms"):
        machine.provider(connection).make(VOLUME, ConfiguredKey(0, KmsKey("https://h:1")))
