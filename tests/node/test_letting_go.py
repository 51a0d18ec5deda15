"""Before a reset the volumes are let go of, as far as that works: each step is told, none is required."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from luksctl.devices.reset_host import User
from luksctl.errors import DeviceError
from luksctl.model.config import EPHEMERAL, STATE
from luksctl.node.letting_go import LettingGo
from luksctl.node.waiting import Deadline
from tests.node.image_node import ImageNode


@dataclass
class MadeUpHost:
    """A machine that notes what it is asked; `fails` are hooks and units that do not work."""

    fails: tuple[str, ...] = ()
    asked: list[str] = field(default_factory=list)

    def hooks(self, directory: str) -> tuple[str, ...]:
        return (f"{directory}/10-drain", f"{directory}/20-more")

    def run_hook(self, path: str, volumes: tuple[str, ...], timeout_s: float) -> None:
        self._do(f"{path.rpartition('/')[2]} {' '.join(volumes)}", timeout_s)

    def users(self, mount_point: str) -> tuple[User, ...]:
        return tuple(User(number, "busy", f"{mount_point}/file") for number in range(12))

    def stop_unit(self, unit: str, timeout_s: float) -> None:
        self._do(unit.rpartition("-")[2], timeout_s)

    def _do(self, what: str, timeout_s: float) -> None:
        assert timeout_s >= 1.0
        self.asked.append(what)
        if any(word in what for word in self.fails):
            raise DeviceError(f"{what} does not work")


def let_go(images: ImageNode, host: MadeUpHost) -> list[str]:
    """Let go of both volumes and return what was told."""
    for volume in (STATE, EPHEMERAL):
        if str(images.directory / "mnt" / volume.lower()) not in images.system.mounts:
            images.mount(volume)
    LettingGo(images.node, host, Deadline(images.node, 0.0)).let_go((EPHEMERAL, STATE))
    return images.told


def test_hooks_come_first_then_each_mount_and_what_opened_it(tmp_path: Path) -> None:
    """EPHEMERAL before STATE, whose config its unit needs; who uses them is told, the first ten by name."""
    host = MadeUpHost()
    told = let_go(ImageNode(tmp_path), host)
    assert host.asked == [
        "10-drain EPHEMERAL STATE",
        "20-more EPHEMERAL STATE",
        "ephemeral.mount",
        "open@EPHEMERAL.service",
        "state.mount",
        "open@STATE.service",
    ]
    assert any("is used by busy (9)" in line for line in told)
    assert any("and by 2 more" in line for line in told)
    assert not any("busy (10)" in line for line in told)


def test_what_does_not_work_is_told_and_stops_nothing(tmp_path: Path) -> None:
    """A hook that fails, and a mount that stays busy: what stands on it is left alone, the rest is tried."""
    host = MadeUpHost(fails=("10-drain", "ephemeral.mount"))
    told = let_go(ImageNode(tmp_path), host)
    assert host.asked == [
        "10-drain EPHEMERAL STATE",
        "20-more EPHEMERAL STATE",
        "ephemeral.mount",
        "state.mount",
        "open@STATE.service",
    ]
    assert any("10-drain" in line and "going on" in line for line in told)
    assert any(line.startswith("EPHEMERAL:") and "does not stop" in line for line in told)


def test_what_is_not_mounted_is_left_alone(tmp_path: Path) -> None:
    """No unit is stopped for it."""
    images, host = ImageNode(tmp_path, mounted=False), MadeUpHost()
    LettingGo(images.node, host, Deadline(images.node, 0.0)).let_go((EPHEMERAL, STATE))
    assert len(host.asked) == 2
