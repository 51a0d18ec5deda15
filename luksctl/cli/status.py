"""`luksctl status`: how the node and its volumes are, and what to type next; reads only.

Ends with 0, with 4 where a volume is locked, with 5 where something is not as configured, with 12 in maintenance.
"""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Iterator

from luksctl.cli.console import Console
from luksctl.cli.context import Context
from luksctl.cli.parser import Parser
from luksctl.cli.status_fields import status_fields
from luksctl.cli.steps import PHASES
from luksctl.cli.volumes import volumes_of
from luksctl.hints import Final
from luksctl.model.header import HeaderCopies, HeaderCopy, Keyslot
from luksctl.model.intent import DecryptIntent, FormatIntent, InPlaceIntent, ReencryptIntent, ReencryptKind, ResetIntent
from luksctl.model.meta import MetaFacts
from luksctl.model.observed import (
    Ambiguous,
    Blank,
    Damaged,
    Decrypting,
    Encrypting,
    Erasing,
    FilesystemFound,
    Foreign,
    Luks2,
    Missing,
    Unfinished,
)
from luksctl.node.status import NodeStatus, node_status
from luksctl.node.volume_status import SlotStatus, VolumeStatus
from luksctl.units import KIB, format_size


def configure(parser: Parser) -> None:
    """Add the options of the verb."""
    parser.add_argument("volumes", metavar="VOLUME", nargs="*", help="STATE, EPHEMERAL; both without any")


def run(arguments: Namespace, context: Context) -> int:
    """Show the status."""
    volumes = volumes_of(arguments.volumes)
    status = node_status(context.node(), volumes)
    context.console.document(status_fields(status))
    _show(status, context.console)
    return status.exit_code


def _show(status: NodeStatus, console: Console) -> None:
    console.say(f"node: {status.condition}")
    console.say(f"config: {status.config_source or 'none at hand'}")
    for note in status.notes:
        console.say(f"  {note}")
    console.say(f"META: {status.meta.state}")
    for line in _announced(status.meta):
        console.say(f"  {line}")
    for finding in status.findings:
        console.say(f"  ! {finding}")
    console.say()
    console.table(("volume", "state", "device", "mounted at", "opened by"), [_row(volume) for volume in status.volumes])
    for volume in status.volumes:
        console.say()
        console.say(f"{volume.volume}: {_what(volume)}")
        _show_volume(volume, console)
    if status.next_commands:
        console.say()
        for command in status.next_commands:
            console.say(f"next: {command}")


_BECOMES: Final = {
    ReencryptKind.RENEW: "gets a new volume key",
    ReencryptKind.ENCRYPT: "is being encrypted in place",
    ReencryptKind.DECRYPT: "is being decrypted in place",
}


def _announced(meta: MetaFacts) -> Iterator[str]:
    for intent in meta.record.intents:
        last = f", stopped by: {intent.last_error}" if intent.last_error else ""
        match intent:
            case ResetIntent():
                yield f"announces that {intent.volume} is erased: attempt {intent.attempt}{last}"
            case ReencryptIntent():
                yield f"announces that {intent.volume} {_BECOMES[intent.kind]}{last}"
            case InPlaceIntent():
                how_far = f"attempt {intent.attempt}, {intent.phase}"
                yield f"announces that {intent.volume} is encrypted in place: {how_far}{last}"
            case DecryptIntent():
                yield f"announces that {intent.volume} is decrypted in place: attempt {intent.attempt}{last}"
            case FormatIntent():
                yield f"announces the format of {intent.volume}: attempt {intent.attempt}, {PHASES[intent.phase]}{last}"
    if meta.record.encrypted:
        yield f"expects to be encrypted: {', '.join(meta.record.encrypted)}"


def _row(volume: VolumeStatus) -> tuple[str, ...]:
    device = volume.device
    mounted = volume.mount_point if volume.mounted and volume.mount_point is not None else "-"
    opened_by = volume.report.opened_by if volume.report is not None and volume.mapping is not None else None
    return volume.volume, volume.state, "-" if device is None else device.path, mounted, opened_by or "-"


def _what(volume: VolumeStatus) -> str:  # noqa: PLR0911  # one case per answer
    device = volume.device
    size = "" if device is None else f", {format_size(device.size_bytes)}"
    match volume.observed:
        case None:
            return "could not be looked at"
        case Luks2(header=header):
            return f"LUKS2 volume {header.uuid}{size}"
        case FilesystemFound(signature=signature):
            return f"plain {signature.type} filesystem{size}"
        case Missing(sought):
            return f"not there ({sought})"
        case Ambiguous(candidates, reason):
            return f"{reason}: {', '.join(candidates)}"
        case Unfinished(intent=intent):
            return f"unfinished format, attempt {intent.attempt}{size}"
        case Erasing(intent=erased, holder=holder):
            waits = "" if holder is None else f"; in use by {holder}, so the next boot goes on"
            return f"being erased, attempt {erased.attempt}{size}{waits}"
        case Encrypting(intent=begun, holder=holder) | Decrypting(intent=begun, holder=holder):
            doing = "encrypted" if isinstance(begun, InPlaceIntent) else "decrypted"
            waits = "" if holder is None else f"; in use by {holder}, so the next boot does it"
            return f"being {doing} in place, attempt {begun.attempt}{size}{waits}"
        case Foreign(what=what):
            return f"{what}{size}"
        case Damaged(reason=reason):
            return f"damaged: {reason}{size}"
        case Blank():
            return f"blank{size}"
        case other:
            return f"{type(other).__name__.lower()}{size}"


def _show_volume(volume: VolumeStatus, console: Console) -> None:
    if volume.copies is not None:
        console.say(f"  header copies: {volume.copies.state} ({copies_text(volume.copies)})")
    if volume.slots:
        console.table(("  slot", "key", "changed", "kdf", "token", ""), [_slot_row(slot) for slot in volume.slots])
    if volume.reencryption is not None:
        console.say(f"  {volume.reencryption.text()}")
    if volume.adopted is False:
        console.say(f"  luksctl made none of these keyslots, and changes none (luksctl adopt {volume.volume})")
    if volume.talos is not None:
        console.say("  Talos: " + ("; ".join(volume.talos.objections) or "can open it"))
        if volume.talos.removes:
            console.say(f"  Talos would remove slot {', '.join(str(slot) for slot in volume.talos.removes)}")
    for finding in volume.findings:
        console.say(f"  ! {finding}")
    for warning in volume.warnings:
        console.say(f"  warning: {warning}")
    report = volume.report
    if report is not None and report.problem is not None and volume.mapping is None:
        console.say(f"  last attempt: {report.problem}")
    for note in report.notes if report is not None else ():
        console.say(f"  last attempt: {note}")


def copies_text(copies: HeaderCopies) -> str:
    """Return how each header copy is."""
    return ", ".join(
        f"{name}: {_copy_text(copy)}" for name, copy in (("first", copies.first), ("second", copies.second))
    )


def _copy_text(copy: HeaderCopy | None) -> str:
    if copy is None:
        return "not there"
    return f"sequence {copy.header.seqid}" if copy.header is not None else copy.problem or "not valid"


def _slot_row(slot: SlotStatus) -> tuple[str, ...]:
    keyslot = slot.keyslot
    changed = "-" if slot.changed_at is None else time.strftime("%Y-%m-%d", time.gmtime(slot.changed_at))
    said = ("opened it" if slot.opened_it else "", "new key at the next boot" if slot.due else "")
    told = ", ".join(text for text in said if text)
    return f"  {keyslot.number}", slot.kind, changed, kdf_of(keyslot), slot.token or "-", told


def kdf_of(keyslot: Keyslot) -> str:
    """Return the KDF of a keyslot and what it costs."""
    if keyslot.iterations is not None:
        return f"{keyslot.kdf}, {keyslot.iterations} iterations"
    return (
        f"{keyslot.kdf}, {keyslot.time} x {format_size((keyslot.memory_kib or 0) * KIB)}, {keyslot.threads} thread(s)"
    )
