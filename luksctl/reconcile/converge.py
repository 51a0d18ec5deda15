"""Bring one volume to what is desired: observe, plan, apply, and look again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack

from luksctl.errors import Busy, NotConverged
from luksctl.model.config import VolumeSettings
from luksctl.model.desired import DesiredVolume
from luksctl.model.observed import Blank, Luks2, Observed, Unfinished
from luksctl.model.plan import Plan
from luksctl.model.ports import Ports
from luksctl.model.probe import Device
from luksctl.model.step import Done
from luksctl.reconcile.apply import apply
from luksctl.reconcile.observe import observe
from luksctl.reconcile.plan import plan
from luksctl.value import frozen


@frozen
class Look:
    """What is there and what would be done about it."""

    observed: Observed
    plan: Plan


def look(desired: DesiredVolume, settings: VolumeSettings, ports: Ports) -> Look:
    """Observe and plan; reads only."""
    meta = ports.meta.load()
    observed = observe(desired.volume, settings, desired.mapped_name, meta, ports.disks)
    return Look(observed, plan(desired, observed, meta, fresh_uuid=_random_uuid()))


def converge(desired: DesiredVolume, settings: VolumeSettings, ports: Ports) -> Iterator[Done]:
    """Yield every step taken until nothing is left to do; raises the refusal, a step's error, or NotConverged.

    Our volume lock is held throughout. The whole disk's flock is held only where something is formatted, and then the
    look that decides is taken under it.
    """
    with ports.disks.volume_lock(desired.volume):
        found = look(desired, settings, ports)
        with ExitStack() as locks:
            if isinstance(found.observed, Blank | Unfinished) and found.plan.refusal is None:
                locked = found.observed.device
                locks.enter_context(ports.disks.format_lock(locked))
                found = look(desired, settings, ports)
                _expect_same_device(locked, found)
            seen = found.observed.header if isinstance(found.observed, Luks2) else None
            yield from apply(found.plan, ports, seen)
        if found.plan.steps:
            left = look(desired, settings, ports).plan
            if left.refusal is not None:
                raise left.refusal
            if left.steps:
                names = ", ".join(type(step).__name__ for step in left.steps)
                raise NotConverged(f"still to do after applying the plan: {names}", volume=desired.volume)


def _expect_same_device(locked: Device, found: Look) -> None:
    """Raise Busy where the volume moved while its lock was awaited: what was found now is not what is locked."""
    if found.plan.destroys_data and isinstance(found.observed, Blank | Unfinished) and found.observed.device != locked:
        cause = f"the volume was on {locked.path} and is on {found.observed.device.path} now"
        raise Busy(cause, volume=found.plan.volume, hint="try again")


def _random_uuid() -> str:
    """Return a version 4 UUID (RFC 9562); the module of that name costs every boot six milliseconds of import."""
    octets = bytearray(os.urandom(16))
    octets[6] = octets[6] & 0x0F | 0x40
    octets[8] = octets[8] & 0x3F | 0x80
    text = octets.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
