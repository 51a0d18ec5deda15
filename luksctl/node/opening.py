"""Bring one volume up: wait for its device, converge, publish the link its mount unit mounts from, and report."""

from __future__ import annotations

import os
from collections.abc import Sequence

from luksctl.errors import Locked, LuksctlError, ProviderUnavailable, Refused
from luksctl.model.config import META, EncryptionPolicy, KeyKind
from luksctl.model.desired import DesiredVolume
from luksctl.model.observed import FilesystemFound, Luks2, Mapping, Missing
from luksctl.model.step import AddKeyslot, Done, MakeKey, OpenVolume, ProveKey
from luksctl.node.files import replace_link
from luksctl.node.node import Node
from luksctl.node.report import Report, VolumeState
from luksctl.node.waiting import Deadline
from luksctl.reconcile.converge import Session, look, session
from luksctl.value import frozen, replace


@frozen
class Wish:
    """A wish and where it comes from, for messages ("META tag 9", "/etc/luksctl/machine.yaml")."""

    desired: DesiredVolume
    source: str


def await_device(node: Node, volume: str, deadline: Deadline) -> None:
    """Wait until something answers to `volume`, at most the device timeout; what it is, observe will say."""
    settings = node.settings.volume(volume)
    found = node.ports.disks.find(volume, settings, timeout_s=0)
    timeout_s = min(node.settings.timeouts.device_s, deadline.left_s)
    if isinstance(found, Missing) and timeout_s > 0:
        node.tell(f"{volume}: waiting up to {timeout_s:.0f} s for {found.sought}")
    node.ports.disks.find(volume, settings, timeout_s=timeout_s)


def await_meta(node: Node, deadline: Deadline) -> None:
    """Wait for META: one that is not there yet is never taken for one without config."""
    await_device(node, META, deadline)


def bring_up(node: Node, wishes: Sequence[Wish]) -> Report:
    """Try the wishes in order until one brings the volume up; raises the first one's error if none does.

    A later wish is tried only where the earlier one was refused or did not fit a key: never after a failure that
    waiting may mend, and never to format.
    """
    first_error: LuksctlError | None = None
    for number, wish in enumerate(wishes):
        try:
            report = _bring_up_one(node, wish)
        except (Locked, Refused, ProviderUnavailable) as error:
            if first_error is None:
                first_error = error
            else:
                first_error.add_note(f"{wish.source}: {error}")
            continue
        if number > 0 and first_error is not None:
            note = f"{wishes[0].source} did not open it ({first_error.cause}); opened by {wish.source}"
            report = replace(report, notes=(*report.notes, note))
        return report
    if first_error is None:
        raise ValueError("nothing to try")
    raise first_error


def _bring_up_one(node: Node, wish: Wish) -> Report:
    desired = wish.desired
    settings = node.settings.volume(desired.volume)
    steps: list[Done] = []
    keyslots = None
    with session(desired, settings, node.ports) as running:
        for done in running.converge():
            steps.append(done)
            node.announce(done)
        reencrypting = running.reencryption is not None
        if _opened(steps) is not None and not reencrypting:
            keyslots = _keyslots(node, running, steps, sync=desired.sync)
    report = publish(node, wish, steps)
    if keyslots is not None:
        report = replace(report, notes=keyslots.problems, in_sync=keyslots.in_sync)
    if reencrypting:
        from luksctl.node.reencrypt_unit import go_on_later  # noqa: PLC0415  # few boots have one

        report = replace(report, notes=(*report.notes, *go_on_later(node, desired.volume)))
    if _used_node_id(steps, desired):
        report = replace(report, notes=(*report.notes, *_note_machine(node)))
    return report


def publish(node: Node, wish: Wish, steps: Sequence[Done]) -> Report:
    """Point the link of the volume that `steps` opened at it, and return the report; Refused where it is not open."""
    desired = wish.desired
    observed = look(desired, node.settings.volume(desired.volume), node.ports).observed
    report = Report(desired.volume, VolumeState.OPEN, config_source=wish.source, notes=_findings(steps))
    opened = _opened(steps)
    if opened is not None:
        report = replace(report, opened_by=opened.detail, slot=opened.slot)
    match observed:
        case Luks2(mapping=mapping) if mapping is not None:
            _publish(node, desired.volume, mapping.path)
            report = replace(report, device=mapping.path)
        case FilesystemFound(device):
            _publish(node, desired.volume, device.path)
            report = replace(report, state=VolumeState.PLAIN, device=device.path)
        case _:
            raise Refused(f"{type(observed).__name__} after converging", volume=desired.volume)
    return report


@frozen
class Keyslots:
    """What became of the keyslots: whether they are those of the config, and why not."""

    in_sync: bool
    problems: tuple[str, ...] = ()


def _keyslots(node: Node, running: Session, steps: list[Done], *, sync: bool) -> Keyslots:
    """Bring the keyslots in sync, or only look; the volume is open, so no failure of this fails a boot."""
    try:
        if not sync:
            planned = running.compare(trying=False)
            return Keyslots(planned.in_sync, planned.problems)
        for done in running.sync():
            steps.append(done)
            node.announce(done)
    except LuksctlError as error:
        return Keyslots(in_sync=False, problems=(error.cause, *_findings(steps)))
    return Keyslots(in_sync=True)


def knowing_seals(node: Node, wanted: DesiredVolume, *, asked: bool = False) -> DesiredVolume:
    """Return the wish with what is known of its tpm keys, if it has any; `asked`: a person runs this."""
    if wanted.encryption is None or all(key.kind is not KeyKind.TPM for key in wanted.encryption.keys):
        return wanted
    from luksctl.node.resealing import with_resealing  # noqa: PLC0415  # other nodes do without, and a start is timed

    return with_resealing(node, wanted, asked=asked)


def already_open(node: Node, volume: str) -> Report | None:
    """Report a volume that is open, for those who have no key to open it themselves; None where it is not open.

    Its mapping must be on this very device, and both header copies equal, as before every mount.
    """
    unknown = DesiredVolume(volume, None, EncryptionPolicy())
    match look(unknown, node.settings.volume(volume), node.ports).observed:
        case Luks2(mapping=Mapping(path=path, signature=signature), copies_equal=True) if signature is not None:
            _publish(node, volume, path)
            return Report(volume, VolumeState.OPEN, device=path)
        case _:
            return None


def _opened(steps: Sequence[Done]) -> Done | None:
    """Return what opened the volume in this run, if anything did."""
    return next((done for done in reversed(steps) if isinstance(done.step, OpenVolume) and not done.skipped), None)


def _findings(steps: Sequence[Done]) -> tuple[str, ...]:
    """Name every key that could not be made or proven: failed syncs that the boot goes on without."""
    return tuple(
        f"slot {done.slot}: {done.skipped}"
        for done in steps
        if done.skipped is not None and isinstance(done.step, MakeKey | ProveKey)
    )


def _used_node_id(steps: Sequence[Done], desired: DesiredVolume) -> bool:
    if desired.encryption is None:
        return False
    node_id = {key.slot for key in desired.encryption.keys if key.kind is KeyKind.NODE_ID}
    used = (
        done.slot for done in steps if isinstance(done.step, OpenVolume | ProveKey | AddKeyslot) and not done.skipped
    )
    return any(slot in node_id for slot in used)


def _note_machine(node: Node) -> tuple[str, ...]:
    """Record which machine this is; the volume is open already, so a META that takes no writes is only a finding."""
    try:
        node.note_machine()
    except LuksctlError as error:
        return (f"META could not record which machine this is: {error}",)
    return ()


def _publish(node: Node, volume: str, device: str) -> None:
    """Point the mount unit's source at `device`; replaced by rename, so a mount never sees half a link."""
    link = node.paths.volume_link(volume)
    os.makedirs(os.path.dirname(link), mode=0o755, exist_ok=True)
    replace_link(link, device)
