"""TPM keys by the command line: looked ahead for, lost, and sealed anew."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from luksctl.node.report import Report, VolumeState
from luksctl.providers.tpm import TpmProvider
from luksctl.providers.tpm_connection import TpmConnection
from luksctl.value import as_dict
from tests.cli.desk import PASSPHRASE, Desk
from tests.providers.measured_boot import IMAGE, Machine, boot, event_log, extend, image_value
from tests.providers.swtpm import Swtpm

CONFIG = f"""\
apiVersion: v1alpha1
kind: VolumeConfig
name: EPHEMERAL
encryption:
  provider: luks2
  keys:
    - {{slot: 0, tpm: {{}}}}
    - {{slot: 1, static: {{passphrase: {PASSPHRASE}}}}}
---
apiVersion: luksctl/v1alpha1
kind: EncryptionPolicy
kdf: {{time: 4, memory: 32KiB, threads: 1}}
tpm: {{literalPCRs: true, reseal: REPLACED}}
"""


@pytest.fixture
def tpm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Swtpm]:
    """Return the machine's TPM, after firmware measured something into PCR 7."""
    with Swtpm() as found:
        for module in ("luksctl.providers.tpm_run", "luksctl.node.tpm_preflight"):
            monkeypatch.setattr(f"{module}.TpmConnection", partial(TpmConnection, found.tcti))
        extend(found, 7, b"firmware")
        yield found


def with_tpm_key(desk: Desk, reseal: str = "auto") -> Desk:
    """Return the machine with an EPHEMERAL of ours, whose slot 0 has a key in the TPM."""
    desk.format("ephemeral", slots={1: PASSPHRASE})
    desk.write_config(CONFIG.replace("REPLACED", reseal))
    assert desk.run("adopt", "EPHEMERAL").code == 0
    answer = desk.run("sync", "EPHEMERAL")
    assert answer.code == 0, answer.err
    return desk


def test_preflight_says_which_slots_will_open(desk: Desk, tpm: Swtpm) -> None:
    """Exit code 0 where all will, 5 where one will not; the same in JSON; no byte is written."""
    with_tpm_key(desk)
    before = desk.bytes_of("ephemeral", "meta")
    will = desk.run("--json", "tpm", "preflight")
    assert will.code == 0
    because = "PCR 7 will be as it was"
    assert will.json["slots"] == [{"volume": "EPHEMERAL", "slot": 0, "opens": True, "because": because}]
    will_not = desk.run("tpm", "preflight", "EPHEMERAL", "--pcr", f"7={'ab' * 32}")
    assert will_not.code == 5
    assert "will not open" in will_not.out
    tpm.power_off()
    assert desk.run("tpm", "preflight").code == 6
    assert desk.bytes_of("ephemeral", "meta") == before


@pytest.mark.parametrize(
    "given", ["7", "7=abcd", "x=" + "00" * 32, "24=" + "00" * 32, "-1=" + "00" * 32, "7=" + "0g" * 32]
)
def test_what_is_no_pcr_value(desk: Desk, given: str) -> None:
    """It is quoted, and nothing is looked at."""
    answer = desk.run("--json", "tpm", "preflight", f"--pcr={given}")
    assert answer.code == 64
    assert given in answer.json["cause"]


def test_a_volume_without_tpm_keys_has_nothing_to_look_ahead_for(desk: Desk) -> None:
    """Success would be misread."""
    answer = desk.run("tpm", "preflight", "STATE")
    assert answer.code == 3
    assert "no tpm key is configured for STATE" in answer.err


def test_a_sync_by_hand_is_somebodys_word(desk: Desk, tpm: Swtpm) -> None:
    """The key is lost by new firmware; check says so, sync seals another one, and check is content."""
    with_tpm_key(desk)
    assert desk.run("check", "EPHEMERAL").code == 0
    extend(tpm, 7, b"other firmware")
    found = desk.run("check", "EPHEMERAL")
    assert found.code == 5
    assert "PCR 7 is " in found.out
    synced = desk.run("sync", "EPHEMERAL")
    assert synced.code == 0, synced.err
    assert "slot 0: sealed anew, because changed since the key was sealed: PCR 7 is " in synced.err
    assert desk.run("check", "EPHEMERAL").code == 0
    assert desk.run("tpm", "preflight").code == 0


def test_where_the_policy_asks_only_the_command_seals_anew(desk: Desk, tpm: Swtpm) -> None:
    """It is named by what the sync says."""
    with_tpm_key(desk, "ask")
    extend(tpm, 7, b"other firmware")
    refused = desk.run("sync", "EPHEMERAL")
    assert refused.code == 5
    assert "not sealed anew: the policy asks first (luksctl keys rotate EPHEMERAL --slot 0)" in refused.err
    rotated = desk.run("keys", "rotate", "EPHEMERAL", "--slot", "0")
    assert rotated.code == 0, rotated.err
    assert desk.run("check", "EPHEMERAL").code == 0


def test_what_a_boot_found_out_of_sync_is_not_told_after_the_command_it_named(desk: Desk, tpm: Swtpm) -> None:
    """Status goes by the last attempt's report, so a rotation that brought all in sync is noted there."""
    with_tpm_key(desk, "ask")
    found = Report("EPHEMERAL", VolumeState.OPEN, device=str(desk.path("ephemeral")), in_sync=False)
    report = Path(desk.paths.report("EPHEMERAL"))
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(json.dumps(as_dict(found)), encoding="utf-8")
    extend(tpm, 7, b"other firmware")
    findings = "the keyslots are not those of the config (luksctl sync)"
    assert findings in desk.run("--json", "status", "EPHEMERAL").out
    assert desk.run("keys", "rotate", "EPHEMERAL", "--slot", "0").code == 0
    assert findings not in desk.run("--json", "status", "EPHEMERAL").out


def test_a_recovery_key_serves_where_the_tpm_had_the_only_one(desk: Desk, tpm: Swtpm) -> None:
    """Nothing configured opens any more; with the recovery key the sync goes on, and the TPM has a key again."""
    with_tpm_key(desk)
    desk.write_config(
        CONFIG.replace("REPLACED", "auto").replace(f"    - {{slot: 1, static: {{passphrase: {PASSPHRASE}}}}}\n", "")
    )
    assert desk.run("sync", "EPHEMERAL").code == 0
    key = desk.directory / "recovery-key"
    key.write_text(desk.run("recovery", "add", "EPHEMERAL").out, encoding="ascii")
    extend(tpm, 7, b"other firmware")
    assert desk.run("sync", "EPHEMERAL").code in {4, 6}
    with key.open("rb") as stream:
        answer = desk.run("sync", "EPHEMERAL", "--recovery", "--key-fd", str(stream.fileno()))
    assert answer.code == 0, answer.err
    assert "sealed anew" in answer.err
    assert desk.run("check", "EPHEMERAL").code == 0


def test_a_descriptor_without_a_recovery_key_is_a_mistake(desk: Desk) -> None:
    """It would be read by nobody, and the sync would take the keys of the config."""
    answer = desk.run("sync", "EPHEMERAL", "--key-fd", "7")
    assert answer.code == 64
    assert "luksctl sync --recovery --key-fd" in answer.err


def signed_boot(desk: Desk, tpm: Swtpm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Boot an image that is signed for one phase, and be in that phase."""
    machine = Machine(tpm, desk.directory)
    machine.files.sign(image_value(IMAGE))
    machine.event_log.write_bytes(event_log((11, 13, IMAGE)))
    placed = partial(TpmProvider, directories=(str(machine.files.directory),), event_log=str(machine.event_log))
    monkeypatch.setattr("luksctl.providers.tpm_run.TpmProvider", placed)
    boot(tpm)


def test_a_node_that_is_up_leaves_new_keys_to_the_next_boot(
    desk: Desk, tpm: Swtpm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both for a key that is new in the config and for a rotation; exit code 7, and status says it."""
    signed_boot(desk, tpm, monkeypatch)
    signed = CONFIG.replace("literalPCRs: true, reseal: REPLACED", "reseal: auto")
    desk.format("ephemeral", slots={1: PASSPHRASE})
    desk.write_config(signed.replace("    - {slot: 0, tpm: {}}\n", ""))
    assert desk.run("adopt", "EPHEMERAL").code == 0
    desk.write_config(signed)
    extend(tpm, 11, b"leave-initrd")
    late = desk.run("--json", "sync", "EPHEMERAL")
    assert late.code == 7, late.err
    assert "the next one does it" in late.json["volumes"][0]["nextBoot"]
    assert late.json["volumes"][0]["problems"] == []
    boot(tpm)
    assert desk.run("sync", "EPHEMERAL").code == 0
    extend(tpm, 11, b"leave-initrd")
    rotated = desk.run("--json", "keys", "rotate", "EPHEMERAL")
    assert rotated.code == 7, rotated.err
    (entry,) = rotated.json["rotated"]
    assert (entry["slots"], entry["staged"]) == ([], [0])
    before = desk.bytes_of("ephemeral")
    again = desk.run("keys", "rotate", "EPHEMERAL", "--slot", "0")
    assert again.code == 7
    assert "EPHEMERAL: this boot is past making keys for slots 0; the next one makes them" in again.out
    assert desk.run("sync", "EPHEMERAL").code == 0
    assert "new key at the next boot" in desk.run("status", "EPHEMERAL").out
    assert desk.bytes_of("ephemeral") == before


def test_a_lost_key_is_left_to_the_next_boot_too(desk: Desk, tpm: Swtpm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 7 by the command that a sync names; until that boot the volume is not in sync, and status says both."""
    signed_boot(desk, tpm, monkeypatch)
    with_tpm_key(desk)
    desk.write_config(CONFIG.replace("literalPCRs: true, reseal: REPLACED", "reseal: auto"))
    assert desk.run("keys", "rotate", "EPHEMERAL", "--slot", "0").code == 0
    report = Path(desk.paths.report("EPHEMERAL"))
    report.parent.mkdir(parents=True, exist_ok=True)
    found = Report("EPHEMERAL", VolumeState.OPEN, device=str(desk.path("ephemeral")), in_sync=True)
    report.write_text(json.dumps(as_dict(found)), encoding="utf-8")
    boot(tpm, firmware=b"other firmware", phases=("enter-initrd", "leave-initrd"))
    refused = desk.run("sync", "EPHEMERAL")
    assert refused.code == 5
    assert "this boot is past making its key" in refused.err
    assert "(luksctl keys rotate EPHEMERAL --slot 0)" in refused.err
    rotated = desk.run("--json", "keys", "rotate", "EPHEMERAL", "--slot", "0")
    assert rotated.code == 7, rotated.err
    assert rotated.json["rotated"][0]["staged"] == [0]
    assert json.loads(report.read_text(encoding="utf-8"))["in_sync"] is False
    assert desk.run("sync", "EPHEMERAL").code == 7
    assert "new key at the next boot" in desk.run("status", "EPHEMERAL").out


def test_other_pcrs_in_the_config_bind_the_key_anew(desk: Desk, tpm: Swtpm) -> None:
    """The sync makes a key that is bound to them, and the next one has nothing to do."""
    with_tpm_key(desk)
    extend(tpm, 4, b"a boot loader")
    desk.write_config(CONFIG.replace("REPLACED", "never").replace("tpm: {}}", "tpm: {options: {pcrs: [7, 4]}}}"))
    dry = desk.run("sync", "EPHEMERAL", "--dry-run")
    assert dry.code == 8, dry.err
    assert desk.run("sync", "EPHEMERAL").code == 0
    before = desk.bytes_of("ephemeral")
    assert desk.run("sync", "EPHEMERAL").code == 0
    assert desk.bytes_of("ephemeral") == before
    extend(tpm, 4, b"another one")
    found = desk.run("check", "EPHEMERAL")
    assert found.code == 5
    assert "PCR 4 is " in found.out
