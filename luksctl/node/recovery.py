"""Recovery keys on a node: made, shown once and kept nowhere; listed, verified, removed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from luksctl.errors import KeyRejected, Locked, LuksctlError, Refused
from luksctl.model.config import EncryptionPolicy
from luksctl.model.desired import DesiredVolume
from luksctl.model.observed import FilesystemFound, Luks2
from luksctl.model.step import Done, MakeKey, ProveKey
from luksctl.node.node import Node
from luksctl.node.recovery_listing import RecoverySlot, listed
from luksctl.node.recovery_record import note_verified
from luksctl.node.sources import state_directory
from luksctl.node.sync import ruling_config, wish
from luksctl.providers.recovery_key import make_recovery_key
from luksctl.reconcile.converge import Look, look
from luksctl.reconcile.recovery import RecoverySession, recovery_session, slot_opened_by
from luksctl.secret import Secret
from luksctl.value import frozen


@frozen
class Proof:
    """What verifying came to. `listed`: the bookkeeping knows the slot as a recovery key.

    `kept` is the file that remembers it, `not_kept` why there is none.
    """

    volume: str
    header_uuid: str
    slot: int
    listed: bool
    kept: str | None = None
    not_kept: str | None = None


@frozen
class Place:
    """Where a new recovery key is."""

    volume: str
    header_uuid: str
    slot: int


Show = Callable[[Place, Secret], None]


def add_recovery_key(node: Node, volume: str, show: Show) -> Place:
    """Make a recovery key, put it into the header, prove it, and let `show` hand it out: nobody has it otherwise.

    Where `show` fails the key is removed again. Refused before anything is written where the volume is none of ours or
    has no room. Cut: nothing, or a slot that the next sync removes; or a key that nobody has seen, which is listed and
    never verified.
    """
    with _session(node, volume) as running:
        _announce(node, running.unlock())
        return add_within(node, volume, running, show)


def add_within(node: Node, volume: str, running: RecoverySession, show: Show) -> Place:
    """Do as `add_recovery_key` in a run that holds the volume key already."""
    slot = running.free_slot()
    with make_recovery_key() as key:
        _announce(node, running.add(slot, key))
        node.tell(f"{volume}, slot {slot}: opened with the recovery key")
        place = Place(volume, running.header_uuid, slot)
        try:
            show(place, key)
        except BaseException:
            node.tell(f"{volume}, slot {slot}: the recovery key could not be handed out, so it is removed again")
            _take_back(node, volume, running, slot)
            raise
    return place


def _take_back(node: Node, volume: str, running: RecoverySession, slot: int) -> None:
    """Remove a key that nobody was given; a failure is told, and what stopped the handing out stays the error."""
    try:
        _announce(node, running.remove(slot))
    except LuksctlError as error:
        node.tell(f"{error}; nobody has this key: luksctl recovery remove {volume} --slot {slot}")


def remove_recovery_key(node: Node, volume: str, slot: int) -> None:
    """Destroy the recovery key in `slot`; Refused where it is none, or no configured key opens another slot.

    Cut: as before, or the next sync removes it.
    """
    with _session(node, volume) as running:
        _announce(node, running.unlock())
        _announce(node, running.remove(slot))


def replace_recovery_key(node: Node, volume: str, slot: int, show: Show) -> Place:
    """Make a new recovery key as `add_recovery_key`, and then destroy the one in `slot`; return where the new one is.

    Cut: as there; or both open, and both are listed.
    """
    with _session(node, volume) as running:
        _announce(node, running.unlock())
        running.expect_removable(slot)
        place = add_within(node, volume, running, show)
        _announce(node, running.remove(slot))
    return place


def recovery_keys(node: Node, volume: str) -> tuple[RecoverySlot, ...]:
    """Return the recovery keys of `volume`, without a key derivation: as the header lists them, not verified."""
    observed = _look(node, volume).observed
    return listed(volume, observed.header, state_directory(node)) if isinstance(observed, Luks2) else ()


def verify_recovery_key(node: Node, volume: str, key: Secret, clock: Callable[[], float] = time.time) -> Proof:
    """Prove which slot `key` opens, and remember it in STATE; Locked where it opens none. Opens nothing."""
    found = luks2(node, volume)
    try:
        slot = slot_opened_by(node.ports, found.device, found.header, key)
    except KeyRejected as error:
        raise opens_nothing(volume) from error
    except LuksctlError as error:
        error.volume = error.volume or volume
        raise
    directory = state_directory(node)
    known = slot in {entry.slot for entry in listed(volume, found.header, None)}
    proof = Proof(volume, found.header.uuid, slot, known, not_kept="STATE is not mounted")
    if directory is None:
        return proof
    try:
        kept = note_verified(directory, volume, found.header, slot, int(clock()))
    except OSError as error:
        return Proof(volume, found.header.uuid, slot, known, not_kept=f"{directory} takes no file: {error.strerror}")
    return Proof(volume, found.header.uuid, slot, known, kept=kept)


def opens_nothing(volume: str) -> Locked:
    """Return the error for a recovery key that is rightly typed and opens no slot."""
    cause = "this recovery key opens none of its keyslots"
    hint = f"is it the sheet of this volume and machine? luksctl recovery list {volume}"
    return Locked(cause, volume=volume, hint=hint)


def luks2(node: Node, volume: str) -> Luks2:
    """Return the LUKS2 volume that is there; raises why there is none, whatever the config asks for."""
    found = _look(node, volume)
    observed = found.observed
    if isinstance(observed, Luks2) and not observed.header.reencrypting and not observed.header.requirements:
        return observed
    if isinstance(observed, Luks2):
        raise Refused("its keyslots cannot be told apart while it is re-encrypted", volume=volume)
    if isinstance(observed, FilesystemFound):
        raise Refused("it is a plain filesystem, and has no keys", volume=volume)
    raise found.plan.refusal or Refused("it is no LUKS2 volume", volume=volume, hint="luksctl status")


def _look(node: Node, volume: str) -> Look:
    unknown = DesiredVolume(volume, None, EncryptionPolicy(), "a recovery key only opens what is there")
    return look(unknown, node.settings.volume(volume), node.ports)


def _session(node: Node, volume: str) -> AbstractContextManager[RecoverySession]:
    wanted = wish(node, ruling_config(node), volume)
    return recovery_session(wanted, node.settings.volume(volume), node.ports)


def _announce(node: Node, steps: Iterator[Done]) -> None:
    """Take the steps, and tell of those whose words fit: in a run, a recovery key is a static key."""
    for done in steps:
        if not isinstance(done.step, MakeKey | ProveKey):
            node.announce(done)
