"""The steps that change keyslots and what is noted about them; a boot in sync takes none of them.

Somebody else may change the header between any two steps: what they put or changed there is left to them.
"""

from __future__ import annotations

from luksctl.errors import KdfOutOfMemory, Refused
from luksctl.hints import assert_never
from luksctl.model.bookkeeping import TOKEN_TYPE
from luksctl.model.config import STATE, VolumeEncryption
from luksctl.model.header import PROVIDER_TOKEN_TYPES, LuksHeader
from luksctl.model.ports import Ports
from luksctl.model.probe import Device
from luksctl.model.step import (
    AddKeyslot,
    AnnounceKeyslot,
    DisownKeyslot,
    Done,
    ForgetKeyslots,
    RecordKeyslots,
    RemoveKeyslot,
    StageRotation,
    Step,
    WriteToken,
)
from luksctl.reconcile.books import Books
from luksctl.reconcile.keyring import Keyring
from luksctl.reconcile.observe import current_header, expect_equal_copies

KeyslotStep = (
    AnnounceKeyslot
    | AddKeyslot
    | WriteToken
    | RecordKeyslots
    | ForgetKeyslots
    | DisownKeyslot
    | RemoveKeyslot
    | StageRotation
)


class KeyslotSteps:
    """What one run does to keyslots. `configured` are the keys that the volume is to keep (see Run)."""

    def __init__(self, ports: Ports, keyring: Keyring, configured: VolumeEncryption | None) -> None:
        self._ports = ports
        self._keyring = keyring
        self._configured = configured
        self._digests: dict[int, bytes] = {}
        # Slot → the configured slot that it was written for. Only to these may a token be written, since that of any
        # other slot may be all that recovers its key; and of slots that were not there before, only these are removed.
        self._added: dict[int, int] = {}
        self._removed: set[int] = set()

    def look_at_removed(self, steps: tuple[Step, ...]) -> None:
        """Remember what each slot to be removed is now: one that somebody changes meanwhile is not removed."""
        removals = [step for step in steps if isinstance(step, RemoveKeyslot)]
        if removals:
            slots = tuple({step.slot for step in removals})
            self._digests = self._ports.headers.slot_digests(removals[0].device, slots)

    def take(self, step: KeyslotStep, *, meta_behind: bool) -> Done:
        """Take one step. With `meta_behind` META may name the last keys of STATE, so none is removed there."""
        match step:
            case AnnounceKeyslot():
                return self._announce(step)
            case AddKeyslot():
                return self._add_keyslot(step)
            case WriteToken():
                return self._write_token(step)
            case RecordKeyslots(_, device):
                noted = self._books(device).record(self._header(device), step, self._removed)
                named = ", ".join(f"slot {slot}" for slot in noted)
                return Done(step, named, skipped=None if noted else "none was proven")
            case ForgetKeyslots(_, device, slots, token):
                self._remove_stray_tokens(device, slots)
                self._books(device).forget(self._header(device), slots, token, self._removed)
            case DisownKeyslot(_, device, slot, token):
                self._books(device).disown(self._header(device), slot, token)
            case StageRotation(_, device, due, token):
                self._books(device).stage(self._header(device), due, token)
            case RemoveKeyslot():
                return self._remove(step, meta_behind=meta_behind)
            case _:
                assert_never(step)
        return Done(step)

    def _announce(self, step: AnnounceKeyslot) -> Done:
        if step.serves not in self._keyring.made:
            return Done(step, slot=step.slot, skipped="its key could not be made")
        header = self._header(step.device)
        if header.keyslot(step.slot) is not None:
            return Done(step, slot=step.slot, skipped="the keyslot is in use")
        self._books(step.device).announce(header, step.slot, step.serves, step.token)
        return Done(step, slot=step.slot)

    def _add_keyslot(self, step: AddKeyslot) -> Done:
        made = self._keyring.made.get(step.slot if step.serves is None else step.serves)
        if made is None:
            return Done(step, slot=step.slot, skipped="its key could not be made")
        header = self._header(step.device)
        if header.keyslot(step.slot) is not None:
            return self._add_to_used(step, header)
        self._remove_provider_token(step.device, header, step.slot)
        try:
            self._ports.headers.add_keyslot(step.device, step.slot, made.key, self._keyring.volume_key, step.kdf)
        except KdfOutOfMemory as error:
            return Done(step, slot=step.slot, skipped=error.cause)
        self._added[step.slot] = step.slot if step.serves is None else step.serves
        return Done(step, slot=step.slot)

    def _add_to_used(self, step: AddKeyslot, header: LuksHeader) -> Done:
        """Leave a slot that could not be removed; one that somebody else put there since is none of ours any more."""
        if step.slot in self._digests or step.slot in self._added:
            return Done(step, slot=step.slot, skipped="the keyslot is in use")
        ours = next((token.number for token in header.tokens if token.type == TOKEN_TYPE), None)
        if ours is not None:
            self._books(step.device).forget(header, (step.slot,), ours, {step.slot})
        return Done(step, slot=step.slot, skipped="somebody else has put a key there meanwhile")

    def _write_token(self, step: WriteToken) -> Done:
        made = self._keyring.made.get(step.slot if step.serves is None else step.serves)
        if made is None or made.token is None:
            return Done(step, slot=step.slot, skipped="its key has no token")
        if self._added.get(step.slot) != (step.slot if step.serves is None else step.serves):
            return Done(step, slot=step.slot, skipped="the keyslot was not written in this run")
        self._ports.headers.write_token(step.device, step.slot, made.token)
        return Done(step, slot=step.slot)

    def _remove(self, step: RemoveKeyslot, *, meta_behind: bool) -> Done:
        header = self._header(step.device)
        slot = header.keyslot(step.slot)
        if slot is None:
            return Done(step, slot=step.slot, skipped="it is gone already")
        if step.needs is not None and not self._keyring.proven_with(step.needs, step.key):
            return Done(step, slot=step.slot, skipped=f"slot {step.needs} was not proven in this run")
        if not self._another_is_proven(step.device, step.slot):
            return Done(step, slot=step.slot, skipped="no other keyslot was proven in this run")
        if meta_behind and step.volume == STATE:
            return Done(step, slot=step.slot, skipped="META does not name the new keys of STATE yet")
        serves = step.slot if step.key is None else step.key.slot
        if step.slot not in self._digests and self._added.get(step.slot) != serves:
            return Done(step, slot=step.slot, skipped="this run did not write it for that key")
        expect_equal_copies(self._ports.disks, step.device, "looking at them before a keyslot is removed")
        self._expect_unchanged(step)
        self._ports.headers.remove_keyslot(step.device, step.slot)
        self._keyring.proofs.pop(step.slot, None)
        self._digests.pop(step.slot, None)
        self._added.pop(step.slot, None)
        self._removed.add(step.slot)
        self._remove_provider_token(step.device, self._header(step.device), step.slot)
        return Done(step, slot=step.slot)

    def _remove_stray_tokens(self, device: Device, slots: tuple[int, ...]) -> None:
        """Remove what a cut between a keyslot and its token left; whose it was, is known until it is forgotten."""
        header = self._header(device)
        for slot in slots:
            if header.keyslot(slot) is None:
                self._remove_provider_token(device, header, slot)

    def _remove_provider_token(self, device: Device, header: LuksHeader, slot: int) -> None:
        """Remove the token of a keyslot that is not there: it would be taken for that of the next key there."""
        token = header.token(slot)
        if token is not None and token.type in PROVIDER_TOKEN_TYPES:
            self._ports.headers.remove_token(device, slot)

    def _another_is_proven(self, device: Device, slot: int) -> bool:
        """Tell whether a configured key opened another slot, which nobody changed since; without a wish, any key."""
        others = {number: proof for number, proof in self._keyring.proofs.items() if number != slot}
        now = self._ports.headers.slot_digests(device, tuple(others))
        good = [proof for number, proof in others.items() if number in now and proof.digest in (None, now[number])]
        return any(self._configured is None or proof.key in self._configured.keys for proof in good)

    def _expect_unchanged(self, step: RemoveKeyslot) -> None:
        """Raise Refused where the slot is not what this run looked at, or proved, before."""
        before = self._digests.get(step.slot)
        now = self._ports.headers.slot_digests(step.device, (step.slot,)).get(step.slot)
        if before is not None and before != now:
            raise Refused(
                "somebody else changed the keyslot meanwhile; it was left alone", slot=step.slot, hint="luksctl sync"
            )

    def _header(self, device: Device) -> LuksHeader:
        return current_header(self._ports.disks, device)

    def _books(self, device: Device) -> Books:
        return Books(self._ports.headers, self._keyring, device)
