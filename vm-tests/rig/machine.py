"""A machine with a power switch: what stories are written with."""

from __future__ import annotations

import base64
import shlex
import shutil
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from rig import accel, host, snapshot
from rig.cpio import GuestFile, Link
from rig.disk import Disk, copy_sparse, make_upper
from rig.errors import CommandFailed, NoAnswer, RigError
from rig.image import image
from rig.power import Power, begin_log
from rig.process import tail
from rig.spec import MachineSpec, Places, block_nodes, disk_device
from rig.tpm import Relay, replace_tpm
from rig.tree import tree

if TYPE_CHECKING:
    from types import TracebackType

WATCHDOG_S = 90.0
SHUTDOWN_S = 60.0
BOOT_TIMEOUT_S = 300.0
COMMAND_TIMEOUT_S = 120.0
PING_TIMEOUT_S = 20.0
WAKE_TIMEOUT_S = 30.0
CONSOLE_TICK_S = 0.5
Until = Literal["boot", "agent"]

retried_boots: list[str] = []
"""One line for each boot that hung and was tried again; the test run's summary prints them."""


@dataclass(frozen=True, slots=True)
class Result:
    """Hold how a command in the guest ended."""

    argv: tuple[str, ...]
    status: int
    stdout: str
    stderr: str

    def __str__(self) -> str:
        """Return the command, its status and its output, for a failure's message."""
        output = "".join(f"\n--- {name}\n{text}" for name, text in (("stdout", self.stdout), ("stderr", self.stderr)))
        return f"{shlex.join(self.argv)}: status {self.status}{output}"


@dataclass(frozen=True, slots=True)
class Pending:
    """Stand for a command that runs in the guest while the story goes on."""

    machine: Machine
    number: int
    argv: tuple[str, ...]
    timeout_s: float

    def wait(self) -> Result:
        """Wait for the command and return how it ended; errors as in Machine.run."""
        return self.machine.finish(self)


class Machine:
    """Boot a guest again and again on the same disks; `with` removes it, disks of its own included."""

    def __init__(self, spec: MachineSpec, name: str = "guest") -> None:
        """Describe the machine; nothing runs before start(). The spec may be replaced while the power is off."""
        self.spec = spec
        self.name = name
        self.places = Places(Path(tempfile.mkdtemp(prefix="rig-")))
        self._power: Power | None = None
        if spec.root_upper == "disk":
            make_upper(self.places.upper)

    def __enter__(self) -> Self:
        """Return the machine itself, off."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cut the power if it is on, and remove the machine's directory."""
        self.close()

    def close(self) -> None:
        """Cut the power if it is on, and remove the machine's directory; done twice, it does nothing more."""
        if self._power is not None:
            self._power.kill()
            self._power = None
        shutil.rmtree(self.places.directory, ignore_errors=True)

    # -- power ---------------------------------------------------------------------------------------------------

    @property
    def is_on(self) -> bool:
        """Tell whether QEMU runs."""
        return self._power is not None and self._power.process.poll() is None

    @property
    def power(self) -> Power:
        """Return the running QEMU; raises RigError when the power is off."""
        if self._power is None:
            raise RigError(f"{self.name} is off")
        return self._power

    def start(self, until: Until = "boot") -> str:
        """Switch the power on and wait; return what systemd says of the boot ("running", "degraded", "maintenance").

        until="agent" returns as soon as the agent answers (early: udev may still be at work) with "starting". A guest
        whose agent does not answer in 90 s (more under load) hung before anything under test ran: its disks are put
        back and it is started once more, which is counted. Raises LostVM when it dies or hangs again.
        """
        if self._power is not None:
            raise RigError(f"{self.name} is on already")
        files = image()
        program = tree() if self.spec.tree else None
        kept = self._keep_disks()
        for attempt in (1, 2):
            self._power = Power(self.spec, files, program, self.places, accel=accel.accelerator(files))
            if self._power.wait_ready(WATCHDOG_S * host.patience()):
                break
            error = self._power.lost(f"{self.name}: no sign of life after power-on (attempt {attempt})")
            self.cut_power()
            if attempt == 2:
                raise error
            retried_boots.append(f"{self.name}: power-on hung, tried again")
            for copy, original in kept.items():
                copy_sparse(copy, original)
        for copy in kept:
            copy.unlink()
        return self.wait_booted() if until == "boot" else "starting"

    def start_in_vain(self, said: str) -> None:
        """Switch the power on where no system is meant to start, and wait until the console says `said`.

        Raises NoAnswer when it does not, and AssertionError when a guest answers after all.
        """
        if self._power is not None:
            raise RigError(f"{self.name} is on already")
        files = image()
        self._power = Power(self.spec, files, tree() if self.spec.tree else None, self.places)
        deadline = time.monotonic() + WATCHDOG_S * host.patience()
        while not self._power.wait_ready(CONSOLE_TICK_S):
            if said in self.console():
                return
            if time.monotonic() > deadline:
                raise NoAnswer(f"{self.name} never said {said!r}\n{self.console()}")
        raise AssertionError(f"{self.name} started a system\n{self.console()}")

    def restore(self) -> None:
        """Wake up a guest that was saved after its boot, plug the spec's disks in, and write its files.

        Takes a few seconds instead of a boot; later reboots and starts are ordinary ones. Raises RigError when the
        spec asks for what only a boot can give: a UUID, credentials, kernel arguments, a TPM, a network, a kept root.
        """
        wanted = self.spec
        base = snapshot.base_spec(wanted)
        if replace(wanted, disks=(), files={}) != base:
            raise RigError(
                f"{self.name}: a restored guest has disks, files, memory and the tree; boot one for the rest"
            )
        if self._power is not None:
            raise RigError(f"{self.name} is on already")
        files, program = image(), tree() if wanted.tree else None
        source = snapshot.incoming(wanted, files, program)
        self.spec = replace(base, files=wanted.files)
        for attempt in (1, 2):
            self._power = Power(self.spec, files, program, self.places, incoming=source)
            if self._power.wake(WAKE_TIMEOUT_S * host.patience()):
                break
            error = self._power.lost(f"{self.name}: no sign of life after waking up (attempt {attempt})")
            self.cut_power()
            if attempt == 2:
                raise error
            retried_boots.append(f"{self.name}: waking up hung, tried again")
        self._place_files()
        for disk in wanted.disks:
            self.plug(disk)

    def _place_files(self) -> None:
        for path, content in self.spec.files.items():
            match content:
                case Link(target):
                    parent = str(Path(path).parent)
                    self.check("sh", "-c", 'mkdir -p "$1" && ln -sfn "$2" "$3"', "sh", parent, target, path)
                case GuestFile(data, mode):
                    self.write_file(path, data, mode)
                case bytes() | str():
                    self.write_file(path, content)
        if any(path.startswith("/etc/systemd/") for path in self.spec.files):
            self.check("systemctl", "daemon-reload")

    def cut_power(self) -> None:
        """Cut the power at this instant. The disks hold what the guest had handed over."""
        self.power.kill()
        self._power = None

    def reset(self, until: Until = "boot") -> str:
        """Press the reset button and wait, as start() does."""
        self.cut_power()
        return self.start(until)

    def reboot(self, until: Until = "boot") -> str:
        """Reboot by systemd and wait, as start() does."""
        self.begin("systemctl", "--no-block", "reboot")
        return self.wait_reboot(until)

    def wait_reboot(self, until: Until = "boot") -> str:
        """Wait for a reboot that something else began, as start() does; begin() the command that reboots, not run() it.

        QEMU ends where the guest resets, and another one is started. A reboot that hangs before is followed by a power
        cut, which is counted.
        """
        if not self.power.wait_exit(SHUTDOWN_S * host.patience()):
            retried_boots.append(f"{self.name}: a reboot hung, power cut and started")
        self.cut_power()
        return self.start(until)

    def poweroff(self) -> None:
        """Shut down by systemd and wait until the power is off; raises NoAnswer when it stays on."""
        self.begin("systemctl", "--no-block", "poweroff")
        if not self.power.wait_exit(BOOT_TIMEOUT_S * host.patience()):
            raise NoAnswer(f"{self.name} did not power off\n{tail(self.places.console)}")
        self.cut_power()

    def wait_booted(self, timeout_s: float = BOOT_TIMEOUT_S) -> str:
        """Wait until systemd has nothing left to start and return its state; raises NoAnswer with the open jobs."""
        with suppress(NoAnswer):
            state = self.run("systemctl", "is-system-running", "--wait", timeout_s=timeout_s).stdout.strip()
            if state not in {"", "initializing", "starting"}:
                return state
        raise NoAnswer(f"{self.name} is still starting\n{self.run('systemctl', 'list-jobs').stdout}")

    @property
    def tpm(self) -> Relay:
        """Return what stands before the TPM of the running guest; raises RigError where it has none."""
        if self.power.relay is None:
            raise RigError(f"{self.name} has no TPM")
        return self.power.relay

    def replace_tpm(self) -> None:
        """Put another TPM on the board; only while the power is off."""
        replace_tpm(self.places)

    def _keep_disks(self) -> dict[Path, Path]:
        """Copy the disks, so that a boot that hung can be undone."""
        originals = [disk.path for disk in self.spec.disks if not disk.read_only]
        if self.spec.root_upper == "disk":
            originals.append(self.places.upper)
        kept = {self.places.directory / f"kept-{number}": path for number, path in enumerate(originals)}
        for copy, original in kept.items():
            copy_sparse(original, copy)
        return kept

    # -- inside the guest ----------------------------------------------------------------------------------------

    @property
    def boot_id(self) -> str:
        """Return the kernel's boot id, new at each boot."""
        return self.power.boot_id

    def run(self, *argv: str, stdin: bytes = b"", timeout_s: float = COMMAND_TIMEOUT_S) -> Result:
        """Run a command in the guest and return how it ended, whatever its status.

        One argument with a space in it is a line for the shell; several are an argument list. The timeout grows with
        the host's load. Raises NoAnswer when the command is not done in time in a guest that lives, LostVM when the
        guest does not.
        """
        return self.begin(*argv, stdin=stdin, timeout_s=timeout_s).wait()

    def check(self, *argv: str, stdin: bytes = b"", timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """Run a command as run() does and return its standard output; raises CommandFailed when its status is not 0."""
        result = self.run(*argv, stdin=stdin, timeout_s=timeout_s)
        if result.status != 0:
            raise CommandFailed(str(result))
        return result.stdout

    def begin(self, *argv: str, stdin: bytes = b"", timeout_s: float = COMMAND_TIMEOUT_S) -> Pending:
        """Begin a command in the guest without waiting for it."""
        line = ("sh", "-c", argv[0]) if len(argv) == 1 and " " in argv[0] else argv
        patient_s = timeout_s * host.patience()
        encoded = base64.b64encode(stdin).decode()
        number = self.power.post("run", argv=list(line), stdin=encoded, timeout_s=patient_s)
        return Pending(self, number, line, patient_s)

    def finish(self, pending: Pending) -> Result:
        """Wait for a command that was begun; see Pending.wait."""
        answer = self._answer(pending.number, pending.timeout_s + PING_TIMEOUT_S, shlex.join(pending.argv))
        out, err = (base64.b64decode(answer[name]).decode(errors="replace") for name in ("out", "err"))
        result = Result(pending.argv, answer["rc"], out, err)
        if answer["timed_out"]:
            raise NoAnswer(f"not done after {pending.timeout_s:.0f} s: {result}\n{tail(self.places.console)}")
        return result

    def read_file(self, path: str) -> bytes:
        """Return the content of a file in the guest; raises CommandFailed when it cannot be read."""
        answer = self._ask("read_file", path=path)
        return base64.b64decode(answer["content"])

    def write_file(self, path: str, content: bytes | str, mode: int = 0o644) -> None:
        """Write and sync a file in the guest, its directories too; raises CommandFailed when it cannot be written."""
        data = content.encode() if isinstance(content, str) else content
        self._ask("write_file", path=path, content=base64.b64encode(data).decode(), mode=mode)

    def wait_until(self, *argv: str, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """Run a command in the guest again and again until its status is 0; return its output, or raise NoAnswer."""
        line = argv[0] if len(argv) == 1 else shlex.join(argv)
        patient_s = timeout_s * host.patience()
        script = f"end=$(( $(date +%s) + {patient_s:.0f} )); until {{ {line}; }}; do "
        script += '[ "$(date +%s)" -lt "$end" ] || exit 97; sleep 0.2; done'
        result = self.run("sh", "-c", script, timeout_s=timeout_s + PING_TIMEOUT_S)
        if result.status != 0:
            raise NoAnswer(f"never true in {patient_s:.0f} s: {line}\n{result}")
        return result.stdout

    def wait_for_unit(self, unit: str, state: str = "active", timeout_s: float = COMMAND_TIMEOUT_S) -> None:
        """Wait until a unit's ActiveState is the given one."""
        self.wait_until(f'[ "$(systemctl show -P ActiveState {unit})" = {state} ]', timeout_s=timeout_s)

    def wait_for_path(self, path: str, timeout_s: float = COMMAND_TIMEOUT_S) -> None:
        """Wait until a path exists."""
        self.wait_until(f"[ -e {shlex.quote(path)} ]", timeout_s=timeout_s)

    def journal(self, *arguments: str) -> str:
        """Return this boot's journal, or the part of it that the arguments for journalctl choose."""
        return self.run("journalctl", "--boot", "--no-pager", "--output=short-monotonic", *arguments).stdout

    def console(self, lines: int = 40) -> str:
        """Return the end of the serial console's log."""
        return tail(self.places.console, lines)

    def plug(self, disk: Disk) -> None:
        """Plug a disk into the running guest and wait until udev has seen it; it stays for later starts."""
        number = len(self.spec.disks)
        begin_log(disk)
        for node in block_nodes(disk, number):
            self.power.qmp.execute("blockdev-add", **node)
        device = disk_device(disk, number) | {"bus": f"hotplug{self._next_port()}"}
        self.power.qmp.execute("device_add", **device)
        self.spec = replace(self.spec, disks=(*self.spec.disks, disk))
        self.wait_for_path(f"/dev/disk/by-id/virtio-{disk.serial}")
        self.check("udevadm", "settle")

    def _next_port(self) -> int:
        self.power.ports_used += 1
        return self.power.ports_used - 1

    def _ask(self, operation: str, **request: object) -> dict[str, Any]:
        return self._answer(self.power.post(operation, **request), COMMAND_TIMEOUT_S * host.patience(), operation)

    def _answer(self, number: int, timeout_s: float, what: str) -> dict[str, Any]:
        answer = self.power.answer(number, timeout_s)
        if answer is None:
            if self.power.answer(self.power.post("ping"), PING_TIMEOUT_S * host.patience()) is None:
                raise self.power.lost(f"{self.name} hangs: no answer to {what}, nor to a ping")
            raise NoAnswer(f"{self.name} lives but did not answer in {timeout_s:.0f} s: {what}")
        if "error" in answer:
            raise CommandFailed(f"{what}: {answer['error']}")
        return answer
