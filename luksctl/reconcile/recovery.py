"""Keyslots for recovery keys: added and proven like configured ones, noted as what they are, and removed on demand.

To a run a recovery key is a passphrase like any other (decision 0010), so it goes through the same steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from luksctl.errors import Degraded, KeyRejected, LuksctlError, Refused, SlotPassphraseRejected
from luksctl.model.bookkeeping import MAX_KEYS_WITH_BOOKKEEPING, TOKEN_TYPE, Bookkeeping, Purpose
from luksctl.model.config import MAX_SLOT, RECOVERY, ConfiguredKey, StaticKey, VolumeEncryption, VolumeSettings
from luksctl.model.desired import DesiredVolume
from luksctl.model.header import LuksHeader
from luksctl.model.observed import Luks2
from luksctl.model.ports import Ports
from luksctl.model.probe import Device
from luksctl.model.step import (
    AddKeyslot,
    AnnounceKeyslot,
    DisownKeyslot,
    Done,
    ForgetKeyslots,
    MakeKey,
    ProveKey,
    RecordKeyslots,
    RemoveKeyslot,
    Step,
)
from luksctl.reconcile.apply import Run
from luksctl.reconcile.books import Books, unverified, verified
from luksctl.reconcile.converge import Session, look
from luksctl.reconcile.keyring import Keyring
from luksctl.reconcile.keys import cheapest_first
from luksctl.reconcile.plan_sync import bookkeeping_token
from luksctl.secret import Secret


def recovery_slots(header: LuksHeader) -> tuple[int, ...]:
    """Return the slots that the bookkeeping lists as recovery keys: a hint, since nothing verified it."""
    books = unverified(header)
    return () if books is None else tuple(note.slot for note in books.notes if note.purpose is Purpose.RECOVERY)


def keys_to_try(header: LuksHeader, key: Secret) -> tuple[VolumeEncryption, ...]:
    """Return `key` at every slot that it may open: first those listed as recovery keys, then all others.

    The others too, because bookkeeping that was lost must not lock out who holds a key.
    """
    listed = set(recovery_slots(header))
    every = tuple(ConfiguredKey(slot.number, StaticKey(key)) for slot in header.keyslots)
    first = tuple(entry for entry in every if entry.slot in listed)
    return VolumeEncryption(first), VolumeEncryption(tuple(entry for entry in every if entry.slot not in listed))


def slot_opened_by(ports: Ports, device: Device, header: LuksHeader, key: Secret) -> int:
    """Return the slot that `key` opens, tried in the order of `keys_to_try`; KeyRejected where there is none.

    A slot that cannot be tried is passed over, and its error raised if no other one opens. Writes nothing.
    """
    trouble: LuksctlError | None = None
    for encryption in keys_to_try(header, key):
        for entry in cheapest_first(encryption.keys, header):
            try:
                ports.headers.test_key(device, entry.slot, key)
            except SlotPassphraseRejected:
                continue
            except LuksctlError as error:
                error.slot = entry.slot
                trouble = trouble or error
                continue
            return entry.slot
    raise trouble or KeyRejected("it opens no keyslot")


@contextmanager
def recovery_session(desired: DesiredVolume, settings: VolumeSettings, ports: Ports) -> Iterator[RecoverySession]:
    """Hold our lock of the volume, and the secrets of the run, until the end of the `with`."""
    with ports.disks.volume_lock(desired.volume), Keyring(desired.volume) as keyring:
        yield RecoverySession(desired, settings, ports, keyring)


class RecoverySession:
    """The recovery keys of one volume, under our lock; `unlock` comes first, since all else needs the volume key."""

    def __init__(self, desired: DesiredVolume, settings: VolumeSettings, ports: Ports, keyring: Keyring) -> None:
        self._desired = desired
        self._settings = settings
        self._ports = ports.under(desired.policy)
        self._keyring = keyring

    @property
    def header_uuid(self) -> str:
        """Return the UUID of the volume's header."""
        return self._found().header.uuid

    def unlock(self) -> Iterator[Done]:
        """Recover a key of the config, or one that the volume had before; yield the step.

        Refused, before any key derivation where that can be told: the volume is none of ours, has no room for
        bookkeeping, or cannot be written now. Locked or ProviderUnavailable where no key can be recovered.
        """
        found = self._found()
        self._token(found.header)
        if unverified(found.header) is None:
            raise self._unmanaged("luksctl does not manage its keyslots")
        yield from Session(self._desired, self._settings, self._ports, self._keyring).unlock()
        self._books(found.header)

    def free_slot(self) -> int:
        """Return the highest slot for one more recovery key; Refused where it would be the last free one.

        A change of a configured key needs a spare.
        """
        header = self._found().header
        books, token = self._books(header), self._token(header)
        taken = {slot.number for slot in header.keyslots} | {key.slot for key in self._encryption.keys}
        taken |= {entry.number for entry in header.tokens if entry.type != TOKEN_TYPE} | {token}
        taken |= {note.slot for note in books.notes} | {entry.slot for entry in books.underway}
        free = [number for number in range(MAX_SLOT, -1, -1) if number not in taken]
        if len(free) < 2:
            cause = "no keyslot is left for it: one must stay free to change keys through"
            raise Refused(cause, hint=f"remove a key from the config, or: luksctl recovery list {self._desired.volume}")
        return free[0]

    def add(self, slot: int, key: Secret) -> Iterator[Done]:
        """Yield the steps that put `key` into the free `slot`, prove it there, and note it.

        Degraded where it could not be proven. Cut: nothing, or a slot that is announced and that the next sync removes,
        or all of it.
        """
        found = self._found()
        volume, device, token = self._desired.volume, found.device, self._token(found.header)
        held = ConfiguredKey(slot, StaticKey(self._keyring.keep(Secret.join(key))))
        steps: tuple[Step, ...] = (
            MakeKey(volume, held),
            AnnounceKeyslot(volume, device, slot, slot, token),
            AddKeyslot(volume, device, slot, self._desired.policy.kdf_for(RECOVERY)),
            ProveKey(volume, device, held),
            RecordKeyslots(
                volume, device, (held,), token, recovery=True, unfingerprinted=self._desired.policy.unfingerprinted
            ),
        )
        for done in self._run(found.header).take_all(steps):
            yield done
            if done.skipped is not None:
                cause = f"the recovery key was not added: {done.skipped}"
                raise Degraded(
                    cause, volume=volume, slot=slot, hint=f"luksctl sync {volume} removes what is left of it"
                )

    def remove(self, slot: int) -> Iterator[Done]:
        """Yield the steps that destroy the recovery key in `slot`, and all that is noted about it.

        Refused where it is none, or no configured key opened another slot in this run. Cut: as before, or the next sync
        removes it.
        """
        self.expect_removable(slot)
        found = self._found()
        volume, device, token = self._desired.volume, found.device, self._token(found.header)
        steps: tuple[Step, ...] = (
            DisownKeyslot(volume, device, slot, token),
            RemoveKeyslot(volume, device, slot),
            ForgetKeyslots(volume, device, (slot,), token),
        )
        try:
            yield from self._run(found.header).take_all(steps)
        except Refused:
            # Somebody changed the slot meanwhile: it is theirs now, and no sync may take it away.
            books = Books(self._ports.headers, self._keyring, device)
            books.forget(self._found().header, (slot,), token, {slot})
            raise
        if self._found().header.keyslot(slot) is not None:
            raise Degraded("the keyslot is still there", volume=volume, slot=slot, hint=f"luksctl sync {volume}")

    def expect_removable(self, slot: int) -> None:
        """Raise Refused where `slot` holds no recovery key, or no configured key opened another slot in this run."""
        volume = self._desired.volume
        note = self._books(self._found().header).note(slot)
        if note is None or note.purpose is not Purpose.RECOVERY:
            raise Refused("this is no recovery key", volume=volume, slot=slot, hint=f"luksctl recovery list {volume}")
        if not self._keyring.proven_key_of(self._encryption):
            cause = "no key of the config opened another slot, so this one may be the last"
            raise Refused(cause, volume=volume, slot=slot, hint=f"luksctl check {volume}")

    @property
    def _encryption(self) -> VolumeEncryption:
        encryption = self._desired.encryption
        if encryption is None:
            hint = "add its keys to the config"
            raise Refused("the config asks for no encryption of it", volume=self._desired.volume, hint=hint)
        return encryption

    def _found(self) -> Luks2:
        found = look(self._desired, self._settings, self._ports)
        if found.plan.refusal is not None:
            raise found.plan.refusal
        observed = found.observed
        if not isinstance(observed, Luks2):
            raise Refused("it is not formatted yet", volume=self._desired.volume, hint="luksctl status")
        if not observed.copies_equal:
            cause = f"its header copies do not agree ({observed.copies.state})"
            raise Refused(cause, volume=self._desired.volume, hint=f"luksctl boot {self._desired.volume}")
        return observed

    def _token(self, header: LuksHeader) -> int:
        token = bookkeeping_token(self._encryption, header.tokens)
        if token is None:
            keys = len(self._encryption.keys)
            cause = f"{keys} configured keys leave no room for the bookkeeping, without which sync would not keep it"
            hint = f"at most {MAX_KEYS_WITH_BOOKKEEPING} keys in the config"
            raise Refused(cause, volume=self._desired.volume, hint=hint)
        return token

    def _books(self, header: LuksHeader) -> Bookkeeping:
        books, problem = verified(header, self._keyring.mac(header.uuid))
        if books is None:
            raise self._unmanaged(problem or "luksctl does not manage its keyslots")
        return books

    def _unmanaged(self, cause: str) -> Refused:
        return Refused(cause, volume=self._desired.volume, hint=f"luksctl adopt {self._desired.volume}")

    def _run(self, seen: LuksHeader) -> Run:
        return Run(self._desired.volume, self._ports, self._keyring, seen, self._encryption)
