"""A mkfs that fails every time is tried three times, and then the boot stops and says which step it was."""

from __future__ import annotations

from collections.abc import Callable

from first_boots import CONFIG
from nodes import node_spec, report
from rig.disk import Shelf
from rig.machine import Machine
from rig.spec import MachineSpec
from stage import Stage

# Found before the real one: luksctl looks in /usr/sbin first, and the guest's root takes writes.
BROKEN = (
    "#!/bin/sh\ncase $1 in -V) exec /usr/sbin/mkfs.xfs.real -V;; esac\necho 'no space for a filesystem' >&2\nexit 1\n"
)
ATTEMPTS = 3


def test_three_failures_then_a_stop_and_a_way_on(machine: Callable[[MachineSpec], Machine], disks: Shelf) -> None:
    """The third failure ends it; a fourth boot writes nothing; mended, `luksctl retry` goes on to mounted volumes."""
    disk = disks.talos()
    node = machine(node_spec(MachineSpec(disks=(disk,)), CONFIG))
    node.restore()
    stage = Stage(node, disk)
    node.check("mv", "/usr/sbin/mkfs.xfs", "/usr/sbin/mkfs.xfs.real")
    node.write_file("/usr/sbin/mkfs.xfs", BROKEN, mode=0o755)
    # The background retries would use up attempts of their own; here each boot is one.
    node.check("systemctl", "mask", "--runtime", "luksctl-retry@STATE.service", "luksctl-retry@EPHEMERAL.service")
    for attempt in range(1, ATTEMPTS + 1):
        assert stage.boot().status != 0
        found = report(node, "STATE")
        assert found["state"] == "failed", (attempt, found)
        assert "no space for a filesystem" in found["problem"]
        with stage.let_go() as left:
            before = left.sha256()
    assert stage.boot().status != 0
    stopped = report(node, "STATE")
    assert stopped["state"] == "refused", stopped
    assert "failed 3 times, last while making the filesystem" in stopped["problem"]
    assert "no space for a filesystem" in stopped["problem"]
    assert stopped["hint"] == "mend the cause, then: luksctl retry STATE"
    with stage.let_go() as left:
        assert left.sha256() == before

    node.check("mv", "/usr/sbin/mkfs.xfs.real", "/usr/sbin/mkfs.xfs")
    node.check("luksctl", "retry", "STATE")
    stage.boot()
    stage.assert_both_mounted()
