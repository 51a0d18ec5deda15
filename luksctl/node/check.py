"""Prove each configured key against its keyslot: `luksctl check`. Opens nothing, and writes to no volume.

No lock is held while keys are tried: a KDF may run for seconds, and a boot or a sync that waits for the volume gives up
sooner than that. So a key may meet a slot that is just being replaced. Where one does not work, the volume is looked
at again under its lock, that is, after whoever changes it has ended; and only if it is not what it was before, the
keys are tried once more, under the lock this time, since nothing else could be believed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from enum import StrEnum

from luksctl.cryptsetup.kdf import DEFAULT_BOUNDS
from luksctl.errors import (
    Degraded,
    KdfOutOfBounds,
    KdfOutOfMemory,
    KeyRejected,
    Locked,
    LuksctlError,
    ProviderUnavailable,
    TokenInvalid,
    TpmReason,
    TpmRejected,
)
from luksctl.hints import Final
from luksctl.model.config import ConfiguredKey, KeyKind
from luksctl.model.header import LuksHeader
from luksctl.model.observed import Decrypting, Encrypting, Erasing, FilesystemFound, Luks2
from luksctl.node.checked import SlotRecord, note_checked, slot_digest
from luksctl.node.node import Node
from luksctl.node.preview import Preview, outlook, preview
from luksctl.node.sources import state_directory
from luksctl.reconcile.books import unverified
from luksctl.reconcile.converge import reencryption_running
from luksctl.reconcile.keys import try_key
from luksctl.value import frozen, replace

WELL: Final = 0


class Outcome(StrEnum):
    """What became of one key."""

    WORKS = "works"
    SLOT_MISSING = "slot missing"
    OUT_OF_BOUNDS = "KDF out of bounds"  # not tried: the slot asks for a key derivation that might never end
    OUT_OF_MEMORY = "not enough memory"  # not tried either
    REJECTED = "rejected"
    UNAVAILABLE = "provider unavailable"
    TOKEN_INVALID = "token invalid"  # noqa: S105  # a finding, no secret
    FAILED = "failed"  # the device or the library failed; says nothing about the key
    NOT_NOW = "only early in a boot"  # the TPM gives it in a phase that is over: no fault, and no proof


# What is no reason to alarm anybody.
NO_FAULT: Final = frozenset({Outcome.WORKS, Outcome.NOT_NOW})


@frozen
class KeyCheck:
    """One configured key. `cause` and `hint` are set unless it works; `digest` is None where there is no slot."""

    slot: int
    kind: KeyKind
    outcome: Outcome
    cause: str | None = None
    hint: str | None = None
    digest: str | None = None


@frozen
class VolumeCheck:
    """One volume. `problem` says why its keys could not be tried, or not be believed."""

    volume: str
    source: str
    keys: tuple[KeyCheck, ...] = ()
    problem: LuksctlError | None = None

    @property
    def exit_code(self) -> int:
        """Return 0, or the code of what is wrong: as a boot would end if no key works, 5 if only some do not.

        A key that can only be asked for early in a boot is no fault; that boot looks at it.
        """
        if self.problem is not None:
            return self.problem.exit_code
        outcomes = {key.outcome for key in self.keys}
        if outcomes <= NO_FAULT:
            return WELL
        if Outcome.WORKS in outcomes:
            return Degraded.exit_code
        return ProviderUnavailable.exit_code if Outcome.UNAVAILABLE in outcomes else Locked.exit_code


@frozen
class NodeCheck:
    """All volumes that were asked for. `kept` is the file that remembers it, `not_kept` why there is none."""

    volumes: tuple[VolumeCheck, ...]
    kept: str | None = None
    not_kept: str | None = None

    def of(self, volume: str) -> VolumeCheck | None:
        """Return what was found of `volume`, None where it was not asked for."""
        return next((found for found in self.volumes if found.volume == volume), None)

    @property
    def exit_code(self) -> int:
        """Return 0 where every key works, the code of the first volume that is worse than degraded, else 5."""
        codes = [volume.exit_code for volume in self.volumes]
        worse = [code for code in codes if code not in (WELL, Degraded.exit_code)]
        return worse[0] if worse else max(codes, default=WELL)


def check(node: Node, volumes: Sequence[str], clock: Callable[[], float] = time.time) -> NodeCheck:
    """Try every configured key of `volumes`, tell each one before it is tried, and remember in STATE what was proven.

    What cannot be tried becomes the problem of its volume. Cut: nothing changed but perhaps the file in STATE.
    """
    checked = tuple(check_volume(node, volume) for volume in volumes)
    return _keep(node, NodeCheck(checked), int(clock()))


def check_volume(node: Node, volume: str) -> VolumeCheck:
    """Try every configured key of `volume`; see the module about locks."""
    seen = preview(outlook(node), volume)
    first = _try_all(node, seen)
    if first.exit_code == WELL or not first.keys:
        return first
    try:
        with node.ports.disks.volume_lock(volume):
            again = preview(outlook(node), volume)
            if _same(seen, again):
                return first
            node.tell(f"{volume}: it was changed meanwhile, so its keys are tried again")
            return _try_all(node, again)
    except LuksctlError as error:
        error.volume = error.volume or volume
        return replace(first, problem=error)


def cost_problem(header: LuksHeader, slot: int, subject: str) -> KdfOutOfBounds | None:
    """Return what is wrong with the KDF costs of `slot`, before anything is derived; None where nothing is."""
    try:
        DEFAULT_BOUNDS.check(json.loads(header.json), slot, subject)
    except KdfOutOfBounds as error:
        return error
    except (LookupError, TypeError, AttributeError):
        return None  # not what libcryptsetup would load: it says so itself
    return None


def _same(before: Preview, now: Preview) -> bool:
    def header_of(seen: Preview) -> LuksHeader | None:
        return seen.observed.header if isinstance(seen.observed, Luks2) else None

    return header_of(before) == header_of(now) and before.desired == now.desired


# ---- one volume -----------------------------------------------------------------------------------------------------


def _try_all(node: Node, seen: Preview) -> VolumeCheck:
    observed, desired, refusal = seen.observed, seen.desired, seen.plan.refusal
    result = VolumeCheck(seen.volume, seen.source)
    wanted = None if desired is None else desired.encryption
    if isinstance(observed, Luks2) and wanted is not None and not _unreadable_by_slot(observed):
        if not wanted.keys:
            return replace(result, problem=Locked("no key is configured", volume=seen.volume))
        return replace(result, keys=tuple(_try(node, seen.volume, key, observed) for key in wanted.keys))
    if isinstance(observed, Luks2) and observed.reencryption is not None:
        return replace(result, problem=refusal or reencryption_running(seen.volume))
    if isinstance(observed, FilesystemFound) and refusal is None:
        return result
    if isinstance(observed, Erasing | Encrypting | Decrypting):
        doing = "erased" if isinstance(observed, Erasing) else "encrypted or decrypted in place"
        begun = Degraded(f"it is being {doing}", volume=seen.volume, hint="luksctl status")
        return replace(result, problem=begun)
    unfinished = Degraded("it is not formatted yet, so it has no keyslots", hint=f"luksctl plan {seen.volume}")
    problem = refusal or unfinished
    problem.volume = problem.volume or seen.volume
    return replace(result, problem=problem)


def _unreadable_by_slot(found: Luks2) -> bool:
    """Tell whether libcryptsetup opens the volume by any slot only, or its keys are not at their numbers now."""
    return found.reencryption is not None or found.header.reencrypting or bool(found.header.requirements)


def _try(node: Node, volume: str, key: ConfiguredKey, found: Luks2) -> KeyCheck:
    header, result = found.header, KeyCheck(key.slot, key.kind, Outcome.WORKS)
    if header.keyslot(key.slot) is None:
        cause = "the header has no such keyslot"
        return replace(result, outcome=Outcome.SLOT_MISSING, cause=cause, hint=f"luksctl sync {volume}")
    result = replace(result, digest=slot_digest(header, key.slot))
    error = cost_problem(header, key.slot, found.device.path) or _failure(node, volume, key, found)
    if error is None:
        return result
    books = unverified(header)
    unfinished = books is not None and any(entry.serves == key.slot for entry in books.underway)
    hint = f"luksctl sync {volume}" if unfinished and isinstance(error, KeyRejected) else error.hint
    return replace(result, outcome=_outcome(error), cause=error.cause, hint=hint)


def _failure(node: Node, volume: str, key: ConfiguredKey, found: Luks2) -> LuksctlError | None:
    """Return why `key` does not open its slot, None where it does; one KDF run for each candidate of the provider."""
    token = found.header.token(key.slot)
    node.tell(f"{volume}, slot {key.slot} ({key.kind}): trying the key")
    try:
        try_key(
            volume,
            key,
            None if token is None else token.json,
            node.ports.provider(key),
            lambda candidate: node.ports.headers.test_key(found.device, key.slot, candidate),
        )
    except LuksctlError as error:
        return error
    return None


def _outcome(error: LuksctlError) -> Outcome:
    if isinstance(error, TpmRejected) and error.reason is TpmReason.PHASE_OVER:
        return Outcome.NOT_NOW
    return next((outcome for kind, outcome in _OUTCOMES if isinstance(error, kind)), Outcome.FAILED)


_OUTCOMES: Final[tuple[tuple[type[LuksctlError], Outcome], ...]] = (
    (KdfOutOfBounds, Outcome.OUT_OF_BOUNDS),
    (KdfOutOfMemory, Outcome.OUT_OF_MEMORY),
    (KeyRejected, Outcome.REJECTED),
    (ProviderUnavailable, Outcome.UNAVAILABLE),
    (TokenInvalid, Outcome.TOKEN_INVALID),
)


# ---- what is remembered ---------------------------------------------------------------------------------------------


def _keep(node: Node, result: NodeCheck, now_s: int) -> NodeCheck:
    """Write the times to STATE. They only tell, so a STATE that takes no file spoils no check."""
    directory = state_directory(node)
    if directory is None:
        return replace(result, not_kept="STATE is not mounted")
    tried = [volume for volume in result.volumes if volume.keys]
    records = [
        SlotRecord(
            volume=volume.volume,
            slot=key.slot,
            kind=key.kind.value,
            digest=key.digest,
            outcome=key.outcome.value,
            tried_s=now_s,
            proven_s=now_s if key.outcome is Outcome.WORKS else None,
        )
        for volume in tried
        for key in volume.keys
        if key.digest is not None
    ]
    if not tried:
        return replace(result, not_kept="no key was tried")
    try:
        return replace(result, kept=note_checked(directory, [volume.volume for volume in tried], records))
    except OSError as error:
        return replace(result, not_kept=f"{directory} takes no file: {error.strerror}")
