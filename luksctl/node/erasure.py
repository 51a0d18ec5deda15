"""The record of an erasure: what was erased, how, what was read back, and when; for whoever has to prove it.

It goes to the log as one line, and into a file of its own; it holds serial numbers and UUIDs of disks, no secret.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence

from luksctl.hints import Final
from luksctl.model.announced_step import ConcludeReset, Discard, EraseEnds, EraseHeader, Overwrite
from luksctl.model.intent import EraseMethod
from luksctl.model.probe import Device, Hardware, Range
from luksctl.model.step import Done
from luksctl.node.files import create_file
from luksctl.node.node import Node
from luksctl.value import frozen

VERSION: Final = 1


@frozen
class Erasure:
    """One volume or disk. `was` is the UUID of what was there; `zeroed` are the ranges that were read back as zeros.

    `complete` is false where only the header and the keys could go so far, because somebody used the volume.
    """

    volume: str
    device: Device
    hardware: Hardware
    method: EraseMethod
    was: str
    zeroed: tuple[Range, ...]
    verification: str
    discard: str
    complete: bool
    time: str

    def fields(self) -> dict[str, object]:
        """Return the record as plain values."""
        return {
            "version": VERSION,
            "volume": self.volume,
            "device": self.device.path,
            "sizeBytes": self.device.size_bytes,
            "disk": self.device.disk or None,
            "model": self.hardware.model or None,
            "serial": self.hardware.serial or None,
            "partitionUUID": self.device.partuuid or None,
            "erasedUUID": self.was or None,
            "method": self.method.value,
            "zeroed": [{"offsetBytes": part.offset_bytes, "sizeBytes": part.size_bytes} for part in self.zeroed],
            "verification": self.verification,
            "discard": self.discard,
            "complete": self.complete,
            "time": self.time,
        }


def erasure_of(node: Node, volume: str, steps: Sequence[Done], was: str, method: EraseMethod) -> Erasure | None:
    """Return the record of what `steps` erased of `volume`, or None where they erased nothing."""
    zeroed: list[Range] = []
    device: Device | None = None
    verification, discarded = "", "not done"
    for done in steps:
        step = done.step
        match step:
            case EraseHeader():
                device, verification = step.device, done.detail
                zeroed += [part for ranges in step.passes for part in ranges]
            case EraseEnds():
                device, verification = step.device, done.detail
                zeroed += step.ranges
            case Overwrite():
                zeroed.append(Range(0, step.device.size_bytes))
            case Discard():
                discarded = done.skipped or "done"
            case _:
                pass
    if device is None:
        return None
    return Erasure(
        volume,
        device,
        node.ports.disks.hardware(device),
        method,
        was,
        merged(zeroed),
        verification,
        discarded,
        any(isinstance(done.step, ConcludeReset) for done in steps),
        now(),
    )


def merged(ranges: Sequence[Range]) -> tuple[Range, ...]:
    """Return the ranges in order, those that touch or overlap as one."""
    found: list[Range] = []
    for part in sorted(ranges, key=lambda each: each.offset_bytes):
        last = found[-1] if found else None
        if last is not None and part.offset_bytes <= last.offset_bytes + last.size_bytes:
            end = max(last.offset_bytes + last.size_bytes, part.offset_bytes + part.size_bytes)
            found[-1] = Range(last.offset_bytes, end - last.offset_bytes)
        else:
            found.append(part)
    return tuple(found)


def now() -> str:
    """Return the time as records have it (ISO 8601, UTC)."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def keep(node: Node, erasure: Erasure, directory: str | None = None) -> str | None:
    """Tell the record to the log, and write it to a new file; return its path, or None where none could be written.

    The disk is erased by then: a root that takes no writes yet, early in a boot, is told and changes nothing.
    """
    fields = erasure.fields()
    node.tell(f"{erasure.volume}: erasure record {json.dumps(fields, separators=(',', ':'))}")
    place = directory or node.paths.erasures
    name = f"{erasure.time.replace(':', '')}-{os.path.basename(erasure.volume)}"
    try:
        os.makedirs(place, mode=0o755, exist_ok=True)
        for number in range(1, 100):
            path = os.path.join(place, f"{name}{'' if number == 1 else f'-{number}'}.json")
            if create_file(path, json.dumps(fields, indent=2).encode() + b"\n", mode=0o644):
                return path
    except OSError as error:
        node.tell(f"{erasure.volume}: its erasure record was not written to {place}: {error.strerror}")
    return None
