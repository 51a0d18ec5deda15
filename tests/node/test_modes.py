"""The modes in which a running node takes a config: at once, staged, by a reboot, on trial, and dry."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from luksctl.config.documents import parse_machine_config
from luksctl.errors import Degraded, DeviceError, MetaError, Refused
from luksctl.model.config import EPHEMERAL, STATE, MachineConfig
from luksctl.model.meta import Trial
from luksctl.node.apply_config import Applied, apply_config
from luksctl.node.boot import open_volume
from luksctl.node.modes import How, Mode
from luksctl.node.rotate import rotate_all
from luksctl.node.sources import STAGED_NAME
from luksctl.node.staged import staged_config, take_staged
from luksctl.node.status import node_status
from luksctl.node.sync import sync
from luksctl.node.taking_back import revert, revert_at_deadline
from luksctl.node.units import TRIAL_SERVICE
from luksctl.reconcile.books import unverified
from tests.node.nodes import Bench, bench, config
from tests.reconcile.medium import PowerCut


def wanted(words: str = "correct horse", machine: str = "") -> MachineConfig:
    """Return a config for both volumes, which are one and the same device here, with fields of the machine."""
    ephemeral = (
        "---\napiVersion: v1alpha1\nkind: VolumeConfig\nname: EPHEMERAL\nencryption:\n  provider: luks2\n  keys:\n"
        f"    - {{slot: 0, static: {{passphrase: {words}}}}}\n"
    )
    proper = f"---\nmachine:\n  type: worker\n{machine}"
    return parse_machine_config(config().text + ephemeral.encode() + proper.encode(), "given by hand")


OLD = wanted()


@pytest.fixture
def node(tmp_path: Path) -> Bench:
    """Return a running node whose volumes are in sync with OLD."""
    found = bench(tmp_path)
    with pytest.raises(Degraded):
        apply_config(found.node, config(), insecure=True)
    del found.world.fail[f"find {EPHEMERAL} in {found.node.settings.volume(EPHEMERAL).location} for 0 s"]
    (found.state / "config.yaml").write_bytes(OLD.text)
    partition = dict(found.world.meta.facts().record.partitions)[STATE]
    found.node.ports.meta.update_record(lambda record: record.with_finished(EPHEMERAL, partition, encrypted=True))
    found.world.power.writes.clear()
    return found


def reboot(node: Bench) -> None:
    """Begin another boot, whose first stage has opened STATE, and not EPHEMERAL."""
    node.world.reboot()
    node.system.boot = "boot 2"


def given(node: Bench, new: MachineConfig, mode: Mode, **more: object) -> Applied:
    """Apply `new` in this mode."""
    return apply_config(node.node, new, insecure=False, how=How(mode, **more))  # type: ignore[arg-type]


def slots(node: Bench) -> list[int]:
    """Return the keyslots of the device."""
    header = node.world.medium.copies().best
    assert header is not None
    return sorted(slot.number for slot in header.keyslots)


def trial(node: Bench) -> Trial | None:
    """Return the trial that META announces."""
    return node.world.meta.facts().record.trial


def keys_that_open(node: Bench) -> set[bytes]:
    """Return the passphrases in the slots."""
    return {node.world.medium.areas[slot].key for slot in slots(node)}


def test_auto_takes_keys_at_once(node: Bench) -> None:
    """No reboot is asked for, and the config is STATE's own."""
    applied = given(node, wanted("changed"), Mode.AUTO)
    assert applied.taken is not None
    assert (applied.taken.mode, applied.stored) == (Mode.NO_REBOOT, True)
    assert keys_that_open(node) == {b"changed"}
    assert node.system.reboots == 0


def test_auto_reboots_for_what_needs_one_and_says_what(node: Bench) -> None:
    """The config waits for that boot; nothing of it counts before."""
    new = wanted("changed", "  env: {A: b}\n")
    applied = given(node, new, Mode.AUTO)
    assert applied.taken is not None
    assert (applied.taken.mode, applied.taken.rebooting) == (Mode.REBOOT, ("machine.env",))
    assert node.system.reboots == 1
    assert node.stored() == OLD.text
    assert keys_that_open(node) == {b"correct horse"}
    waiting = staged_config(str(node.state))
    assert waiting is not None
    assert waiting.text == new.text


@pytest.mark.parametrize("mode", [Mode.NO_REBOOT, Mode.TRY])
def test_what_needs_a_reboot_is_refused_where_none_may_be(node: Bench, mode: Mode) -> None:
    """Named, with nothing written."""
    with pytest.raises(Refused, match=r"machine\.env can only be changed by a reboot"):
        given(node, wanted(machine="  env: {A: b}\n"), mode)
    assert node.world.power.writes == []
    assert node.stored() == OLD.text


def test_a_staged_config_is_states_own_from_the_next_boot_on(node: Bench) -> None:
    """Not before: not by a sync, and not by the hook of this very boot."""
    new = wanted("changed")
    assert given(node, new, Mode.STAGED).stored
    assert node.system.reboots == 0
    sync(node.node, (EPHEMERAL,))
    assert take_staged(node.node, str(node.state)) == ()
    assert node.stored() == OLD.text
    assert keys_that_open(node) == {b"correct horse"}
    node.system.boot = "boot 2"
    assert take_staged(node.node, str(node.state)) == ("the config that was staged is STATE's own now",)
    assert node.stored() == new.text
    assert not (node.state / STAGED_NAME).exists()
    assert take_staged(node.node, str(node.state)) == ()


def test_the_boot_follows_what_was_staged(node: Bench) -> None:
    """The whole stage of EPHEMERAL: the new key is in its slot, and the report tells."""
    given(node, wanted("changed"), Mode.STAGED)
    reboot(node)
    report = open_volume(node.node, EPHEMERAL, node.now, booting=True)
    assert "the config that was staged is STATE's own now" in report.notes
    assert keys_that_open(node) == {b"changed"}


def test_a_staged_config_that_is_wrong_by_now_is_left_alone(node: Bench) -> None:
    """The old one rules on."""
    given(node, wanted("changed"), Mode.STAGED)
    path = node.state / STAGED_NAME
    path.write_bytes(path.read_bytes().replace(b"kind: VolumeConfig", b"kind: VolumConfig"))
    node.system.boot = "boot 2"
    (said,) = take_staged(node.node, str(node.state))
    assert "left where it is" in said
    assert node.stored() == OLD.text
    assert path.exists()


def test_a_file_without_our_line_is_staged_too(node: Bench) -> None:
    """Whoever put it there by hand meant that."""
    (node.state / STAGED_NAME).write_bytes(wanted("changed").text)
    take_staged(node.node, str(node.state))
    assert node.stored() == wanted("changed").text


def test_a_later_config_drops_what_was_staged_and_says_so(node: Bench) -> None:
    """Both by staging another one and by applying one at once."""
    given(node, wanted("staged"), Mode.STAGED)
    assert any("was dropped" in note for note in given(node, wanted("again"), Mode.STAGED).notes)
    assert any("was dropped" in note for note in given(node, wanted("at once"), Mode.NO_REBOOT).notes)
    assert staged_config(str(node.state)) is None


def test_what_was_staged_never_comes_back_over_a_later_config(node: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The power goes while the later one is stored: the old one rules, and the next boot takes up nothing older."""
    given(node, wanted("staged"), Mode.STAGED)

    def cut(*_: object) -> None:
        raise PowerCut

    with monkeypatch.context() as patched:
        patched.setattr("luksctl.node.running_config.store_config", cut)
        with pytest.raises(PowerCut):
            given(node, wanted("later"), Mode.NO_REBOOT)
    node.system.boot = "boot 2"
    assert take_staged(node.node, str(node.state)) == ()
    assert node.stored() == OLD.text


def test_what_ephemeral_does_not_open_with_may_be_staged_for_a_reset(node: Bench) -> None:
    """The documented way to change what cannot be changed: stage, then reset the volume with a reboot."""
    applied = given(node, config(), Mode.STAGED)
    assert applied.stored
    assert any("unless EPHEMERAL is reset before the next boot" in note for note in applied.notes)


def test_a_dry_run_says_everything_and_writes_nothing(node: Bench) -> None:
    """The mode it would be, the steps slot by slot, and what was before."""
    applied = given(node, wanted("changed"), Mode.AUTO, dry_run=True)
    assert applied.taken is not None
    assert not applied.stored
    (planned,) = applied.taken.planned
    assert planned.volume == EPHEMERAL
    assert "RemoveKeyslot" in {type(step).__name__ for step in planned.steps}
    assert applied.taken.before == OLD.text
    assert node.world.power.writes == []
    assert node.stored() == OLD.text


def test_a_trial_adds_keys_and_stores_nothing(node: Bench) -> None:
    """What takes it back runs before the first key is written, and META says until when."""
    applied = given(node, wanted("changed"), Mode.TRY, timeout_s=60.0)
    assert (applied.stored, node.stored()) == (False, OLD.text)
    assert keys_that_open(node) == {b"correct horse", b"changed"}
    found = trial(node)
    assert found is not None
    assert (found.boot_id, found.deadline_s) == ("boot 1", 61.0)
    assert TRIAL_SERVICE in node.system.units


def test_silence_takes_a_trial_back(node: Bench) -> None:
    """At its deadline, by the service."""
    given(node, wanted("changed"), Mode.TRY, timeout_s=60.0)
    assert revert_at_deadline(node.node)
    assert node.system.now_s >= 61.0
    assert keys_that_open(node) == {b"correct horse"}
    assert trial(node) is None
    assert not revert_at_deadline(node.node)


@pytest.mark.parametrize("words", ["changed", "something else"])
def test_applying_a_config_ends_the_trial(node: Bench, words: str) -> None:
    """The same one confirms it, another one takes its place; the service has nothing left to do."""
    given(node, wanted("changed"), Mode.TRY)
    applied = given(node, wanted(words), Mode.NO_REBOOT)
    assert "the trial is over" in applied.notes
    assert keys_that_open(node) == {words.encode()}
    assert not revert_at_deadline(node.node)
    assert node.stored() == wanted(words).text


def test_a_reboot_takes_a_trial_back(node: Bench) -> None:
    """It is not waited for, and the report tells."""
    given(node, wanted("changed"), Mode.TRY, timeout_s=3600.0)
    reboot(node)
    report = open_volume(node.node, EPHEMERAL, node.now, booting=True)
    assert any("taken back by the reboot" in note for note in report.notes)
    assert keys_that_open(node) == {b"correct horse"}
    assert trial(node) is None


def test_without_who_takes_it_back_there_is_no_trial(node: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """No key is written, and nothing stays announced."""

    def missing(unit: str) -> None:
        raise DeviceError(f"{unit} not found")

    monkeypatch.setattr(node.system, "start_unit", missing)
    with pytest.raises(Refused, match="nothing would take the config back") as caught:
        given(node, wanted("changed"), Mode.TRY)
    assert caught.value.hint == "luksctl enable"
    assert trial(node) is None
    assert keys_that_open(node) == {b"correct horse"}


def test_a_trial_that_does_not_work_is_taken_back_at_once(node: Bench) -> None:
    """Whoever tries sees why, and nothing of it is left."""
    node.world.keys.make_down.add(0)
    with pytest.raises(Degraded, match="taken back at once"):
        given(node, wanted("changed"), Mode.TRY)
    assert trial(node) is None
    assert slots(node) == [0]


def test_while_a_config_is_on_trial_nothing_else_follows_the_stored_one(node: Bench) -> None:
    """A sync, or a rotation, would take it back behind the back of who tries; reverting by hand is its own command."""
    given(node, wanted("changed"), Mode.TRY)
    for act in (lambda: sync(node.node, (EPHEMERAL,)), lambda: rotate_all(node.node, (EPHEMERAL,))):
        with pytest.raises(Refused, match="on trial"):
            act()
    assert revert(node.node)
    assert not revert(node.node)
    sync(node.node, (EPHEMERAL,))
    assert keys_that_open(node) == {b"correct horse"}


def test_power_may_go_at_every_write_of_a_trial(node: Bench, tmp_path: Path) -> None:
    """The next boot ends with the old config and its key alone."""
    before = len(node.world.power.writes)
    given(node, wanted("changed"), Mode.TRY)
    count = len(node.world.power.writes) - before
    assert count > 4
    for cut in range(1, count + 1):
        (tmp_path / str(cut)).mkdir()
        again = _running(tmp_path / str(cut))
        again.world.power.cut_at = cut
        with pytest.raises(PowerCut):
            given(again, wanted("changed"), Mode.TRY)
        reboot(again)
        open_volume(again.node, EPHEMERAL, again.now, booting=True)
        assert keys_that_open(again) == {b"correct horse"}, cut
        assert again.stored() == OLD.text, cut
        assert trial(again) is None, cut
        header = again.world.medium.copies().best
        assert header is not None
        books = unverified(header)
        assert books is None or books.underway == (), cut


def _running(directory: Path) -> Bench:
    return node.__wrapped__(directory)  # type: ignore[attr-defined,no-any-return]


def test_status_says_what_waits_and_what_is_on_trial(node: Bench) -> None:
    """Whoever looks at the node sees that it will not stay as it is."""
    given(node, wanted("staged"), Mode.STAGED)
    given(node, wanted("tried"), Mode.TRY, timeout_s=60.0)
    said = node_status(node.node, (EPHEMERAL,)).notes
    assert "a machine config waits for the next boot, which follows it" in said
    assert any("on trial for 60 s more" in note for note in said)


@pytest.mark.parametrize("broken", ["luksctl.node.staged.store_config", "luksctl.node.trial.end"])
def test_what_a_boot_cannot_take_over_keeps_no_volume_shut(
    node: Bench, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """A STATE that is full, or a META that takes no writes, is a finding: the config before opens EPHEMERAL."""
    given(node, wanted("staged"), Mode.STAGED)
    given(node, wanted("tried"), Mode.TRY, timeout_s=3600.0)

    def failing(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device") if "staged" in broken else MetaError("read-only")

    monkeypatch.setattr(broken, failing)
    reboot(node)
    report = open_volume(node.node, EPHEMERAL, node.now, booting=True)
    expected = "could not be made STATE's own: No space left" if "staged" in broken else "still announces the trial"
    assert any(expected in note for note in report.notes)
    assert report.device is not None
    assert keys_that_open(node) == ({b"correct horse"} if "staged" in broken else {b"staged"})


def test_the_config_before_a_staged_one_is_not_kept_once_its_key_is_gone(node: Bench) -> None:
    """It holds a passphrase that was rotated out."""
    given(node, wanted("changed"), Mode.STAGED)
    reboot(node)
    open_volume(node.node, EPHEMERAL, node.now, booting=True)
    assert keys_that_open(node) == {b"changed"}
    assert list((node.state / "previous").iterdir()) == []
