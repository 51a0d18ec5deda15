"""What enable does where the filesystem has no immutable flag, and what it does to a running system."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from luksctl.devices.programs import Program, locate
from luksctl.model.config import EPHEMERAL, STATE, ByImage, Settings, VolumeSettings
from luksctl.node import guard
from luksctl.node.enable import Outcome, Target, disable, enable, start
from luksctl.node.node import Paths
from luksctl.node.units import CHECK_SERVICE, CHECK_TIMER, MARK, check_units, unit_files
from luksctl.value import replace
from tests.devices.fake_tree import needs
from tests.node.machines import RecordingHost

_ANALYZE = Program("systemd-analyze", "systemd")


def _target(root: Path, **mount_points: str | None) -> Target:
    volumes = tuple(
        (name, VolumeSettings(volume.location, mount_points.get(name, volume.mount_point)))
        for name, volume in Settings().volumes
    )
    return Target(replace(Settings(), volumes=volumes), Paths(), ("/usr/bin/luksctl-boot",), str(root))


def _checked(root: Path | str, **mount_points: str | None) -> Target:
    return replace(_target(Path(root), **mount_points), root=str(root), command=("/usr/bin/luksctl",))


def test_a_read_only_mount_stands_in_for_the_flag(tmp_path: Path) -> None:
    """The guard's unit binds empty directories over the parent of the mount points; nothing is amiss."""
    outcome = enable(_target(tmp_path), RecordingHost(flag=False), encrypted=None)
    text = (tmp_path / "etc/systemd/system/system.mount").read_text(encoding="utf-8")
    assert text.startswith(MARK)
    assert "What=/etc/luksctl/guard\nWhere=/system\nOptions=bind,ro\n" in text
    assert (tmp_path / "etc/systemd/system/local-fs.target.wants/system.mount").is_symlink()
    for name in ("state", "ephemeral"):
        assert (tmp_path / "etc/luksctl/guard" / name).stat().st_mode & 0o777 == 0
    assert outcome.problems == []


def test_with_the_flag_there_is_no_guard(tmp_path: Path) -> None:
    """Sealed directories need nothing over them."""
    outcome = enable(_target(tmp_path), RecordingHost(), encrypted=None)
    assert not (tmp_path / "etc/systemd/system/system.mount").exists()
    assert len(outcome.sealed) == 2


@pytest.mark.parametrize("other", ["/srv", "/elsewhere/data"])
def test_mount_points_apart_cannot_be_guarded(tmp_path: Path, other: str) -> None:
    """Then enable says clearly that root could write below, and the volumes are enabled all the same."""
    outcome = enable(_target(tmp_path, EPHEMERAL=other), RecordingHost(flag=False), encrypted=None)
    assert len(outcome.problems) == 1
    assert "root could write below" in outcome.problems[0]
    assert other in outcome.problems[0]
    assert (tmp_path / "etc/systemd/system/system-state.mount").exists()


def test_a_parent_with_anything_else_in_it_is_not_hidden(tmp_path: Path) -> None:
    """The guard would hide it, so there is none."""
    (tmp_path / "system/other").mkdir(parents=True)
    outcome = enable(_target(tmp_path), RecordingHost(flag=False), encrypted=None)
    assert len(outcome.problems) == 1
    assert not (tmp_path / "etc/luksctl/guard").exists()


def test_a_mounted_volume_is_not_hidden_by_a_guard(tmp_path: Path) -> None:
    """Where STATE is mounted and EPHEMERAL is not, a mount over their parent would hide STATE."""
    host = RecordingHost(flag=False, mounts={f"{tmp_path}/system/state"})
    outcome = enable(_target(tmp_path), host, encrypted=None)
    assert "would hide" in outcome.problems[0]
    assert not (tmp_path / "etc/systemd/system/system.mount").exists()


def test_disable_removes_the_guard(tmp_path: Path) -> None:
    """Unit, link and directories, and the mount points become ordinary directories."""
    host = RecordingHost(flag=False)
    enable(_target(tmp_path), host, encrypted=("STATE",))
    disable(_target(tmp_path), host)
    left = [path for path in tmp_path.rglob("*") if not path.is_dir()]
    assert left == []
    assert not (tmp_path / "etc/luksctl/guard").exists()
    assert f"restore {tmp_path}/system/state" in host.asked


def test_an_image_is_written_without_touching_the_running_system(tmp_path: Path) -> None:
    """With a root systemd is not told anything."""
    host = RecordingHost()
    enable(_target(tmp_path), host, encrypted=None)
    assert not {"reload"} & set(host.asked)


def test_mounts_are_started_in_order_until_one_fails(tmp_path: Path) -> None:
    """A volume that does not open is a problem that is told, and not an error of enable."""
    host = RecordingHost(failing={"system-ephemeral.mount"})
    outcome = Outcome()
    start(_target(tmp_path), host, outcome)
    assert host.asked == ["start system-state.mount"]
    assert outcome.problems == ["system-ephemeral.mount did not start: system-ephemeral.mount failed"]


@pytest.mark.parametrize(
    ("mount_points", "parent"),
    [
        (("/system/state", "/system/ephemeral"), "/system"),
        (("/state", "/ephemeral"), None),
        (("/system/state", "/var"), None),
        ((), None),
    ],
)
def test_the_guard_needs_a_parent_of_its_own(mount_points: tuple[str, ...], parent: str | None) -> None:
    """All mount points in one directory that is not /."""
    assert guard.parent_of(mount_points) == parent


def test_a_guard_counts_only_in_the_running_system(tmp_path: Path) -> None:
    """Below a root nothing is mounted, whatever this machine has mounted."""
    assert not guard.active(str(tmp_path), ("/system/state",), lambda _: True)


def test_a_volume_without_mount_point_has_no_mount(tmp_path: Path) -> None:
    """Its opening service is wanted itself then."""
    volumes = tuple(
        (name, VolumeSettings(volume.location, None if name in (STATE, EPHEMERAL) else volume.mount_point))
        for name, volume in Settings().volumes
    )
    target = Target(replace(Settings(), volumes=volumes), Paths(), ("/usr/bin/luksctl-boot",), str(tmp_path))
    enable(target, RecordingHost(), encrypted=None)
    wants = sorted(path.name for path in (tmp_path / "etc/systemd/system/local-fs.target.wants").iterdir())
    assert wants == ["luksctl-open@EPHEMERAL.service", "luksctl-open@STATE.service"]


def test_settings_that_name_another_mount_point_get_it_into_an_active_guard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard hides the parent: a mount point that it does not show could not be mounted on."""
    directory = tmp_path / "guard"
    directory.mkdir()
    monkeypatch.setattr(guard, "DIRECTORY", str(directory))
    assert guard.active("", ("/system/elsewhere",), {"/system"}.__contains__)
    target = replace(_target(tmp_path, STATE="/system/elsewhere"), root="")
    monkeypatch.setattr("luksctl.node.enable._UNITS", str(tmp_path / "units"))
    enable(target, RecordingHost(flag=False, mounts={"/system"}), encrypted=None)
    assert sorted(path.name for path in directory.iterdir()) == ["elsewhere", "ephemeral"]


def test_a_hook_that_an_image_lacks_is_told(tmp_path: Path) -> None:
    """Its units would fail at the first boot; a link counts, wherever it leads in the image."""
    assert any(
        "is not there below" in note for note in enable(_target(tmp_path), RecordingHost(), encrypted=None).notes
    )
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/luksctl-boot").symlink_to("/opt/luksctl/bin/luksctl-boot")
    assert enable(_target(tmp_path), RecordingHost(), encrypted=None).notes == []


@pytest.mark.parametrize(
    ("program", "written"),
    [
        ("/usr/bin/luksctl-boot", "/usr/bin/luksctl-boot"),
        ("/opt/my tools/boot", '"/opt/my tools/boot"'),
        ("/opt/100%/boot", '"/opt/100%%/boot"'),
        ('/opt/"a"\\b/boot', '"/opt/\\"a\\"\\\\b/boot"'),
    ],
)
def test_a_path_is_one_word_of_a_command(tmp_path: Path, program: str, written: str) -> None:
    """Blanks, quotes and what systemd would expand arrive at the program as they are."""
    enable(replace(_target(tmp_path), program=(program, "-S")), RecordingHost(), encrypted=None)
    text = (tmp_path / "etc/systemd/system/luksctl-open@STATE.service").read_text(encoding="utf-8")
    assert f"ExecStart={written} -S STATE\n" in text


@pytest.mark.parametrize("points", [{}, {EPHEMERAL: None}, {STATE: None, EPHEMERAL: None}])
def test_volumes_are_opened_before_local_fs_target(tmp_path: Path, points: dict[str, str | None]) -> None:
    """After it the boot goes on to phases for which no PCR 11 may be signed: a tpm key would be asked for too late."""
    enable(_target(tmp_path, **points), RecordingHost(), encrypted=None)
    units = tmp_path / "etc/systemd/system"
    for volume in (STATE, EPHEMERAL):
        text = (units / f"luksctl-open@{volume}.service").read_text(encoding="utf-8")
        (before,) = (line for line in text.splitlines() if line.startswith("Before="))
        followers = before.removeprefix("Before=").split()
        mounts = [name for name in followers if name.endswith(".mount")]
        if mounts:
            followers = (units / mounts[0]).read_text(encoding="utf-8").splitlines()
        assert {"local-fs.target", "Before=local-fs.target"} & set(followers)


def test_a_mount_point_is_no_specifier(tmp_path: Path) -> None:
    """%h in a path would be the home directory of root."""
    enable(_target(tmp_path, EPHEMERAL="/srv/%h"), RecordingHost(), encrypted=None)
    text = (tmp_path / "etc/systemd/system/srv-\\x25h.mount").read_text(encoding="utf-8")
    assert "Where=/srv/%%h\n" in text


def test_services_leave_no_core_behind(tmp_path: Path) -> None:
    """The text of a config, passphrases included, lies in memory that a core dump would hold."""
    enable(_checked(tmp_path), RecordingHost(), encrypted=None)
    services = sorted((tmp_path / "etc/systemd/system").glob("*.service"))
    assert len(services) == 7
    assert all("LimitCORE=0\n" in path.read_text(encoding="utf-8") for path in services)


# ---- the timer that proves keys -------------------------------------------------------------------------------------


def test_a_timer_starts_luksctl_after_the_mounts_when_nothing_else_wants_to_run(tmp_path: Path) -> None:
    """Once a day, at another time on each node; nothing requires the service, and it requires nothing."""
    enable(_checked(tmp_path, STATE="/srv/my state"), RecordingHost(), encrypted=None)
    units = tmp_path / "etc/systemd/system"
    service = (units / CHECK_SERVICE).read_text(encoding="utf-8").splitlines()
    timer = (units / CHECK_TIMER).read_text(encoding="utf-8").splitlines()
    assert service[0] == timer[0] == MARK.strip()
    assert "ExecStart=/usr/bin/luksctl check" in service
    assert "After=local-fs.target srv-my\\x20state.mount system-ephemeral.mount" in service
    assert {"Nice=19", "IOSchedulingClass=idle", "Type=oneshot"} <= set(service)
    assert not any(line.startswith(("Requires=", "Wants=", "BindsTo=", "Before=", "WantedBy=")) for line in service)
    assert {
        "OnCalendar=weekly",
        "RandomizedDelaySec=7d",
        "FixedRandomDelay=yes",
        "Persistent=yes",
        "WantedBy=timers.target",
    } <= set(timer)
    links = {str(path.relative_to(units)): os.readlink(path) for path in units.rglob("*") if path.is_symlink()}
    assert links.pop(f"timers.target.wants/{CHECK_TIMER}") == f"../{CHECK_TIMER}"
    assert not any(CHECK_SERVICE in name or CHECK_TIMER in name for name in links)


def test_the_timer_is_taken_back(tmp_path: Path) -> None:
    """Units and link, and nothing of others in the same place; below a root systemd is not told anything."""
    host, other = RecordingHost(), tmp_path / "etc/systemd/system/timers.target.wants/other.timer"
    other.parent.mkdir(parents=True)
    other.symlink_to("../other.timer")
    enable(_checked(tmp_path), host, encrypted=None)
    disable(_checked(tmp_path), host)
    assert [path for path in tmp_path.rglob("*") if path.is_symlink() or path.is_file()] == [other]
    assert not any(what.startswith("stop") for what in host.asked)


def test_a_running_timer_is_stopped_before_its_file_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else would stop it until the next boot; where there is none, nothing is asked of systemd."""
    monkeypatch.setattr("luksctl.node.enable._UNITS", str(tmp_path / "units"))
    paths = Paths(expected_encrypted=str(tmp_path / "expected.json"))
    points = {name: str(tmp_path / name) for name in (STATE, EPHEMERAL)}
    target = replace(_checked("", **points), paths=paths)
    host = RecordingHost()
    enable(target, host, encrypted=None)
    disable(target, host)
    assert host.asked.count(f"stop {CHECK_TIMER}") == 1
    disable(target, host)
    assert host.asked.count(f"stop {CHECK_TIMER}") == 1


def test_the_timer_runs_whatever_becomes_of_the_volumes(tmp_path: Path) -> None:
    """It is started first; a timer that does not start keeps no volume from being mounted."""
    host, outcome = RecordingHost(failing={"system-state.mount"}), Outcome()
    start(_checked(tmp_path), host, outcome)
    assert host.asked == [f"start {CHECK_TIMER}"]
    assert len(outcome.problems) == 1
    host, outcome = RecordingHost(failing={CHECK_TIMER}), Outcome()
    start(_checked(tmp_path), host, outcome)
    assert host.asked == ["start system-state.mount", "start system-ephemeral.mount"]
    assert outcome.problems == [f"{CHECK_TIMER} did not start: {CHECK_TIMER} failed"]


@needs(_ANALYZE)
def test_systemd_understands_every_line(tmp_path: Path) -> None:
    """It tells of each key, section and value that it does not know, and would ignore at a boot."""
    verify = locate(_ANALYZE)
    units = [
        *check_units(Settings(), ("/bin/sh", "-c")),
        *unit_files(Settings(), Paths(), ("/bin/sh", "-c")),
    ]
    for unit in units:
        (tmp_path / unit.name).write_text(unit.text, encoding="utf-8")
    named = [str(tmp_path / unit.name.replace("@.", "@STATE.")) for unit in units]
    done = subprocess.run([verify, "verify", "--man=no", *named], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (tmp_path / CHECK_TIMER).write_text(units[1].text.replace("Persistent", "Presistent"), encoding="utf-8")
    done = subprocess.run([verify, "verify", "--man=no", named[1]], capture_output=True, text=True, check=False)
    assert "Presistent" in done.stderr


def test_image_files_are_waited_for(tmp_path: Path) -> None:
    """What holds them is mounted first; partitions need nothing of the kind."""
    target = _target(tmp_path)
    images = (("META", VolumeSettings(ByImage("/srv/meta.img"))), ("STATE", VolumeSettings(ByImage("/srv/my files/s"))))
    kept = tuple((name, volume) for name, volume in target.settings.volumes if name == "EPHEMERAL")
    enable(
        replace(target, settings=replace(target.settings, volumes=(*images, *kept))), RecordingHost(), encrypted=None
    )
    units = tmp_path / "etc/systemd/system"
    text = (units / "luksctl-open@STATE.service").read_text(encoding="utf-8")
    assert '\nRequiresMountsFor=/srv/meta.img "/srv/my files/s"\n' in text
    enable(_target(tmp_path), RecordingHost(), encrypted=None)
    assert "RequiresMountsFor" not in (units / "luksctl-open@STATE.service").read_text(encoding="utf-8")
