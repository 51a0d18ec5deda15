"""A TPM that is absent, busy, slow, locked or gone in the middle: told apart, and never a reason to seal anew."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tpm2_pytss  # type: ignore[import-untyped]

from luksctl.errors import TpmReason, TpmRejected, TpmUnavailable
from luksctl.model.config import TpmPolicy
from luksctl.providers.tpm import TpmProvider
from luksctl.providers.tpm_codes import LOAD, MAKE_ROOT, VERIFY, translate
from luksctl.providers.tpm_connection import TpmConnection
from luksctl.providers.tpm_device import Tpm
from luksctl.providers.tpm_esys import Esys
from luksctl.providers.tpm_public import srk_template
from luksctl.providers.tpm_run import TpmRun
from tests.providers.measured_boot import KEY, VOLUME, Machine, boot, loaded_handles

LITERAL = TpmPolicy(literal_pcrs=True)
TROUBLE = (TpmUnavailable, TpmRejected)


def reason(act: Callable[[], object]) -> TpmReason:
    """Return why `act` failed; the error has a hint, or its cause says all there is."""
    with pytest.raises(TROUBLE) as caught:
        act()
    assert isinstance(caught.value, TROUBLE)
    return caught.value.reason


def administered(machine: Machine, act: Callable[[Any], object]) -> None:
    """Let somebody else do something with the TPM."""
    with tpm2_pytss.ESAPI(machine.tpm.tcti) as esys:
        act(esys)


# ---- the device ------------------------------------------------------------------------------------------------------


def test_no_device(tmp_path: Path) -> None:
    """Neither with nor without resource manager; both places are named."""
    devices = (str(tmp_path / "tpmrm0"), str(tmp_path / "tpm0"))
    provider = TpmProvider(TpmConnection(devices=devices), LITERAL)
    with pytest.raises(TpmUnavailable, match=r"tpmrm0, .*tpm0") as caught:
        provider.make(VOLUME, KEY)
    assert caught.value.reason is TpmReason.NO_DEVICE


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (errno.EBUSY, TpmReason.BUSY),
        (errno.EACCES, TpmReason.FAILED),
        (errno.ENODEV, TpmReason.NO_DEVICE),
        (errno.ENXIO, TpmReason.NO_DEVICE),
    ],
)
def test_a_device_that_cannot_be_opened(monkeypatch: pytest.MonkeyPatch, code: int, expected: TpmReason) -> None:
    """The kernel's reason counts, which the library would not tell."""

    def refuse(path: str, _: int) -> int:
        raise OSError(code, os.strerror(code), path)

    monkeypatch.setattr(os, "open", refuse)
    assert reason(lambda: TpmProvider(TpmConnection(), LITERAL).make(VOLUME, KEY)) is expected


def test_the_second_device_serves_where_the_first_is_missing(tmp_path: Path) -> None:
    """A kernel without resource manager has only /dev/tpm0; here a file, which no TPM answers from."""
    device = tmp_path / "tpm0"
    device.touch()
    connection = TpmConnection(devices=(str(tmp_path / "tpmrm0"), str(device)), version_path=str(tmp_path / "none"))
    assert reason(lambda: TpmProvider(connection, LITERAL).make(VOLUME, KEY)) is not TpmReason.NO_DEVICE


def test_a_tpm_1_2_is_told(tmp_path: Path) -> None:
    """By what the kernel says, before anything is sent to it."""
    device, version = tmp_path / "tpm0", tmp_path / "tpm_version_major"
    device.touch()
    version.write_text("1\n")
    connection = TpmConnection(devices=(str(device),), version_path=str(version))
    assert reason(lambda: TpmProvider(connection, LITERAL).make(VOLUME, KEY)) is TpmReason.NOT_TPM2


def test_nothing_behind_the_device(machine: Machine) -> None:
    """A resource manager that is not running, say."""
    machine.tpm.power_off()
    assert reason(machine.make) is TpmReason.FAILED


# ---- its state -------------------------------------------------------------------------------------------------------


def test_a_cleared_tpm_is_another_one(machine: Machine) -> None:
    """Its seed is new, and with it the root key; what it holds after that is sealed and opened as ever."""
    _, token = machine.make()
    administered(machine, lambda esys: esys.clear(tpm2_pytss.ESYS_TR.LOCKOUT))
    assert reason(lambda: machine.recover(token)) is TpmReason.SRK_CHANGED
    key, fresh = machine.make()
    assert machine.recover(fresh) == key


def test_dictionary_lockout_does_not_lock_our_objects(machine: Machine) -> None:
    """They are noDA: whoever guesses at other objects cannot keep a machine from booting."""
    key, token = machine.make()

    def lock(esys: Any) -> None:
        esys.dictionary_attack_parameters(new_max_tries=1, new_recovery_time=1000, lockout_recovery=1000)
        guarded = tpm2_pytss.TPM2B_SENSITIVE_CREATE(tpm2_pytss.TPMS_SENSITIVE_CREATE(userAuth=b"right", data=b"x"))
        public = tpm2_pytss.TPM2B_PUBLIC.parse("keyedhash", objectAttributes="userwithauth|fixedtpm|fixedparent")
        root, *_ = esys.create_primary(None, "ecc256")
        private, shown, *_ = esys.create(root, guarded, public)
        loaded = esys.load(root, private, shown)
        esys.tr_set_auth(loaded, b"wrong")
        codes = set()
        for _ in range(3):
            with pytest.raises(tpm2_pytss.TSS2_Exception) as caught:
                esys.unseal(loaded)
            codes.add(caught.value.rc & 0xFFF)
        assert 0x921 in codes
        esys.flush_context(loaded)
        esys.flush_context(root)

    administered(machine, lock)
    assert machine.recover(token) == key
    machine.make()


def test_an_owner_hierarchy_with_a_password(machine: Machine) -> None:
    """Asking again does not help."""
    administered(machine, lambda esys: esys.hierarchy_change_auth(tpm2_pytss.ESYS_TR.OWNER, b"a password"))
    assert reason(machine.make) is TpmReason.OWNER_PROTECTED


def test_a_bank_that_is_switched_off(machine: Machine) -> None:
    """Only the sha256 bank counts."""

    def allocate(esys: Any) -> None:
        chosen = bytes.fromhex("00000002 0004 03 ffffff 000b 03 000000")
        banks, _ = tpm2_pytss.TPML_PCR_SELECTION.unmarshal(chosen)
        esys.pcr_allocate(banks)

    administered(machine, allocate)
    machine.tpm.restart()
    assert reason(machine.make) is TpmReason.BANK_MISSING


def test_a_tpm_that_others_filled_is_busy(machine: Machine) -> None:
    """Three objects are all there is room for, where no resource manager is."""
    _, token = machine.make()

    def fill(esys: Any) -> None:
        public = tpm2_pytss.TPM2B_PUBLIC(tpm2_pytss.TPMT_PUBLIC.unmarshal(srk_template())[0])
        for _ in range(2):
            esys.create_primary(tpm2_pytss.TPM2B_SENSITIVE_CREATE(), public)

    administered(machine, fill)
    assert len(loaded_handles(machine.tpm)) == 2
    for act in (machine.make, lambda: machine.recover(token)):
        assert reason(act) is TpmReason.BUSY
    assert len(loaded_handles(machine.tpm)) == 2


# ---- in the middle ---------------------------------------------------------------------------------------------------


def test_one_opening_serves_all_volumes(machine: Machine) -> None:
    """Until it fails; the next use opens it again."""
    with TpmConnection(machine.tpm.tcti) as connection:
        provider = machine.provider(connection)
        token = provider.make("STATE", KEY).token
        with connection.use() as first:
            pass
        provider.recover("EPHEMERAL", KEY, token)
        with connection.use() as second:
            assert second is first
        machine.tpm.power_off()
        assert reason(lambda: provider.recover("EPHEMERAL", KEY, token)) is TpmReason.FAILED
        machine.tpm.power_on()
        boot(machine.tpm)
        provider.recover("EPHEMERAL", KEY, token)


@pytest.mark.parametrize("operation", ["check_bank", "pcr_values", "seal", "unseal", "srk_name"])
def test_a_tpm_that_dies_in_the_middle(machine: Machine, monkeypatch: pytest.MonkeyPatch, operation: str) -> None:
    """Before each thing that is asked of it; nothing is said but that it failed."""
    original = getattr(Tpm, operation)

    def dying(tpm: Tpm, *arguments: object) -> object:
        machine.tpm.power_off()
        return original(tpm, *arguments)

    _, token = machine.make()
    boot(machine.tpm, firmware=b"changed, so that the root key is compared, too")
    monkeypatch.setattr(Tpm, operation, dying)
    act = machine.make if operation in {"seal", "unseal"} else (lambda: machine.recover(token))
    assert reason(act) is TpmReason.FAILED


def test_every_command_may_be_the_last(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut after each single command of an unseal: always the same answer, and the next boot finds the key."""
    key, token = machine.make()
    original = Esys._call
    cut_at = 0
    while True:
        done = 0

        def counted(esys: Esys, *arguments: Any) -> None:
            nonlocal done
            done += 1
            if done == cut_at:  # noqa: B023  # called within this turn only
                machine.tpm.power_off()
            original(esys, *arguments)

        monkeypatch.setattr(Esys, "_call", counted)
        cut_at += 1
        try:
            assert machine.recover(token) == key
        except TpmUnavailable as error:
            assert error.reason is TpmReason.FAILED  # noqa: PT017  # most cuts raise, some come too late to matter
        monkeypatch.undo()
        if done < cut_at:
            break
        if machine.tpm.is_off:
            boot(machine.tpm)
    assert cut_at > 15


def test_a_pcr_that_moves_in_the_middle_is_busy(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read a moment ago does not hold any more; asking again tells how it is now."""
    measured = iter([b"somebody measures"])
    unsealing = Tpm.unseal

    def interrupted(tpm: Tpm, *arguments: Any) -> Any:
        for event in measured:
            digest = tpm2_pytss.TPMT_HA(
                hashAlg=tpm2_pytss.TPM2_ALG.SHA256, digest=tpm2_pytss.TPMU_HA(sha256=event.ljust(32))
            )
            esys = tpm._esys  # a software TPM talks to one program at a time, and this one has it
            extended = (7, *esys._sessions(esys._lib.ESYS_TR_PASSWORD), tpm2_pytss.TPML_DIGEST_VALUES([digest])._cdata)
            esys._call("extend", esys._lib.Esys_PCR_Extend, *extended)
        return unsealing(tpm, *arguments)

    monkeypatch.setattr(Tpm, "unseal", interrupted)
    assert reason(machine.make) is TpmReason.BUSY
    assert loaded_handles(machine.tpm) == []


def test_a_tpm_that_hangs_is_slow(machine: Machine) -> None:
    """The caller goes on in time; when the TPM answers at last, the next call is served."""
    token = machine.make()[1]
    told: list[str] = []
    with TpmConnection(machine.tpm.tcti) as connection:
        run = TpmRun(told.append, connection, timeout_s=0.2)
        machine.tpm.freeze()
        provider = run.provider(TpmPolicy())
        for act in (lambda: provider.make(VOLUME, KEY), lambda: list(provider.recover(VOLUME, KEY, token))):
            assert reason(act) is TpmReason.SLOW
        assert reason(lambda: run.vouching(TpmPolicy(), KEY, token)) is TpmReason.SLOW
        machine.tpm.thaw()
        patient = TpmRun(None, connection, timeout_s=60)
        made = patient.provider(LITERAL).make(VOLUME, KEY)
        (candidate,) = patient.provider(LITERAL).recover(VOLUME, KEY, made.token)
        assert candidate == made.key
    assert loaded_handles(machine.tpm) == []


def test_two_threads_take_turns(machine: Machine) -> None:
    """A TPM takes one command at a time."""
    key, token = machine.make()
    found: list[bytes] = []
    with TpmConnection(machine.tpm.tcti) as connection:

        def recover() -> None:
            (candidate,) = machine.provider(connection).recover(VOLUME, KEY, token)
            with candidate.view() as view:
                found.append(bytes(view))

        threads = [threading.Thread(target=recover) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [key] * 4


# ---- codes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rc", "operation", "expected"),
    [
        (0x922, "unseal", TpmReason.BUSY),
        (0x908, "unseal", TpmReason.BUSY),
        (0x90A, "unseal", TpmReason.BUSY),
        (0x921, "unseal", TpmReason.LOCKED_OUT),
        (0xB0921, "unseal", TpmReason.LOCKED_OUT),
        (0x902, MAKE_ROOT, TpmReason.BUSY),
        (0x128, "unseal", TpmReason.BUSY),
        (0x100, "open", TpmReason.FAILED),
        (0x101, "unseal", TpmReason.FAILED),
        (0x01E, "read PCRs", TpmReason.NOT_TPM2),
        (0x9A2, MAKE_ROOT, TpmReason.OWNER_PROTECTED),
        (0x98E, MAKE_ROOT, TpmReason.OWNER_PROTECTED),
        (0x185, MAKE_ROOT, TpmReason.OWNER_PROTECTED),
        (0x1C4, MAKE_ROOT, TpmReason.FAILED),
        (0x9A2, "unseal", TpmReason.FAILED),
        (0x1DF, LOAD, TpmReason.DAMAGED),
        (0x2D5, LOAD, TpmReason.DAMAGED),
        (0x9000B, LOAD, TpmReason.DAMAGED),
        (0x902, LOAD, TpmReason.BUSY),
        (0x2DB, VERIFY, TpmReason.NO_SIGNATURE),
        (0x2D5, VERIFY, TpmReason.NO_SIGNATURE),
        (0x99D, "unseal", TpmReason.FAILED),
        (0xA000A, "unseal", TpmReason.FAILED),
        (0xA0008, "open", TpmReason.NO_DEVICE),
        (0x70009, "unseal", TpmReason.BUSY),
        (0x80010, "read PCRs", TpmReason.NOT_TPM2),
        (0xA0001, "open", TpmReason.FAILED),
    ],
)
def test_codes_are_told_apart(rc: int, operation: str, expected: TpmReason) -> None:
    """Each with the code itself in the message; what nobody foresaw is a failure that may pass."""
    error = translate(rc, operation)
    assert error.reason is expected
    assert f"({operation}: {rc:#x})" in str(error)


def test_nothing_that_may_pass_looks_like_a_lost_key() -> None:
    """Whatever code an unseal ends with: what is lost is known before."""
    for rc in range(0x1000):
        for layer in (0, 0xB0000):
            error = translate(layer | rc, "unseal")
            assert error.reason not in {TpmReason.PCR_MISMATCH, TpmReason.SRK_CHANGED, TpmReason.DAMAGED}
