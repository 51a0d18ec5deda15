"""Taking the steps of a reset: what is erased is read back, what takes long notes how far it came."""

from __future__ import annotations

from collections.abc import Callable

from luksctl.errors import Busy, DeviceError
from luksctl.hints import Final, assert_never
from luksctl.model.announced_step import ConcludeReset, Discard, EraseEnds, EraseHeader, Overwrite
from luksctl.model.intent import ResetIntent
from luksctl.model.ports import Ports
from luksctl.model.probe import Device, blank_ranges
from luksctl.model.step import Done
from luksctl.units import GIB
from luksctl.value import replace

EraseStep = EraseHeader | EraseEnds | Overwrite | Discard | ConcludeReset
# How much is overwritten between two notes of how far it came: what a power cut may have to be done again.
_NOTED_EVERY_BYTES: Final = GIB


class EraseSteps:
    """Erase by the ports. Once `keep_going` says no, overwriting ends as Busy, and goes on from there the next time."""

    def __init__(self, ports: Ports, keep_going: Callable[[], bool]) -> None:
        self._ports = ports
        self._keep_going = keep_going

    def take(self, step: EraseStep) -> Done:
        """Take one step; its docstring says what a cut leaves."""
        disks = self._ports.disks
        match step:
            case EraseHeader(_, device, passes):
                return Done(step, disks.erase(device, passes, exclusive=False))
            case EraseEnds(_, device, ranges):
                how = disks.erase(device, (ranges,), exclusive=True)
                self._expect_no_signature(device)
                return Done(step, how)
            case Overwrite(_, device, intent):
                return Done(step, self._overwrite(device, intent))
            case Discard(_, device):
                return self._discard(step, device)
            case ConcludeReset(volume, device):
                self._conclude(volume, device)
                return Done(step, "blank")
        assert_never(step)

    def _overwrite(self, device: Device, intent: ResetIntent) -> str:
        noted = intent
        for position_bytes in self._ports.disks.overwrite(device, intent.position_bytes):
            ended = position_bytes >= device.size_bytes
            going = ended or self._keep_going()
            if position_bytes - noted.position_bytes >= _NOTED_EVERY_BYTES or ended or not going:
                # Whatever gets on is no failed attempt, however often the power goes.
                noted = replace(noted, position_bytes=position_bytes, attempt=0, last_error="")
                self._note(noted)
            if not going:
                done = 100 * position_bytes // device.size_bytes
                raise Busy(f"it is being overwritten with zeros, {done} % so far", volume=intent.volume)
        return f"{device.size_bytes - intent.position_bytes} bytes overwritten and read back"

    def _note(self, intent: ResetIntent) -> None:
        self._ports.meta.update_record(lambda record: record.with_intent(intent))

    def _discard(self, step: Discard, device: Device) -> Done:
        why_not = self._ports.disks.discard(device)
        if why_not is not None:
            return Done(step, skipped=why_not)
        if not self._ports.disks.is_zero(device):
            # What reads back from discarded blocks is the device's own affair (some give what was there before).
            again = self._ports.disks.erase(device, (blank_ranges(0, device.size_bytes),), exclusive=True)
            return Done(step, f"both ends zeroed once more, {again}")
        return Done(step)

    def _conclude(self, volume: str, device: Device) -> None:
        self._expect_no_signature(device)
        if not self._ports.disks.is_zero(device):
            raise DeviceError(f"{device.path} does not read as zeros at both ends after it was erased", volume=volume)
        self._ports.meta.update_record(lambda record: record.with_erased(volume))

    def _expect_no_signature(self, device: Device) -> None:
        found = self._ports.disks.signature(device.path)
        if found is not None:
            name = found.type or "something that several signatures claim"
            raise DeviceError(
                f"{device.path} still shows {name} after it was erased",
                hint="reset it with --zero, which overwrites all of it",
            )
