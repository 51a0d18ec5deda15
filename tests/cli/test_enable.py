"""enable writes below a root what systemd verifies; disable takes exactly that back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from luksctl.cli.main import main
from tests.cli.desk import encrypted

_PROGRAM = "/usr/bin/luksctl-boot"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return an empty root of an image."""
    path = tmp_path / "image"
    path.mkdir()
    return path


def _tree(root: Path) -> dict[str, str]:
    """Return every file and link below `root`, and where links lead."""
    found = {}
    for directory, _, names in os.walk(root):
        for name in names:
            path = Path(directory, name)
            found[str(path.relative_to(root))] = os.readlink(path) if path.is_symlink() else ""
    return found


def _enable(root: Path, *words: str) -> int:
    return main(("enable", "--root", str(root), "--program", _PROGRAM, *words))


def _restore(root: Path) -> None:
    """Let pytest remove the directories, which may be immutable."""
    main(("disable", "--root", str(root)))


def test_units_and_links_are_written(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Services, mounts, and the links of local-fs.target; the services start the hook."""
    try:
        code = _enable(root, "--json", "--encrypted", "STATE,EPHEMERAL")
        said = json.loads(capsys.readouterr().out)
        assert code in (0, 5)
        assert (code == 5) == bool(said["problems"])
        units = root / "etc/systemd/system"
        assert f"ExecStart={_PROGRAM} STATE" in (units / "luksctl-open@STATE.service").read_text(encoding="utf-8")
        for name in ("system-state.mount", "system-ephemeral.mount"):
            assert os.readlink(units / "local-fs.target.wants" / name) == f"../{name}"
        expected = json.loads((root / "etc/luksctl/expected.json").read_text(encoding="utf-8"))
        assert expected["encrypted"] == ["EPHEMERAL", "STATE"]
        assert str(units / "system-state.mount") in said["written"]
    finally:
        _restore(root)


def test_disable_takes_back_exactly_that(root: Path) -> None:
    """Files of others stay, also one of the same kind in the same place."""
    units = root / "etc/systemd/system/local-fs.target.wants"
    units.mkdir(parents=True)
    (units / "other.mount").symlink_to("/usr/lib/systemd/system/other.mount")
    (units.parent / "other.mount").write_text("[Mount]\n", encoding="utf-8")
    before = _tree(root)
    _enable(root)
    assert _tree(root) != before
    assert main(("disable", "--root", str(root))) == 0
    assert _tree(root) == before


def test_a_unit_that_is_not_ours_is_not_written_over(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Code 3, the file is named, and nothing at all was written."""
    units = root / "etc/systemd/system"
    units.mkdir(parents=True)
    (units / "system-state.mount").write_text("[Mount]\nWhat=mine\n", encoding="utf-8")
    before = _tree(root)
    assert _enable(root) == 3
    assert "system-state.mount was not written by luksctl" in capsys.readouterr().err
    assert _tree(root) == before


def test_enabling_again_changes_nothing(root: Path) -> None:
    """The second run leaves the same files, so that a cut run is mended by another."""
    try:
        _enable(root, "--encrypted=STATE")
        first = _tree(root)
        _enable(root)
        assert _tree(root) == first
    finally:
        _restore(root)


def test_expectations_come_from_the_config_in_the_image(root: Path) -> None:
    """Without --encrypted the machine config below the root says what must be encrypted; the option wins."""
    config = root / "etc/luksctl/machine.yaml"
    config.parent.mkdir(parents=True)
    config.write_text(encrypted(), encoding="utf-8")
    expected = root / "etc/luksctl/expected.json"
    try:
        _enable(root)
        assert json.loads(expected.read_text(encoding="utf-8"))["encrypted"] == ["EPHEMERAL", "STATE"]
        _enable(root, "--encrypted", "")
        assert json.loads(expected.read_text(encoding="utf-8"))["encrypted"] == []
    finally:
        _restore(root)


def test_settings_below_the_root_count(root: Path) -> None:
    """Mount points of the image, not of this machine; units of an earlier mount point go away."""
    settings = root / "etc/luksctl/luksctl.yaml"
    settings.parent.mkdir(parents=True)
    units = root / "etc/systemd/system"
    try:
        _enable(root)
        assert (units / "system-ephemeral.mount").exists()
        settings.write_text("volumes: {EPHEMERAL: {mountPoint: /srv/data}}\n", encoding="utf-8")
        _enable(root)
        assert (units / "srv-data.mount").exists()
        assert not (units / "system-ephemeral.mount").exists()
        assert not (units / "local-fs.target.wants/system-ephemeral.mount").is_symlink()
    finally:
        _restore(root)
        settings.unlink()
        _restore(root)


def test_a_directory_in_use_is_not_hidden(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What lies under a mount point already is named, and nothing is enabled over it."""
    (root / "system/state").mkdir(parents=True)
    (root / "system/state/left-over").touch()
    assert _enable(root) == 9
    assert "left-over" in capsys.readouterr().err


def test_an_old_config_in_etc_takes_no_expectation_back(root: Path) -> None:
    """The config in STATE rules, so the one in /etc may be stale; only --encrypted makes the record shorter."""
    config, record = root / "etc/luksctl/machine.yaml", root / "etc/luksctl/expected.json"
    config.parent.mkdir(parents=True)
    try:
        config.write_text(encrypted(), encoding="utf-8")
        _enable(root)
        config.write_text("machine: {}\n", encoding="utf-8")
        _enable(root)
        assert json.loads(record.read_text(encoding="utf-8"))["encrypted"] == ["EPHEMERAL", "STATE"]
        _enable(root, "--encrypted", "STATE")
        assert json.loads(record.read_text(encoding="utf-8"))["encrypted"] == ["STATE"]
        _enable(root, "--encrypted", "")
        assert json.loads(record.read_text(encoding="utf-8"))["encrypted"] == []
    finally:
        _restore(root)


def test_units_start_this_luksctl_and_nothing_that_is_installed_beside(root: Path) -> None:
    """Without --program the hook is a file that this interpreter runs alone, and it is there."""
    try:
        main(("enable", "--root", str(root), "--encrypted", "STATE"))
        text = (root / "etc/systemd/system/luksctl-open@STATE.service").read_text(encoding="utf-8")
        line = next(line for line in text.splitlines() if line.startswith("ExecStart="))
        python, *options, program, volume = line.removeprefix("ExecStart=").split()
        assert (python, options, volume) == (sys.executable, ["-I", "-S"], "STATE")
        done = subprocess.run([python, *options, program], capture_output=True, text=True, check=False)
        assert done.returncode == 64
        assert "usage: luksctl-boot" in done.stderr
    finally:
        _restore(root)


def test_the_timer_starts_this_luksctl_by_its_own_file(root: Path) -> None:
    """Without --command the timer's program is a file that this interpreter runs, and it is luksctl."""
    try:
        main(("enable", "--root", str(root), "--encrypted", "STATE"))
        text = (root / "etc/systemd/system/luksctl-check.service").read_text(encoding="utf-8")
        line = next(line for line in text.splitlines() if line.startswith("ExecStart="))
        python, option, program, verb = line.removeprefix("ExecStart=").split()
        assert (python, option, verb) == (sys.executable, "-I", "check")
        done = subprocess.run([python, option, program, "--help"], capture_output=True, text=True, check=False, cwd="/")
        assert done.returncode == 0
        assert "whether every configured key still opens its keyslot" in done.stdout
    finally:
        _restore(root)


@pytest.mark.parametrize(("words", "command"), [((), "/usr/bin/luksctl"), (("--command", "/opt/l"), "/opt/l")])
def test_the_timer_starts_what_lies_beside_the_hook(root: Path, words: tuple[str, ...], command: str) -> None:
    """An image has its own luksctl: the one beside --program, or the one that --command names."""
    try:
        _enable(root, *words)
        text = (root / "etc/systemd/system/luksctl-check.service").read_text(encoding="utf-8")
        assert f"ExecStart={command} check\n" in text
    finally:
        _restore(root)


@pytest.mark.parametrize("option", ["--program", "--command"])
def test_a_relative_program_is_refused(root: Path, capsys: pytest.CaptureFixture[str], option: str) -> None:
    """A service takes an absolute path only; code 64, and nothing was written."""
    assert main(("enable", "--root", str(root), option, "bin/luksctl")) == 64
    assert "absolute path" in capsys.readouterr().err
    assert _tree(root) == {}
