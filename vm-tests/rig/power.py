"""One QEMU process, from power-on to power-off, with its TPM, its control socket and its agent's port."""

from __future__ import annotations

import base64
import os
import subprocess
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from rig import host, uki
from rig.cache import guest_slot
from rig.disk import Disk, copy_sparse
from rig.errors import LostVM
from rig.firmware import write_variables
from rig.process import SOCKET_TIMEOUT_S, spawn, stop, tail
from rig.qmp import Lines, Qmp
from rig.spec import MachineSpec, Places, arguments
from rig.tpm import Relay, start_tpm

if TYPE_CHECKING:
    from pathlib import Path

    from rig.image import Image

TICK_S = 0.25


class Power:
    """Hold the power on: everything here is gone after close()."""

    def __init__(self, spec: MachineSpec, image: Image, tree: Path | None, places: Places, **how: str) -> None:
        """Start QEMU; `accel` is "tcg" or "kvm", `incoming` a snapshot to wake up from instead of booting.

        Waits for a free place among the guests that may run at once. Raises LostVM when QEMU does not come up.
        """
        self.places = places
        self._waiting: dict[int, dict[str, Any]] = {}
        self._last_id = 0
        self.boot_id = ""
        self.ports_used = 0
        with ExitStack() as stack:
            stack.enter_context(guest_slot())
            prepare(spec, image, places)
            self.relay: Relay | None = None
            if spec.tpm:
                stack.callback(stop, start_tpm(places))
                self.relay = Relay(places)
                stack.callback(self.relay.close)
            argv = [host.QEMU, *arguments(spec, image, tree, places, how.get("accel", "tcg"))]
            if "incoming" in how:
                argv += ["-incoming", how["incoming"]]
            self.process = spawn(argv, places.directory / "qemu.log")
            stack.callback(stop, self.process)
            try:
                self.qmp = Qmp(places.qmp, SOCKET_TIMEOUT_S)
                stack.callback(self.qmp.close)
                self._agent = Lines(places.agent, SOCKET_TIMEOUT_S)
                stack.callback(self._agent.close)
            except LostVM as error:
                raise self.lost(str(error)) from error
            self._stack = stack.pop_all()

    def close(self) -> None:
        """Cut the power, if it is still on."""
        self._stack.close()

    def kill(self) -> None:
        """Cut the power at this instant: nothing of QEMU runs after this line."""
        stop(self.process)
        self.close()

    def lost(self, what: str) -> LostVM:
        """Return the error for a guest that is gone, with the ends of its console and of QEMU's own output."""
        qemu = tail(self.places.directory / "qemu.log")
        return LostVM(f"{what}\n--- end of the console ---\n{tail(self.places.console)}\n--- QEMU ---\n{qemu}")

    def post(self, operation: str, **request: object) -> int:
        """Send the agent a request and return its number without waiting for the answer."""
        self._last_id += 1
        self._agent.send({"id": self._last_id, "op": operation, **request})
        return self._last_id

    def answer(self, number: int, timeout_s: float) -> dict[str, Any] | None:
        """Return the answer to a request, or None when it did not come in time.

        Raises LostVM when QEMU ended, as it does when the guest resets.
        """
        deadline = time.monotonic() + timeout_s
        while number not in self._waiting:
            if time.monotonic() > deadline:
                return None
            self._pump()
        return self._waiting.pop(number)

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until the agent says it is ready; tell whether it did in time. Raises LostVM when QEMU ended."""
        deadline = time.monotonic() + timeout_s
        while not self.boot_id:
            if time.monotonic() > deadline:
                return False
            self._pump()
        return True

    def wake(self, timeout_s: float) -> bool:
        """Let a guest that was restored from a snapshot go on; tell whether it is loaded and answers in time."""
        deadline = time.monotonic() + timeout_s
        while self.qmp.execute("query-status")["status"] == "inmigrate":
            self.check_alive()
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        self.qmp.execute("cont")
        # Another seed and the time of day: guests from one snapshot must not make the same keys.
        seed = base64.b64encode(os.urandom(64)).decode()
        if self.answer(self.post("mix", seed=seed, now_s=time.time()), timeout_s) is None:
            return False
        answer = self.answer(self.post("read_file", path="/proc/sys/kernel/random/boot_id"), timeout_s)
        if answer is None:
            return False
        self.boot_id = base64.b64decode(answer["content"]).decode().strip()
        return True

    def wait_exit(self, timeout_s: float) -> bool:
        """Wait until QEMU has ended by itself; tell whether it did in time."""
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def check_alive(self) -> None:
        """Raise LostVM when QEMU ended: by itself, or because the guest was reset or ended."""
        if self.process.poll() is not None:
            raise self.lost(f"the guest stopped by itself: QEMU ended with status {self.process.returncode}")

    def _pump(self) -> None:
        self.check_alive()
        try:
            message = self._agent.receive(TICK_S)
        except LostVM as error:
            raise self.lost(f"the guest stopped by itself: {error}") from error
        if message is None:
            return
        if "ready" in message:
            self.boot_id = message["ready"]
        elif "id" in message:
            self._waiting[message["id"]] = message


def prepare(spec: MachineSpec, image: Image, places: Places) -> None:
    """Put what QEMU needs into the guest's directory; the disks' write logs begin anew."""
    for stale in (places.qmp, places.agent):
        stale.unlink(missing_ok=True)
    if spec.secure_boot is None:
        places.initrd.write_bytes(uki.initrd(spec, image))
    else:
        uki.build(spec, image, places.unified)
        write_variables(spec.secure_boot, places.variables)
    for disk in spec.disks:
        begin_log(disk)


def begin_log(disk: Disk) -> None:
    """Begin the write log of a disk that keeps one, beside a copy of the disk as it is now."""
    if disk.log_writes:
        disk.log_path.write_bytes(b"")
        copy_sparse(disk.path, disk.base_path)
