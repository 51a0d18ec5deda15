"""Reports only tell: one that cannot be read or written neither hides an error nor fails an opening."""

from __future__ import annotations

from pathlib import Path

import pytest

from luksctl.errors import Degraded, DeviceError, Locked, MetaError
from luksctl.model.config import STATE
from luksctl.node.apply_config import apply_config
from luksctl.node.boot import open_volume
from luksctl.node.report import VolumeState, read_report
from luksctl.node.waiting import boot_deadline
from luksctl.value import replace
from tests.node.nodes import Bench, bench, config
from tests.reconcile.samples import MAPPING, XFS, header


@pytest.fixture
def node(tmp_path: Path) -> Bench:
    """Return a node that was never set up."""
    return bench(tmp_path)


def _report_path(node: Bench) -> Path:
    path = Path(node.node.paths.report(STATE))
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"open"', "{}", '{"state": "open", "notes": [], "new": 1}'])
def test_a_report_of_another_luksctl_is_none(node: Bench, text: str) -> None:
    """An upgrade in the running system may leave fields that this version does not know."""
    _report_path(node).write_text(text, encoding="utf-8")
    assert read_report(node.node, STATE) is None


def test_an_unwritable_report_does_not_hide_the_error(node: Bench) -> None:
    """The person on call reads why the volume is locked, and beside it that the report is old."""
    told: list[str] = []
    _report_path(node).mkdir()  # renaming a file over a directory fails
    node.world.medium.first = node.world.medium.second = header()
    Path(node.node.paths.machine_config).write_bytes(config().text)
    with pytest.raises(Locked, match="no configured key opens"):
        open_volume(replace(node.node, tell=told.append), STATE, node.now)
    assert len(told) == 1
    assert "cannot be written" in told[0]


def test_an_unwritable_report_does_not_fail_an_opening(node: Bench) -> None:
    """The volume is open, and its mount unit finds the link."""
    _report_path(node).mkdir()
    node.world.medium.first = node.world.medium.second = header()
    node.world.open_mapping = replace(MAPPING, signature=XFS)
    Path(node.node.paths.machine_config).write_bytes(config().text)
    assert open_volume(node.node, STATE, node.now).state is VolumeState.OPEN
    assert Path(node.system.link).readlink() == Path(MAPPING.path)


def test_an_error_of_the_system_becomes_one_with_a_report(node: Bench) -> None:
    """A /run that takes no links: told as a device error of this volume, and kept."""
    (Path(node.node.paths.run_dir) / "volume").parent.mkdir(parents=True, exist_ok=True)
    (Path(node.node.paths.run_dir) / "volume").write_text("in the way", encoding="utf-8")
    node.world.medium.first = node.world.medium.second = header()
    node.world.open_mapping = replace(MAPPING, signature=XFS)
    Path(node.node.paths.machine_config).write_bytes(config().text)
    with pytest.raises(DeviceError) as failure:
        open_volume(node.node, STATE, node.now)
    assert failure.value.volume == STATE
    kept = read_report(node.node, STATE)
    assert kept is not None
    assert (kept.state, kept.exit_code) == (VolumeState.FAILED, DeviceError.exit_code)


def test_a_config_that_cannot_be_read_is_a_config_error_and_meta_goes_on(node: Bench) -> None:
    """A directory where the config should be: META's keys open STATE all the same."""
    with pytest.raises(Degraded):
        apply_config(node.node, config(), insecure=True)
    node.world.open_mapping = None
    Path(node.node.paths.machine_config).mkdir()
    node.world.keys.explain.clear()
    report = open_volume(node.node, STATE, node.now)
    assert report.config_source == "META tag 9"


def test_a_machine_check_that_cannot_be_recorded_is_a_finding(node: Bench) -> None:
    """META takes no writes, but the volume is open: it is mounted, and the report says what is missing."""

    def refuse() -> None:
        raise MetaError("META takes no writes")

    text = config().text.replace(b"static: {passphrase: correct horse}", b"nodeID: {}")
    Path(node.node.paths.machine_config).write_bytes(text)
    report = open_volume(replace(node.node, note_machine=refuse), STATE, node.now)
    assert report.state is VolumeState.OPEN
    assert any("META takes no writes" in note for note in report.notes)


@pytest.mark.parametrize("text", [b"", b"soon\n", b"\xff"])
def test_a_boot_clock_that_cannot_be_read_starts_again(node: Bench, text: bytes) -> None:
    """Whatever stands in the file, the stage gets a deadline."""
    Path(node.node.paths.run_dir).mkdir()
    (Path(node.node.paths.run_dir) / "boot-started").write_bytes(text)
    assert boot_deadline(node.node).left_s == node.node.settings.timeouts.hook_s
    assert boot_deadline(node.node).left_s == node.node.settings.timeouts.hook_s
