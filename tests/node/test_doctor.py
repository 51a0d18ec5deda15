"""doctor finds one thing at a time on a node that is well but for it, with the weight it has and a way to mend it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from luksctl.devices.tables import TableLine
from luksctl.devices.unit_states import UnitState
from luksctl.errors import DeviceError, MissingFunction
from luksctl.model.bookkeeping import Bookkeeping, Purpose, SlotNote, Underway, encode
from luksctl.model.config import EPHEMERAL, META, STATE
from luksctl.model.intent import FormatIntent, FormatPhase
from luksctl.node.check import check
from luksctl.node.checked import FILE_NAME
from luksctl.node.doctor import examine
from luksctl.node.finding import Surroundings, Weight
from luksctl.node.report import Report, VolumeState, write_report
from luksctl.node.units import CHECK_SERVICE, CHECK_TIMER, mount_unit
from luksctl.units import KIB, MIB
from tests.cryptsetup.forging import forge_json, overwrite
from tests.node.clinic import NOW, Bench, header_uuid, no_mkfs, only
from tests.node.image_node import document, static
from tests.reconcile.providers import FakeProviders

DAY_S = 86400


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Return a node without findings."""
    return Bench(tmp_path)


def test_a_node_that_is_well_has_no_findings(bench: Bench) -> None:
    """Code 0; no key is derived, and not one byte is written."""

    def never(*_: object) -> None:
        raise AssertionError("a key was tried")

    vars(bench.at.node.ports.headers)["test_key"] = never
    before = bench.at.bytes_of()
    found = bench.examine()
    assert (found.findings, found.exit_code) == ((), 0)
    assert bench.at.bytes_of() == before


# ---- one thing at a time --------------------------------------------------------------------------------------------


def _wrong_config(bench: Bench) -> None:
    (bench.at.state / "config.yaml").write_text("kind: VolumeConfig\nname: STATE\n", encoding="utf-8")


def _torn_meta(bench: Bench) -> None:
    overwrite(str(bench.at.images[META]), 100, b"\xff")


def _no_meta(bench: Bench) -> None:
    bench.at.images[META].unlink()


def _bad_expectations(bench: Bench) -> None:
    Path(bench.at.paths.expected_encrypted).write_text("{", encoding="utf-8")


def _old_library(bench: Bench) -> None:
    bench.library = MissingFunction("too old", errno=38, hint="install libcryptsetup12")


def _no_timer(bench: Bench) -> None:
    bench.unit(CHECK_TIMER, load="not-found", active="inactive", file="")


def _stopped_timer(bench: Bench) -> None:
    bench.unit(CHECK_TIMER, active="inactive")


def _failed_check(bench: Bench) -> None:
    bench.unit(CHECK_SERVICE, active="failed")


def _unit_not_enabled(bench: Bench) -> None:
    bench.unit(mount_unit(str(bench.at.state)), file="disabled")


def _unit_gone(bench: Bench) -> None:
    bench.unit(f"luksctl-open@{STATE}.service", load="not-found")


def _unit_failed(bench: Bench) -> None:
    bench.unit(f"luksctl-open@{STATE}.service", active="failed")


def _not_mounted(bench: Bench) -> None:
    bench.at.open(EPHEMERAL)
    bench.at.format(EPHEMERAL, {0: "first"})
    bench.at.configure(
        document(STATE, static(0, "first"), static(1, "second")), document(EPHEMERAL, static(0, "first"))
    )
    bench.at.system.mounts.pop(str(bench.at.ephemeral))
    check(bench.at.node, (EPHEMERAL,), lambda: NOW)


def _something_else_mounted(bench: Bench) -> None:
    _not_mounted(bench)
    bench.at.system.mounts[str(bench.at.ephemeral)] = "/dev/sdz1"


def _note_of_the_last_attempt(bench: Bench) -> None:
    write_report(bench.at.node, Report(STATE, VolumeState.OPEN, notes=("slot 1: dial kms: refused",)))


def _damaged_copy(bench: Bench) -> None:
    partition = str(bench.at.images[STATE])
    bench.at.node.ports.meta.update_record(lambda record: record.with_finished(STATE, partition, encrypted=True))
    overwrite(partition, 16 * KIB + 4096, b"\0")


def _meta_behind(bench: Bench) -> None:
    bench.at.node.ports.meta.write_state_encryption(None)


def _work_to_do(bench: Bench) -> None:
    intent = FormatIntent(STATE, str(bench.at.images[STATE]), header_uuid(bench), phase=FormatPhase.FINISH)
    bench.at.node.ports.meta.update_record(lambda record: record.with_intent(intent))


def _another_slot(bench: Bench) -> None:
    bench.at.configure(document(STATE, static(0, "first")))
    bench.at.follow_in_meta()


def _books(bench: Bench, books: Bookkeeping) -> None:
    bench.at.set_token(STATE, 30, encode(books, "0" * 64))
    _another_slot(bench)


def _spare_left(bench: Bench) -> None:
    _books(bench, Bookkeeping(1, underway=(Underway(1, 0),)))


def _dropped_left(bench: Bench) -> None:
    _books(bench, Bookkeeping(1, notes=(SlotNote(1, Purpose.CONFIG, 1),)))


def _out_of_sync(bench: Bench) -> None:
    write_report(bench.at.node, Report(STATE, VolumeState.OPEN, in_sync=False))


def _missing_slot(bench: Bench) -> None:
    bench.at.configure(document(STATE, static(0, "first"), static(1, "second"), static(4, "fourth")))
    bench.at.follow_in_meta()


def _stray_token(bench: Bench) -> None:
    bench.at.set_token(STATE, 9, json.dumps({"type": "sideroKMS", "keyslots": []}))


def _no_bounds(bench: Bench) -> None:
    forge_json(str(bench.at.images[STATE]), lambda header: header["keyslots"]["1"]["kdf"].update(time=2**32 - 1))
    check(bench.at.node, (STATE,), lambda: NOW)


def _too_large(bench: Bench) -> None:
    forge_json(str(bench.at.images[STATE]), lambda header: header["keyslots"]["1"]["kdf"].update(memory=2 * MIB))
    _prove(bench, 1)


def _prove(bench: Bench, *slots: int) -> None:
    """Say in the file that these slots work, whatever they hold."""
    path = bench.at.state / FILE_NAME
    vars(bench.at.node.ports.headers)["test_key"] = lambda *_: None
    check(bench.at.node, (STATE,), lambda: NOW)
    del vars(bench.at.node.ports.headers)["test_key"]
    assert {entry["slot"] for entry in json.loads(path.read_bytes())["slots"]} >= set(slots)


def _down(bench: Bench) -> None:
    keys = FakeProviders(recovers_before_down={1: 0})
    bench.at.with_provider(keys.provider)


def _another_machine(bench: Bench) -> None:
    bench.at.with_provider(FakeProviders(explain={1: "the volume was formatted on another machine"}).provider)


def _not_proven_for_long(bench: Bench) -> None:
    check(bench.at.node, (STATE,), lambda: NOW - 19 * DAY_S)
    document_ = json.loads((bench.at.state / FILE_NAME).read_bytes())
    document_["slots"][0]["provenAt"] = "2027-01-15T07:00:00Z"
    (bench.at.state / FILE_NAME).write_text(json.dumps(document_), encoding="utf-8")


def _failed_last_time(bench: Bench) -> None:
    path = bench.at.state / FILE_NAME
    path.write_text(path.read_text(encoding="utf-8").replace("works", "rejected", 1), encoding="utf-8")


def _never_proven(bench: Bench) -> None:
    bench.at.replace_key(STATE, 1, "second", "second")


RISK, BROKEN, NOTE = Weight.RISK, Weight.BROKEN, Weight.NOTE
ONE_AT_A_TIME: list[tuple[Callable[[Bench], None], Weight, str, str]] = [
    (_torn_meta, RISK, "META is second copy only", "luksctl boot STATE"),
    (_no_meta, RISK, "META is not there", "put its disk back"),
    (_bad_expectations, RISK, "which volumes must be encrypted", "luksctl enable --encrypted"),
    (_old_library, BROKEN, "too old", "install libcryptsetup12"),
    (_no_timer, RISK, "no luksctl-check.timer", "luksctl enable"),
    (_stopped_timer, RISK, "luksctl-check.timer is inactive", "systemctl start luksctl-check.timer"),
    (_failed_check, RISK, "the last check failed", "luksctl check"),
    (no_mkfs, RISK, "mkfs.ext4 is not installed", "apt-get install e2fsprogs"),
    (_unit_not_enabled, RISK, "not there or not enabled", "luksctl enable"),
    (_unit_gone, RISK, "luksctl-open@STATE.service not there", "luksctl enable"),
    (_unit_failed, RISK, "luksctl-open@STATE.service failed", "journalctl -b -u luksctl-open@STATE.service"),
    (_not_mounted, BROKEN, "it is not mounted at", "systemctl start"),
    (_something_else_mounted, BROKEN, "something else is mounted at", "umount"),
    (_note_of_the_last_attempt, NOTE, "dial kms: refused", "luksctl plan STATE"),
    (_damaged_copy, RISK, "the header copies do not agree: first only", "luksctl boot STATE"),
    (_meta_behind, RISK, "META does not hold the keys of STATE", "luksctl sync STATE"),
    (_work_to_do, RISK, "it is not as configured", "luksctl plan STATE"),
    (_another_slot, NOTE, "slot 1 is no configured key's", "luksctl status STATE"),
    (_spare_left, RISK, "slot 1 is left of a change", "luksctl sync STATE"),
    (_dropped_left, RISK, "slot 1 is left of a change", "luksctl sync STATE"),
    (_out_of_sync, RISK, "not made those of the config", "luksctl sync STATE"),
    (_missing_slot, RISK, "slot 4 (static) is configured, and the header has no such", "luksctl sync STATE"),
    (_stray_token, RISK, "token 9 (sideroKMS) belongs to no keyslot", "cryptsetup token remove --token-id 9"),
    (_no_bounds, RISK, "slot 1 (static): the header asks for time 4294967295", "restore it from a backup"),
    (_too_large, RISK, "slot 1 (static) takes 2 GiB of memory", "another slot in the config"),
    (_down, RISK, "slot 1 (static): dial kms.example:4050", "is the KMS up?"),
    (_another_machine, RISK, "slot 1 (static): the volume was formatted on another machine", "another key"),
    (_not_proven_for_long, RISK, "slot 1 (static) was last proven 19 days ago", "luksctl check STATE"),
    (_failed_last_time, RISK, "slot 0 (static) did not open at the last check", "luksctl check STATE"),
    (_never_proven, NOTE, "slot 1 (static) was never proven", "luksctl check STATE"),
]


@pytest.mark.parametrize(
    ("disturb", "weight", "what", "fix"), ONE_AT_A_TIME, ids=lambda each: getattr(each, "__name__", "")
)
def test_one_thing_is_found_alone(
    bench: Bench, disturb: Callable[[Bench], None], weight: Weight, what: str, fix: str
) -> None:
    """Nothing else is said about a node that is well but for this, and the exit code follows its weight."""
    disturb(bench)
    before = bench.at.bytes_of(STATE, EPHEMERAL)
    volumes = (EPHEMERAL,) if disturb in (_not_mounted, _something_else_mounted) else (STATE,)
    found = bench.examine(*volumes)
    finding = only(found)
    assert finding.weight is weight
    assert what in finding.what
    assert fix in (finding.fix or "")
    assert found.exit_code == {BROKEN: 4, RISK: 5, NOTE: 0}[weight]
    assert bench.at.bytes_of(STATE, EPHEMERAL) == before


def test_a_wrong_config_is_told_problem_by_problem(bench: Bench) -> None:
    """Each with its line and how to mend it; nothing opens by such a config."""
    _wrong_config(bench)
    found = bench.examine()
    assert found.exit_code == 4
    assert all(finding.what.startswith("the machine config is wrong") for finding in found.findings)
    assert "config.yaml:1" in found.findings[0].what


def test_an_unreadable_meta_is_broken(bench: Bench) -> None:
    """Neither copy is valid: nobody knows what it said."""
    for offset in (100, 256 * KIB + 100):
        overwrite(str(bench.at.images[META]), offset, b"\xff")
    found = bench.examine()
    assert found.exit_code == 4
    assert found.findings[0].what.startswith("META is unreadable")


def test_a_node_without_config_says_so_once(tmp_path: Path) -> None:
    """Code 12; it is the node that has none, not each of its volumes."""
    bench = Bench(tmp_path)
    (bench.at.state / "config.yaml").unlink()
    bench.at.node.ports.meta.write_state_encryption(None)
    found = bench.examine(STATE, EPHEMERAL)
    assert found.exit_code == 12
    assert [finding.fix for finding in found.findings].count("luksctl apply-config --insecure -f FILE") == 1


def test_systemd_that_does_not_answer_is_a_note(bench: Bench) -> None:
    """In a rescue shell everything else is looked at all the same."""

    def silent(_: tuple[str, ...]) -> dict[str, UnitState]:
        raise DeviceError("systemctl is not installed")

    around = Surroundings(tuple, silent, lambda _: None, lambda: None, lambda: NOW)
    found = examine(bench.at.node, around, (STATE,))
    assert (only(found).weight, found.exit_code) == (NOTE, 0)


def test_tables_that_cannot_be_read_are_a_note(bench: Bench) -> None:
    """Somebody who is not root looks."""

    def closed() -> tuple[TableLine, ...]:
        raise PermissionError(13, "Permission denied")

    around = Surroundings(closed, lambda _: bench.units, lambda _: None, lambda: None, lambda: NOW)
    assert "cannot be read" in only(examine(bench.at.node, around, (STATE,))).what


def test_a_recovery_key_is_no_finding(bench: Bench) -> None:
    """It is in no config, and has to be there."""
    _books(bench, Bookkeeping(1, notes=(SlotNote(1, Purpose.RECOVERY, 1),)))
    assert bench.examine().findings == ()
