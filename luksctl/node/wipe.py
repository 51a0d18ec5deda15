"""Erase a disk, a partition or an image file that no volume of this node uses: `luksctl wipe disk`.

Nothing is announced: whoever wipes a disk is there to do it again. Cut: some of it is erased, key areas and headers
first; the next run starts over, and passes over what is zero already.
"""

from __future__ import annotations

from luksctl.errors import Refused
from luksctl.hints import Protocol
from luksctl.model.announced_step import Discard, EraseEnds, EraseHeader, Overwrite
from luksctl.model.header import HeaderCopies
from luksctl.model.intent import EraseMethod, ResetIntent
from luksctl.model.probe import Device, PartitionEntry, Range
from luksctl.model.step import Done
from luksctl.node.erasure import Erasure, erasure_of, keep
from luksctl.node.node import Node
from luksctl.node.reset import LABELS
from luksctl.reconcile.erase_steps import EraseSteps
from luksctl.reconcile.plan_reset import ends_of, erase_passes, head_of
from luksctl.value import frozen, replace


class WipeHost(Protocol):
    """What is asked of the machine beside the ports."""

    def device_at(self, path: str) -> Device:
        """Return the block device or image file at `path`; DeviceMissing or UsageError where that is none."""

    def entries(self, device: Device) -> tuple[PartitionEntry, ...]:
        """Return the partitions that its table names, () without a GPT."""

    def copies_in(self, device: Device, place: Range) -> HeaderCopies:
        """Read and check both LUKS header copies of what lies in a part of the device."""

    def forget_partitions(self, device: Device) -> None:
        """Have the kernel read the table that is gone."""


@frozen
class Doomed:
    """A device that may be wiped: what is on it, and the ranges that go first."""

    device: Device
    what: str
    was: str
    entries: tuple[PartitionEntry, ...]
    passes: tuple[tuple[Range, ...], ...]
    ends: tuple[Range, ...]


def look_at(node: Node, host: WipeHost, path: str) -> Doomed:
    """Find what would be wiped; reads only. Refused: in use, read-only, of the running system, or a volume's."""
    device = host.device_at(path)
    disks = node.ports.disks
    why_not = disks.why_untouchable(device)
    if why_not is None:
        holder = disks.in_use(device)
        why_not = None if holder is None else f"{device.path} is in use by {holder}"
    if why_not is not None:
        raise Refused(f"{why_not}; nothing was touched", operation="wipe")
    _expect_no_volume(node, device)
    entries = host.entries(device)
    partitions = _inside(tuple(Range(each.offset_bytes, each.size_bytes) for each in entries), device.size_bytes)
    places = (Range(0, device.size_bytes), *partitions)
    found = [(place, host.copies_in(device, place)) for place in places]
    signature = disks.signature(device.path)
    names = ", ".join(entry.name or str(entry.number) for entry in entries)
    what = "nothing that has a signature" if signature is None else signature.type or "contradicting signatures"
    header = found[0][1].best
    return Doomed(
        device,
        f"partitions {names}" if entries else what,
        header.uuid if header is not None else "" if signature is None else signature.uuid,
        entries,
        _passes(found),
        tuple(part for place, copies in found for part in _ends(place, copies)),
    )


def wipe(node: Node, host: WipeHost, doomed: Doomed, method: EraseMethod) -> Erasure:
    """Erase it, prove it, and return the record; errors as a reset. Cut: see the top of this module."""
    device, name = doomed.device, doomed.device.path
    take = EraseSteps(node.ports, lambda: True).take
    steps: list[Done] = [take(EraseHeader(name, device, doomed.passes))] if doomed.passes else []
    steps.append(take(EraseEnds(name, device, doomed.ends)))
    if method is EraseMethod.ZEROES:
        for _ in node.ports.disks.overwrite(device, 0):
            continue
        steps.append(Done(Overwrite(name, device, ResetIntent(name, device.identity, method))))
    else:
        steps.append(take(Discard(name, device)))
    host.forget_partitions(device)
    erasure = erasure_of(node, name, steps, doomed.was, method)
    if erasure is None:
        raise AssertionError("both ends were erased")
    return replace(erasure, complete=True)


def wiped(node: Node, host: WipeHost, doomed: Doomed, method: EraseMethod, records: str | None) -> Erasure:
    """Wipe, keep the record, and return it."""
    erasure = wipe(node, host, doomed, method)
    keep(node, erasure, records)
    return erasure


def _expect_no_volume(node: Node, device: Device) -> None:
    """Raise Refused where the device is, or holds, what a volume of this node is found on."""
    for volume in LABELS:
        found = node.ports.disks.find(volume, node.settings.volume(volume), timeout_s=0)
        if isinstance(found, Device) and device.path in (found.path, found.disk):
            hint = f"luksctl reset --system-labels-to-wipe {volume}"
            raise Refused(
                f"{device.path} holds {volume} of this node; nothing was touched", operation="wipe", hint=hint
            )


def _passes(found: list[tuple[Range, HeaderCopies]]) -> tuple[tuple[Range, ...], ...]:
    """Put together what goes first, second and last of every header that was found."""
    each = [
        tuple(
            tuple(_moved(part, place.offset_bytes) for part in ranges)
            for ranges in erase_passes(copies, limit, around=False)
        )
        for place, copies in found
        if copies.best is not None and (limit := min(place.size_bytes, head_of(copies)))
    ]
    rounds = max((len(passes) for passes in each), default=0)
    return tuple(
        tuple(part for passes in each for ranges in passes[at : at + 1] for part in ranges) for at in range(rounds)
    )


def _ends(place: Range, copies: HeaderCopies) -> tuple[Range, ...]:
    return tuple(_moved(part, place.offset_bytes) for part in ends_of(head_of(copies), place.size_bytes))


def _moved(part: Range, offset_bytes: int) -> Range:
    return Range(part.offset_bytes + offset_bytes, part.size_bytes)


def _inside(ranges: tuple[Range, ...], size_bytes: int) -> tuple[Range, ...]:
    """Leave out what a table of lies puts behind the end of the device."""
    return tuple(part for part in ranges if part.offset_bytes + part.size_bytes <= size_bytes)
