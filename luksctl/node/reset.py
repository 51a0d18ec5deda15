"""Erase volumes: announce it, destroy keys and headers, prove it, and forget them; META last, where it is named.

The announcement in META comes before anything else, all volumes in one write. From then on a boot that finds it goes
on by itself, before it opens anything: `finish_announced`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress

from luksctl.errors import (
    AmbiguousDevice,
    DeviceError,
    DeviceMissing,
    LuksctlError,
    MetaError,
    NeedsReboot,
    Refused,
)
from luksctl.hints import Final
from luksctl.model.announced_step import ConcludeReset
from luksctl.model.config import EPHEMERAL, META, META_SIZE_BYTES, STATE, EncryptionPolicy
from luksctl.model.desired import DesiredVolume
from luksctl.model.intent import DecryptIntent, EraseMethod, InPlaceIntent, InPlacePhase, ReencryptIntent, ResetIntent
from luksctl.model.meta import MetaFacts, MetaState, NodeRecord
from luksctl.model.observed import Ambiguous, Erasing, Missing
from luksctl.model.probe import Device, Range
from luksctl.model.step import Done
from luksctl.node.erasure import Erasure, erasure_of, keep, now
from luksctl.node.expected import forget_expected
from luksctl.node.header_backup import drop_backups
from luksctl.node.node import Node
from luksctl.node.opening import await_device
from luksctl.node.sources import before_shrinking, detached_header, state_directory
from luksctl.node.trial import expect_no_trial
from luksctl.node.waiting import Deadline, until
from luksctl.reconcile.converge import session
from luksctl.reconcile.observe import erasing
from luksctl.reconcile.plan_reset import head_of
from luksctl.value import frozen, replace

# STATE is last of the volumes: EPHEMERAL's mount stands on its config.
ERASED: Final = (EPHEMERAL, STATE)
LABELS: Final = (META, STATE, EPHEMERAL)


@frozen
class Target:
    """One volume that is to be erased, as it was found: `was` is the UUID of what is on it, if it has one."""

    volume: str
    found: Erasing
    what: str
    was: str

    @property
    def device(self) -> Device:
        """Return its device."""
        return self.found.device


def look_at(node: Node, volumes: Sequence[str], method: EraseMethod, *, named: bool) -> tuple[Target, ...]:
    """Find what would be erased; reads only. Refused for what must not be, DeviceMissing for what is not there.

    Where the volumes were not `named`, one that is not there is left out and told.
    """
    meta = _meta(node, volumes)
    _expect_trial_to_end(node, meta, volumes)
    found = []
    for volume in volumes:
        try:
            found.append(_target(node, volume, method, meta))
        except DeviceMissing as error:
            if named:
                raise
            node.tell(f"{volume}: {error.cause}; left out")
    if not found:
        raise DeviceMissing("none of the volumes is there", hint="luksctl status")
    _expect_nothing_kept_in_state(meta, tuple(target.volume for target in found))
    return tuple(found)


def _expect_trial_to_end(node: Node, meta: MetaFacts, doomed: Sequence[str]) -> None:
    """Raise Refused while a config is on trial, unless STATE goes, and with it what the trial would go back to.

    Without the volume that it added keys to, or without META, it could be neither taken back nor confirmed.
    """
    if STATE not in doomed:
        expect_no_trial(node, meta)


def _expect_nothing_kept_in_state(meta: MetaFacts, doomed: Sequence[str]) -> None:
    """Raise Refused where STATE is erased, and another volume, which stays, has its only header or way back there."""
    for intent in meta.record.intents if STATE in doomed else ():
        if isinstance(intent, DecryptIntent | ReencryptIntent) and intent.header and intent.volume not in doomed:
            raise Refused(
                f"it holds the only header of {intent.volume}, which is being decrypted in place",
                volume=STATE,
                hint=f"wait until it is plain (luksctl status), or name {intent.volume} as well, and erase both",
            )
        shrinking = isinstance(intent, InPlaceIntent) and intent.phase is InPlacePhase.SHRINKING
        if shrinking and intent.volume not in doomed:
            raise Refused(
                f"it holds what shrinking the filesystem of {intent.volume} overwrites, and that may be half done",
                volume=STATE,
                hint=f"luksctl boot {intent.volume} takes it back; or name {intent.volume} as well, and erase both",
            )


def _meta(node: Node, volumes: Sequence[str]) -> MetaFacts:
    meta = node.ports.meta.load()
    if meta.state is MetaState.ABSENT:
        cause = f"a reset is announced in META, and META is not there ({meta.problem})"
        raise MetaError(cause, hint="luksctl wipe disk DEVICE erases a device that no node uses")
    if meta.state is MetaState.UNREADABLE and META not in volumes:
        cause = f"a reset is announced in META, and META is unreadable ({meta.problem})"
        raise MetaError(cause, hint="name META among the volumes, and it is erased as well")
    return meta


def _target(node: Node, volume: str, method: EraseMethod, meta: MetaFacts) -> Target:
    disks = node.ports.disks
    device = _device(node, volume, meta)
    why_not = disks.why_untouchable(device)
    if why_not is not None:
        raise Refused(f"{why_not}; nothing was touched", volume=volume)
    if volume == META and device.size_bytes != META_SIZE_BYTES:
        raise Refused(f"{device.path} is no META: it has {device.size_bytes} bytes", volume=META)
    intent = ResetIntent(volume, device.identity, method)
    found = erasing(device, intent, f"luks2-{volume}", disks)
    what, uuid = _content(node, device)
    header = found.copies.best
    was = uuid if header is None else header.uuid
    begun = next((reset for reset in meta.record.resets if reset.volume == volume), None)
    if begun is not None and begun.partition == device.identity:
        # Begun again: what was learnt about it then may be all that is left to know.
        intent = replace(intent, head_bytes=begun.head_bytes, position_bytes=begun.position_bytes)
        was = was or begun.was
    intent = replace(intent, head_bytes=max(intent.head_bytes, head_of(found.copies)), was=was)
    return Target(volume, replace(found, intent=intent), META if volume == META else what, was)


def _content(node: Node, device: Device) -> tuple[str, str]:
    """Return what is on the device, and its UUID if it has one; one that cannot be read is erased all the same."""
    try:
        signature = node.ports.disks.signature(device.path)
    except DeviceError as error:
        return f"unreadable: {error.cause}", ""
    if signature is None:
        return "nothing that has a signature", ""
    return signature.type or "contradicting signatures", signature.uuid


def _device(node: Node, volume: str, meta: MetaFacts) -> Device:
    match node.ports.disks.find(volume, node.settings.volume(volume), timeout_s=0):
        case Missing(sought):
            raise DeviceMissing(f"no device found ({sought})", volume=volume)
        case Ambiguous(candidates, reason):
            cause = f"{reason}: {', '.join(candidates)}"
            raise AmbiguousDevice(cause, volume=volume, hint="name the right disk or device in the settings")
        case Device() as found:
            recorded = meta.record.partition(volume)
            if recorded not in (None, found.identity):
                cause = f"META records partition {recorded}, but {found.path} is {found.identity}"
                raise AmbiguousDevice(cause, volume=volume, hint="luksctl wipe disk erases a device by its path")
            return found


# ---- doing it -------------------------------------------------------------------------------------------------------


def announce(node: Node, targets: Sequence[Target]) -> None:
    """Announce the reset of all targets in one META write, while nobody changes any of them; with STATE a trial ends.

    A META that cannot be read, and is to be erased itself, is started over with nothing but the announcement. Cut:
    nothing is announced, or all of it.
    """
    intents = tuple(target.found.intent for target in targets)
    volumes = tuple(target.volume for target in targets)

    def announced(record: NodeRecord) -> NodeRecord:
        for intent in intents:
            record = record.with_intent(intent)
        return record.with_trial(None) if STATE in volumes else record

    with ExitStack() as locks:
        for target in targets:
            locks.enter_context(node.ports.disks.volume_lock(target.volume))
        meta = node.ports.meta.load()
        _expect_trial_to_end(node, meta, volumes)  # one may have begun while the operator was asked
        if meta.state is MetaState.UNREADABLE:
            node.ports.meta.start_over(announced(NodeRecord()))
        else:
            node.ports.meta.update_record(announced)


@frozen
class Outcome:
    """What became of one volume: its record, where anything was erased, and why it is not all done yet."""

    volume: str
    erasure: Erasure | None = None
    record_path: str | None = None
    waits: LuksctlError | None = None


def erase_announced(node: Node, *, records: str | None = None) -> tuple[Outcome, ...]:
    """Erase every volume whose reset is announced, then META, where that is and nothing else is left.

    A volume in use loses header and keys only, and waits for the boot; so does META then. A failure of one volume is
    raised after the others were tried.
    """
    announced = {intent.volume: intent for intent in node.ports.meta.load().record.resets}
    outcomes: list[Outcome] = []
    failures: list[LuksctlError] = []
    for volume in ERASED:
        if volume in announced:
            try:
                outcomes.append(_erase(node, announced[volume], records=records))
            except LuksctlError as error:
                failures.append(error)
    if META in announced and not failures:
        outcomes += _empty_meta(node, announced[META], records)
    if failures:
        first, *others = failures
        for other in others:
            first.add_note(str(other))
        raise first
    return tuple(outcomes)


def _erase(
    node: Node, intent: ResetIntent, keep_going: Callable[[], bool] = lambda: True, *, records: str | None = None
) -> Outcome:
    """Erase one volume as far as it can be now; the record is kept also of what was erased before a failure."""
    volume = intent.volume
    steps: list[Done] = []
    waits: LuksctlError | None = None
    path = None
    try:
        with session(
            DesiredVolume(volume, None, EncryptionPolicy()), node.settings.volume(volume), node.ports
        ) as running:
            for done in running.erase(keep_going):
                steps.append(done)
                node.announce(done)
    except NeedsReboot as error:
        waits = error
    finally:
        erasure = erasure_of(node, volume, steps, intent.was, intent.method)
        if erasure is not None:
            path = keep(node, erasure, records)
    if any(isinstance(done.step, ConcludeReset) for done in steps):
        _forget(node, volume)
    return Outcome(volume, erasure, path, waits)


def _forget(node: Node, volume: str) -> None:
    """Take away what this machine keeps about the volume outside of META; what cannot be is told."""
    with suppress(FileNotFoundError):
        os.unlink(node.paths.volume_link(volume))
    with suppress(FileNotFoundError):
        os.unlink(node.paths.report(volume))
    try:
        forget_expected(node.paths, volume)
        drop_backups(node, volume)
        directory = state_directory(node)
        if directory is not None:
            # Of one that was being decrypted in place, what is left of the data is under this header.
            for path in (detached_header(directory, volume), before_shrinking(directory, volume)):
                with suppress(FileNotFoundError):
                    os.unlink(path)
    except OSError as error:
        node.tell(f"{volume}: {error.filename} still knows of it: {error.strerror}")


def _empty_meta(node: Node, intent: ResetIntent, records: str | None) -> tuple[Outcome, ...]:
    """Let META say nothing any more; it waits where something else is announced, since META says so."""
    record = node.ports.meta.load().record
    if record.intents != (intent,):
        others = ", ".join(other.volume for other in record.intents if other.volume != META)
        return (Outcome(META, waits=NeedsReboot(f"it is erased after {others}", volume=META)),)
    node.ports.meta.start_over(NodeRecord())
    device = _device(node, META, MetaFacts(MetaState.OK))
    erasure = Erasure(
        META,
        device,
        node.ports.disks.hardware(device),
        intent.method,
        "",
        (Range(0, device.size_bytes),),
        "every byte written anew and read back: an empty META",
        "not done",
        complete=True,
        time=now(),
    )
    return (Outcome(META, erasure, keep(node, erasure, records)),)


# ---- going on -------------------------------------------------------------------------------------------------------


def finish_announced(node: Node, stage: str, deadline: Deadline) -> None:
    """Finish what META announces before anything is opened: the volume of this stage in any case, others if they can.

    Raises what keeps the volume of `stage` from being erased. Overwriting goes on until the deadline, and is Busy then.
    """
    announced = {intent.volume: intent for intent in node.ports.meta.load().record.resets}
    own = announced.get(stage)
    if own is not None:
        await_device(node, stage, deadline)
        outcome = until(node, deadline, lambda: _erase(node, own, lambda: deadline.left_s > 0))
        if outcome.waits is not None:
            raise outcome.waits
    others = [intent for volume, intent in announced.items() if volume not in (stage, META)]
    for intent in others if stage == STATE else ():
        try:
            _erase(node, intent, lambda: False)
        except LuksctlError as error:
            node.tell(f"{intent.volume}: its reset is not finished: {error}")
    if META in announced:
        _empty_meta(node, announced[META], None)
