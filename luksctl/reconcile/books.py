"""The bookkeeping token of one volume: read, verified and written under the volume key of the run."""

from __future__ import annotations

import time
from collections.abc import Container

from luksctl.errors import SlotPassphraseRejected
from luksctl.model.bookkeeping import TOKEN_TYPE, Bookkeeping, Purpose, SlotNote, decode, encode
from luksctl.model.config import RECOVERY, ConfiguredKey
from luksctl.model.header import LuksHeader, Token
from luksctl.model.ports import Headers
from luksctl.model.probe import Device
from luksctl.model.sealing import Due
from luksctl.model.step import RecordKeyslots
from luksctl.reconcile.fingerprints import VolumeMac
from luksctl.reconcile.keyring import Keyring
from luksctl.value import replace


def unverified(header: LuksHeader) -> Bookkeeping | None:
    """Return what the newest bookkeeping token says, where there is no volume key: a hint, which anyone may write."""
    found = [books for _, books, _ in _tokens(header)]
    return max(found, key=lambda books: books.counter, default=None)


def verified(header: LuksHeader, mac: VolumeMac) -> tuple[Bookkeeping | None, str | None]:
    """Return the newest bookkeeping whose MAC holds, and why there is none where a token is there all the same."""
    tokens = list(_tokens(header))
    good = [books for _, books, tag in tokens if mac.equal(mac.of_books(books), tag)]
    if good:
        return max(good, key=lambda books: books.counter), None
    if any(token.type == TOKEN_TYPE for token in header.tokens):
        return None, "luksctl's bookkeeping in the header does not verify, so its keyslots are left as they are"
    return None, None


def _tokens(header: LuksHeader) -> list[tuple[Token, Bookkeeping, str]]:
    found = []
    for token in header.tokens:
        if token.type != TOKEN_TYPE:
            continue
        try:
            books, tag = decode(token.json)
        except (ValueError, RecursionError):
            continue  # one that cannot be read is as good as none; `verified` says that it is there
        found.append((token, books, tag))
    return found


class Books:
    """Change the bookkeeping of `device`; every change is one header write, with a higher counter."""

    def __init__(self, headers: Headers, keyring: Keyring, device: Device) -> None:
        self._headers = headers
        self._keyring = keyring
        self._device = device

    def announce(self, header: LuksHeader, slot: int, serves: int, token: int) -> None:
        """Note that a key for `serves` is about to be put into `slot`. Cut: as before, or announced."""
        self._write(header, token, self._read(header).with_underway(slot, serves))

    def record(self, header: LuksHeader, step: RecordKeyslots, removed: Container[int] = ()) -> tuple[int, ...]:
        """Note the slots whose keys were proven in this run; return which. Cut: the old notes or new ones.

        A spare that this run `removed` is none any more, whatever is there now.
        """
        purpose = Purpose.RECOVERY if step.recovery else Purpose.CONFIG
        proven = [key for key in step.keys if self._keyring.proven_with(key.slot, key)]
        books = self._read(header)
        now = int(time.time())
        noted = self._fingerprints(header, proven)
        for key, fingerprint, of_token in noted:
            before = books.note(key.slot)
            unchanged = before is not None and not books.announced(key.slot) and not books.spares_of(key.slot)
            changed_at = before.changed_at if before is not None and unchanged else now
            kind = RECOVERY if step.recovery else key.kind
            of_key = None if kind in step.unfingerprinted else fingerprint
            note = SlotNote(key.slot, purpose, changed_at, of_key, of_token)
            present = {slot.number for slot in header.keyslots if slot.number not in removed}
            books = books.with_note(note, present)
        if noted:
            self._write(header, step.token, books)
        return tuple(key.slot for key, _, _ in noted)

    def disown(self, header: LuksHeader, slot: int, token: int) -> None:
        """Note that `slot` is wanted no more. Cut: as before, or the next sync removes it."""
        self._write(header, token, self._read(header).disowned(slot))

    def stage(self, header: LuksHeader, due: tuple[Due, ...], token: int) -> None:
        """Note which new keys the next boot makes. Cut: as before, or noted."""
        before = self._read(header)
        if before.with_due(due) != before:
            self._write(header, token, before.with_due(due))

    def forget(self, header: LuksHeader, slots: tuple[int, ...], token: int, removed: Container[int] = ()) -> None:
        """Take out what is noted about `slots` that are gone, or that this run `removed`: what is there now is foreign.

        Any other one that is still there stays noted.
        """
        before = books = self._read(header)
        for slot in slots:
            if header.keyslot(slot) is None or slot in removed:
                books = books.without(slot)
        if books != before:
            self._write(header, token, books)

    def _fingerprints(
        self, header: LuksHeader, keys: list[ConfiguredKey]
    ) -> list[tuple[ConfiguredKey, str, str | None]]:
        """Return the fingerprints of what was proven; a slot that somebody changed since has none."""
        mac = self._keyring.mac(header.uuid)
        digests = self._headers.slot_digests(self._device, tuple(key.slot for key in keys))
        found = []
        for key in keys:
            digest = digests.get(key.slot)
            if digest is None or not self._still_proven(key.slot, digest):
                continue
            token = header.token(key.slot)
            of_token = None if token is None else mac.of_token(key, digest, token.json)
            found.append((key, mac.of_key(key.slot, digest, self._keyring.proofs[key.slot].secret), of_token))
        return found

    def _still_proven(self, slot: int, digest: bytes) -> bool:
        """Tell whether the slot that is there now is what was proven; where nobody looked before the try, try again."""
        proof = self._keyring.proofs[slot]
        if proof.digest is not None:
            return proof.digest == digest
        try:
            self._headers.test_key(self._device, slot, proof.secret)
        except SlotPassphraseRejected:
            return False
        return True

    def _read(self, header: LuksHeader) -> Bookkeeping:
        books, _ = verified(header, self._keyring.mac(header.uuid))
        return books or Bookkeeping()

    def _write(self, header: LuksHeader, token: int, books: Bookkeeping) -> None:
        newer = replace(books, counter=books.counter + 1)
        self._headers.write_token(self._device, token, encode(newer, self._keyring.mac(header.uuid).of_books(newer)))
        for other in header.tokens:
            if other.type == TOKEN_TYPE and other.number != token:
                self._headers.remove_token(self._device, other.number)
