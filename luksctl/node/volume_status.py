"""How one volume is: its device, its slots, and what is not as it should be. Reads only, and holds no secret."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from luksctl.errors import Degraded, Locked, LuksctlError, Maintenance
from luksctl.hints import Final
from luksctl.model.bookkeeping import Bookkeeping, Purpose
from luksctl.model.config import KeyKind
from luksctl.model.header import Copies, HeaderCopies, Keyslot, LuksHeader
from luksctl.model.observed import (
    Ambiguous,
    Blank,
    Decrypting,
    Encrypting,
    Erasing,
    FilesystemFound,
    Luks2,
    Mapping,
    Missing,
    Observed,
    ReencryptStage,
    Unfinished,
)
from luksctl.model.probe import Device
from luksctl.model.step import OpenVolume
from luksctl.node import talos
from luksctl.node.kms_status import kms_warnings
from luksctl.node.node import Node
from luksctl.node.preview import Preview
from luksctl.node.recovery_listing import recovery_warnings
from luksctl.node.reencrypt_progress import ReencryptProgress, progress_of
from luksctl.node.report import Report, VolumeState, read_report
from luksctl.node.units import mount_unit
from luksctl.reconcile.books import unverified
from luksctl.value import frozen

UNMANAGED: Final = "unmanaged"
UNKNOWN: Final = "unknown"
DROPPED: Final = "no longer configured"
RECOVERY: Final = "recovery"
WELL: Final = 0


@frozen
class SlotStatus:
    """One keyslot. `kind` is the configured kind, `unmanaged`, or `unknown` where no config is at hand.

    `changed_at` is when its key was last changed, in seconds since 1970, by the volume's own bookkeeping: as nobody
    opened the volume to check that, it tells people, and decides nothing. `due`: it gets a new key at the next boot.
    """

    keyslot: Keyslot
    kind: str
    opened_it: bool
    token: str | None
    changed_at: int | None = None
    due: bool = False


@frozen
class TalosStatus:
    """Why Talos would refuse the volume (empty: it would open it), and which keyslots it would remove."""

    objections: tuple[str, ...]
    removes: tuple[int, ...]


@frozen
class VolumeStatus:
    """One volume. `findings` are what is not as it should be, `notes` what the last attempt left to say.

    `warnings` are what should be done while all is well; `code` is 0, or the exit code of the worst finding.
    """

    volume: str
    state: str
    observed: Observed | None
    report: Report | None
    slots: tuple[SlotStatus, ...] = ()
    talos: TalosStatus | None = None
    mount_point: str | None = None
    mounted: bool = False
    findings: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    hint: str | None = None
    code: int = WELL
    reencryption: ReencryptProgress | None = None

    @property
    def adopted(self) -> bool | None:
        """Tell whether luksctl manages the keyslots of a LUKS2 volume, as far as the header says; None for others."""
        return None if not isinstance(self.observed, Luks2) else unverified(self.observed.header) is not None

    @property
    def device(self) -> Device | None:
        """Return the device that answers to the volume, or None where there is not exactly one."""
        match self.observed:
            case None | Missing() | Ambiguous():
                return None
            case found:
                return found.device

    @property
    def copies(self) -> HeaderCopies | None:
        """Return both header copies of a LUKS2 volume."""
        return self.observed.copies if isinstance(self.observed, Luks2) else None

    @property
    def mapping(self) -> Mapping | None:
        """Return the active mapping, if the volume is open."""
        return self.observed.mapping if isinstance(self.observed, Luks2 | Unfinished) else None


def volume_status(node: Node, seen: Preview) -> VolumeStatus:
    """Say how the volume of `seen` is; what cannot be read becomes a finding."""
    observed = seen.observed
    report = read_report(node, seen.volume)
    mount_point = node.settings.volume(seen.volume).mount_point
    source = None if mount_point is None else node.system.mounted_from(mount_point)
    mounted = source is not None and source == os.path.realpath(node.paths.volume_link(seen.volume))
    header = observed.header if isinstance(observed, Luks2) else None
    reencryption = progress_of(node, seen.volume, observed) if isinstance(observed, Luks2) else None
    findings = (
        *_plan_findings(seen),
        *_header_findings(observed),
        *_sync_findings(observed, report),
        *_stop_findings(reencryption),
        *_key_findings(node, seen),
        *_mount_findings(observed, mount_point, source, mounted=mounted),
    )
    code = _code(seen, findings)
    return VolumeStatus(
        volume=seen.volume,
        state=_state(observed, report),
        observed=observed,
        report=report,
        slots=() if header is None else tuple(_slots(header, seen, _opened_slot(observed, report))),
        talos=None if header is None else TalosStatus(talos.objections(header), _removed_by_talos(header, seen)),
        mount_point=mount_point,
        mounted=mounted,
        findings=findings,
        warnings=()
        if header is None
        else (*recovery_warnings(node, seen.volume, header), *kms_warnings(node, seen, header)),
        hint=_hint(seen, code),
        code=code,
        reencryption=reencryption,
    )


def _opened_slot(observed: Observed | None, report: Report | None) -> int | None:
    is_open = isinstance(observed, Luks2) and observed.mapping is not None
    return report.slot if report is not None and is_open else None


def _state(observed: Observed | None, report: Report | None) -> str:
    match observed:
        case Luks2(mapping=Mapping()):
            return VolumeState.OPEN
        case FilesystemFound():
            refused = report is not None and report.state is VolumeState.REFUSED
            return VolumeState.REFUSED if refused else VolumeState.PLAIN
        case Luks2() if report is not None and report.exit_code != 0:
            return report.state
        case Luks2():
            return "closed"
        case None:
            return UNKNOWN
        case _:
            return type(observed).__name__.lower()


def _configured(seen: Preview) -> dict[int, KeyKind] | None:
    """Return slot → kind as configured, None where no config is at hand."""
    desired = seen.desired
    if desired is None or (desired.encryption is None and seen.source == "nothing"):
        return None
    return {} if desired.encryption is None else {key.slot: key.kind for key in desired.encryption.keys}


def _slots(header: LuksHeader, seen: Preview, opened_slot: int | None) -> Iterator[SlotStatus]:
    configured = _configured(seen)
    books = unverified(header) or Bookkeeping()
    carried = _carried(seen.observed)
    for slot in header.keyslots:
        token, note = header.token(slot.number), books.note(slot.number)
        yield SlotStatus(
            slot,
            carried.get(slot.number) or _kind(slot.number, configured, books),
            slot.number == opened_slot,
            None if token is None else token.type,
            None if note is None else note.changed_at,
            due=books.due_in(slot.number) is not None,
        )


def _carried(observed: Observed | None) -> dict[int, str]:
    """Name the keyslots that are there because a re-encryption is announced, by their numbers."""
    if not isinstance(observed, Luks2) or observed.reencryption is None:
        return {}
    found = {moved.new: f"slot {moved.old}, new volume key" for moved in observed.reencryption.moved}
    return found | {slot.number: "re-encryption" for slot in observed.header.keyslots if slot.type == "reencrypt"}


def _kind(slot: int, configured: dict[int, KeyKind] | None, books: Bookkeeping) -> str:
    note = books.note(slot)
    if note is not None and note.purpose is Purpose.RECOVERY:
        return RECOVERY
    if configured is None:
        return UNKNOWN
    if slot in configured:
        return str(configured[slot])
    return DROPPED if books.knows(slot) else UNMANAGED


def _removed_by_talos(header: LuksHeader, seen: Preview) -> tuple[int, ...]:
    configured = _configured(seen)
    return () if configured is None else talos.removes(header, configured)


def _plan_findings(seen: Preview) -> Iterator[str]:
    refusal = seen.plan.refusal
    if refusal is not None:
        yield refusal.cause
        return
    if isinstance(seen.observed, Erasing):
        yield "its reset is not finished; the boot ends it before it opens anything"
        return
    if isinstance(seen.observed, Encrypting | Decrypting):
        yield "it is being encrypted or decrypted in place; the boot goes on with it before it is mounted"
        return
    pending = [step for step in seen.plan.steps if not isinstance(step, OpenVolume)]
    if pending:
        yield f"{len(pending)} step{'s' if len(pending) > 1 else ''} to do, see luksctl plan"


def _sync_findings(observed: Observed | None, report: Report | None) -> Iterator[str]:
    if not isinstance(observed, Luks2) or observed.reencryption is not None:
        return  # what is left to do for its keyslots is done when that has ended
    if report is not None and report.in_sync is False:
        yield "the keyslots are not those of the config (luksctl sync)"


def _stop_findings(progress: ReencryptProgress | None) -> Iterator[str]:
    if progress is not None and progress.stop is not None:
        yield f"its re-encryption stopped: {progress.stop.why}"


def _header_findings(observed: Observed | None) -> Iterator[str]:
    # Whoever re-encrypts writes one copy after the other all the time.
    running = isinstance(observed, Luks2) and observed.reencrypt_stage is ReencryptStage.RUNNING
    if isinstance(observed, Luks2) and observed.copies.state is not Copies.EQUAL and not running:
        problems = [copy.problem for copy in (observed.copies.first, observed.copies.second) if copy and copy.problem]
        yield f"header copies: {observed.copies.state}" + (f" ({'; '.join(problems)})" if problems else "")


def _key_findings(node: Node, seen: Preview) -> Iterator[str]:
    """Name configured keys without a keyslot, and say where a nodeID key cannot fit this machine."""
    observed, desired = seen.observed, seen.desired
    if not isinstance(observed, Luks2) or desired is None or desired.encryption is None:
        return
    if observed.reencryption is not None:
        return  # every key is in a second slot, or only there
    for key in desired.encryption.keys:
        if observed.header.keyslot(key.slot) is None:
            yield f"slot {key.slot} ({key.kind}) is configured, and the header has no such keyslot"
        elif key.kind is KeyKind.NODE_ID and observed.mapping is None:
            try:
                explained = node.ports.provider(key).explain_rejection(seen.volume, key)
            except LuksctlError as error:
                explained = error.cause
            if explained is not None:
                yield f"slot {key.slot} ({key.kind}): {explained}"


def _mount_findings(
    observed: Observed | None, mount_point: str | None, source: str | None, *, mounted: bool
) -> Iterator[str]:
    if mount_point is None or mounted:
        return
    if source is not None:
        yield f"something else is mounted at {mount_point}: {source}"
    elif isinstance(observed, FilesystemFound) or (isinstance(observed, Luks2) and observed.mapping is not None):
        yield f"not mounted at {mount_point} (systemctl start {mount_unit(mount_point)})"


def _code(seen: Preview, findings: Sequence[str]) -> int:
    observed, refusal = seen.observed, seen.plan.refusal
    if isinstance(refusal, Maintenance):
        return Maintenance.exit_code
    if isinstance(refusal, Locked) or (isinstance(observed, Luks2) and observed.mapping is None):
        return Locked.exit_code
    return Degraded.exit_code if findings else WELL


def _hint(seen: Preview, code: int) -> str | None:
    if code == WELL:
        return None
    if seen.plan.refusal is not None:
        return seen.plan.refusal.hint
    closed = isinstance(seen.observed, Luks2) and seen.observed.mapping is None
    if closed or isinstance(seen.observed, Erasing | Encrypting | Decrypting):
        return f"luksctl boot {seen.volume}"
    if isinstance(seen.observed, Blank | Unfinished):
        return f"luksctl plan {seen.volume}"
    return f"luksctl plan {seen.volume}" if seen.plan.steps else None
