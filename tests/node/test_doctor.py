"""doctor finds one thing at a time on a node that is well but for it, with the weight it has and a way to mend it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from luksctl.devices.locks import volume_lock
from luksctl.devices.tables import TableLine
from luksctl.devices.unit_states import UnitState
from luksctl.errors import DeviceError, Locked, LuksctlError, MissingFunction
from luksctl.model.config import EPHEMERAL, META, STATE, Filesystem
from luksctl.model.intent import FormatIntent, FormatPhase
from luksctl.model.meta import TAG_UUID_OVERRIDE
from luksctl.node.check import check
from luksctl.node.checked import FILE_NAME
from luksctl.node.doctor import Diagnosis, examine
from luksctl.node.finding import Finding, Surroundings, Weight
from luksctl.node.report import Report, VolumeState, failure_report, write_report
from luksctl.node.units import CHECK_SERVICE, CHECK_TIMER, mount_unit
from luksctl.units import KIB, MIB
from luksctl.value import replace
from luksctl.wiring import meta_store
from tests.cryptsetup.forging import forge_json, overwrite
from tests.node.image_node import ImageNode, document, static
from tests.reconcile.providers import FakeProviders, kms

NOW = 1_800_000_000.0
DAY_S = 86400


class Bench:
    """A node that is well, and what surrounds it: STATE is open and mounted, EPHEMERAL a closed second volume."""

    def __init__(self, directory: Path) -> None:
        self.at = ImageNode(directory)
        self.at.format(STATE, {0: "first", 1: "second"})
        self.at.configure(document(STATE, static(0, "first"), static(1, "second")))
        self.at.open(STATE)
        self.at.follow_in_meta()
        check(self.at.node, (STATE,), lambda: NOW - 60)
        self.at.told.clear()
        self.units = {name: UnitState(name, "loaded", "active", "enabled") for name in self._unit_names()}
        self.lines: tuple[TableLine, ...] = ()
        self.mkfs: dict[Filesystem, LuksctlError] = {}
        self.library: LuksctlError | None = None

    def _unit_names(self) -> Iterator[str]:
        yield from (CHECK_TIMER, CHECK_SERVICE)
        for volume, point in ((STATE, self.at.state), (EPHEMERAL, self.at.ephemeral)):
            yield f"luksctl-open@{volume}.service"
            yield mount_unit(str(point))

    def examine(self, *volumes: str, with_check: bool = False) -> Diagnosis:
        """Let the doctor look at STATE, or at what is named."""
        around = Surroundings(
            tables=lambda: self.lines,
            unit_states=lambda names: {name: self.units[name] for name in names if name in self.units},
            mkfs_problem=self.mkfs.get,
            library_problem=lambda: self.library,
            now_s=lambda: NOW,
        )
        return examine(self.at.node, around, volumes or (STATE,), with_check=with_check)

    def unit(self, name: str, **changes: str) -> None:
        """Change how a unit is."""
        self.units[name] = replace(self.units[name], **changes)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Return a node without findings."""
    return Bench(tmp_path)


def _only(found: Diagnosis) -> Finding:
    (finding,) = found.findings
    return finding


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


def _no_mkfs(bench: Bench) -> None:
    bench.mkfs[Filesystem.EXT4] = DeviceError("mkfs.ext4 is not installed", hint="apt-get install e2fsprogs")


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
    check(bench.at.node, (STATE,), lambda: NOW - 9 * DAY_S)
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
    (_no_mkfs, RISK, "mkfs.ext4 is not installed", "apt-get install e2fsprogs"),
    (_unit_not_enabled, RISK, "not there or not enabled", "luksctl enable"),
    (_unit_gone, RISK, "luksctl-open@STATE.service not there", "luksctl enable"),
    (_unit_failed, RISK, "luksctl-open@STATE.service failed", "journalctl -b -u luksctl-open@STATE.service"),
    (_not_mounted, BROKEN, "it is not mounted at", "systemctl start"),
    (_something_else_mounted, BROKEN, "something else is mounted at", "umount"),
    (_note_of_the_last_attempt, RISK, "dial kms: refused", "luksctl plan STATE"),
    (_damaged_copy, RISK, "the header copies do not agree: first only", "luksctl boot STATE"),
    (_meta_behind, RISK, "META does not hold the keys of STATE", "luksctl sync STATE"),
    (_work_to_do, RISK, "it is not as configured", "luksctl plan STATE"),
    (_another_slot, NOTE, "slot 1 is no configured key's", "luksctl status STATE"),
    (_missing_slot, RISK, "slot 4 (static) is configured, and the header has no such", "luksctl sync STATE"),
    (_stray_token, RISK, "token 9 (sideroKMS) belongs to no keyslot", "cryptsetup token remove --token-id 9"),
    (_no_bounds, RISK, "slot 1 (static): the header asks for time 4294967295", "restore it from a backup"),
    (_too_large, RISK, "slot 1 (static) takes 2 GiB of memory", "luksctl keys rotate STATE --slot 1"),
    (_down, RISK, "slot 1 (static): dial kms.example:4050", "is the KMS up?"),
    (_another_machine, RISK, "slot 1 (static): the volume was formatted on another machine", "another key"),
    (_not_proven_for_long, RISK, "slot 1 (static) was last proven 9 days ago", "luksctl check STATE"),
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
    finding = _only(found)
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
    assert (_only(found).weight, found.exit_code) == (NOTE, 0)


def test_tables_that_cannot_be_read_are_a_note(bench: Bench) -> None:
    """Somebody who is not root looks."""

    def closed() -> tuple[TableLine, ...]:
        raise PermissionError(13, "Permission denied")

    around = Surroundings(closed, lambda _: bench.units, lambda _: None, lambda: None, lambda: NOW)
    assert "cannot be read" in _only(examine(bench.at.node, around, (STATE,))).what


# ---- a volume that does not come up ---------------------------------------------------------------------------------


@pytest.fixture
def closed(bench: Bench) -> Bench:
    """Return a node whose EPHEMERAL is closed, and would open with either of two keys."""
    bench.at.format(EPHEMERAL, {0: "first", 1: "second"})
    keys = (static(0, "first"), static(1, "second"))
    bench.at.configure(document(STATE, *keys), document(EPHEMERAL, *keys))
    check(bench.at.node, (EPHEMERAL,), lambda: NOW)
    bench.at.told.clear()
    return bench


def test_a_closed_volume_that_nobody_tried_is_to_be_opened(closed: Bench) -> None:
    """The fix is to open it."""
    found = closed.examine(EPHEMERAL)
    assert (_only(found).what, _only(found).fix, found.exit_code) == ("it is closed", "luksctl boot EPHEMERAL", 4)


def test_the_report_of_a_failed_attempt_explains_a_closed_volume(closed: Bench) -> None:
    """What the boot said is repeated, with its hint; it is not said again that the volume is closed."""
    write_report(closed.at.node, failure_report(EPHEMERAL, Locked("no configured key opened it", hint="look here")))
    finding = _only(closed.examine(EPHEMERAL))
    assert (finding.weight, finding.fix) == (BROKEN, "look here")
    assert "no configured key opened it" in finding.what


def test_obstacles_are_broken_where_no_key_is_left(closed: Bench) -> None:
    """One key with an obstacle is a risk while another could serve; all of them are why it does not open."""
    closed.at.with_provider(FakeProviders(explain={1: "sealed elsewhere"}).provider)
    weights = {finding.slot: finding.weight for finding in closed.examine(EPHEMERAL).findings}
    assert weights[1] is RISK
    closed.at.with_provider(FakeProviders(explain={0: "sealed elsewhere", 1: "sealed elsewhere"}).provider)
    weights = {finding.slot: finding.weight for finding in closed.examine(EPHEMERAL).findings}
    assert (weights[0], weights[1]) == (BROKEN, BROKEN)


def test_another_machine_is_known_by_its_uuid(closed: Bench) -> None:
    """The real provider explains it: META remembers which machine formatted the volume."""
    closed.at.configure(document(STATE, static(0, "first")), document(EPHEMERAL, "slot: 0, nodeID: {}"))
    store = meta_store(closed.at.settings)
    store.write_tag(TAG_UUID_OVERRIDE, b"4c4c4544-0042-3510-8052-b7c04f4e3132")
    closed.at.node.note_machine()
    assert not any("another machine" in finding.what for finding in closed.examine(EPHEMERAL).findings)
    store.write_tag(TAG_UUID_OVERRIDE, b"11111111-2222-3333-8052-b7c04f4e3132")
    first = closed.examine(EPHEMERAL).findings[0]
    assert (first.weight, first.slot) == (BROKEN, 0)
    assert "formatted on another machine" in first.what


def test_a_key_without_its_token_is_found(closed: Bench) -> None:
    """A kms key is nowhere but in its token."""
    closed.at.configure(document(EPHEMERAL, "slot: 0, kms: {endpoint: 'https://kms.example:4050'}"))
    found = closed.examine(EPHEMERAL).findings
    assert any("no token to recover its key by" in finding.what and finding.weight is BROKEN for finding in found)


def test_a_refusal_is_told_with_its_hint(closed: Bench) -> None:
    """No device; foreign data: what the next boot would say."""
    closed.at.images[EPHEMERAL].write_bytes(b"somebody's data" * 99999)
    first = closed.examine(EPHEMERAL).findings[0]
    assert (first.weight, "holds data that no known signature explains" in first.what) == (BROKEN, True)
    closed.at.images[EPHEMERAL].unlink()
    first = closed.examine(EPHEMERAL).findings[0]
    assert "no device found" in first.what
    assert first.fix is not None


def test_a_blank_volume_needs_its_mkfs(closed: Bench) -> None:
    """A missing package is a risk for a volume that is there, and the cause where it is yet to be made."""
    closed.at.images[EPHEMERAL].write_bytes(bytes(64 * MIB))
    _no_mkfs(closed)
    found = {finding.what: finding.weight for finding in closed.examine(EPHEMERAL).findings}
    assert found["it is not formatted yet"] is BROKEN
    assert found["its filesystem could not be made: mkfs.ext4 is not installed"] is BROKEN


# ---- fstab and crypttab ---------------------------------------------------------------------------------------------


def _line(bench: Bench, source: str, target: str, *, device: str | None = None) -> TableLine:
    names = {"IMAGE": str(bench.at.images[STATE]), "MOUNT": str(bench.at.state)}
    return TableLine("/etc/fstab", 7, names.get(source, source), names.get(target, target), names.get(device or ""))


@pytest.mark.parametrize(
    ("source", "target", "device"),
    [
        ("IMAGE", "/mnt", None),
        ("/dev/disk/by-id/virtio-disk", "/mnt", "IMAGE"),
        ("/dev/sdz1", "MOUNT", None),
        ("/dev/sdz1", "luks2-STATE", None),
        ("/dev/mapper/luks2-STATE", "/mnt", None),
        ("UUID=3C0A-inside", "/mnt", None),
    ],
)
def test_a_line_that_takes_what_is_ours_is_found(bench: Bench, source: str, target: str, device: str | None) -> None:
    """By device, by a link to it, by mount point, by name of the mapping, by what is inside; noauto waits."""
    line = _line(bench, source, target, device=device)
    bench.lines = (line,)
    finding = _only(bench.examine())
    assert (finding.weight, finding.fix) == (RISK, "take line 7 out of /etc/fstab")
    bench.lines = (replace(line, automatic=False),)
    assert bench.examine().findings == ()


def test_the_uuid_of_the_header_is_ours(bench: Bench) -> None:
    """As crypttab mostly names a device."""
    uuid = header_uuid(bench)
    bench.lines = (TableLine("/etc/crypttab", 2, f"UUID={uuid}", "data"),)
    assert "/etc/crypttab, line 2 fights" in _only(bench.examine()).what
    bench.lines = (TableLine("/etc/crypttab", 2, f"/dev/disk/by-uuid/{uuid}", "data"),)
    assert "/etc/crypttab, line 2 fights" in _only(bench.examine()).what


def header_uuid(bench: Bench) -> str:
    """Return the UUID in the header of STATE."""
    found = bench.at.node.ports.disks.find(STATE, bench.at.settings.volume(STATE), timeout_s=0)
    header = bench.at.node.ports.disks.header_copies(found).best  # type: ignore[arg-type]  # it is there
    assert header is not None
    return header.uuid


def test_lines_of_others_are_theirs(bench: Bench) -> None:
    """The root, swap, and a bind mount from below our mount point."""
    bench.lines = (
        TableLine("/etc/fstab", 1, "UUID=1234", "/", "/dev/vda1"),
        TableLine("/etc/fstab", 2, "PARTLABEL=swap", "none"),
        TableLine("/etc/fstab", 3, f"{bench.at.state}/docker", "/var/lib/docker"),
    )
    assert bench.examine().findings == ()


# ---- with --check ---------------------------------------------------------------------------------------------------


def test_with_check_a_wrong_passphrase_is_found(closed: Bench) -> None:
    """Only trying it tells; where no key works, that is why the volume does not open."""
    keys = (static(0, "first"), static(1, "wrong"))
    closed.at.configure(document(STATE, static(0, "first"), static(1, "second")), document(EPHEMERAL, *keys))
    found = closed.examine(EPHEMERAL, with_check=True)
    tried = [finding for finding in found.findings if finding.slot == 1]
    assert [(finding.weight, "was tried: rejected" in finding.what) for finding in tried] == [(RISK, True)]
    keys = (static(0, "wrong"), static(1, "wrong"))
    closed.at.configure(document(STATE, static(0, "first"), static(1, "second")), document(EPHEMERAL, *keys))
    found = closed.examine(EPHEMERAL, with_check=True)
    assert [finding.weight for finding in found.findings if finding.slot is not None] == [BROKEN, BROKEN]


def test_with_check_a_key_is_not_complained_about_twice(closed: Bench) -> None:
    """An obstacle that is known without trying says it better."""
    keys = FakeProviders()
    token = keys.make(EPHEMERAL, kms(0)).token
    assert token is not None
    keys.recovers_before_down[0] = 0
    closed.at.set_token(EPHEMERAL, 0, token)
    closed.at.configure(document(EPHEMERAL, "slot: 0, kms: {endpoint: 'https://kms.example:4050'}"))
    closed.at.with_provider(keys.provider)
    found = closed.examine(EPHEMERAL, with_check=True)
    assert [finding.weight for finding in found.findings if finding.slot == 0] == [BROKEN]


def test_with_check_a_volume_in_use_by_another_run_is_a_note(closed: Bench) -> None:
    """What its keys did meanwhile is not believed."""
    closed.at.configure(document(EPHEMERAL, static(0, "wrong")))
    with volume_lock(EPHEMERAL, timeout_s=0, directory=closed.at.paths.run_dir):
        found = closed.examine(EPHEMERAL, with_check=True)
    assert any("could not be tried to the end" in finding.what for finding in found.findings)
