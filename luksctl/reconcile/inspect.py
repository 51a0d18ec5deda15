"""Compare every configured key with its slot: by fingerprint where there is one, else by one real try."""

from __future__ import annotations

from luksctl.errors import (
    DeviceError,
    KeyRejected,
    KmsReason,
    KmsRejected,
    LuksctlError,
    ProviderUnavailable,
    SlotPassphraseRejected,
    TokenInvalid,
    TpmReason,
    TpmRejected,
)
from luksctl.hints import Final
from luksctl.model.bookkeeping import TOKEN_TYPE, Bookkeeping, Purpose, SlotNote
from luksctl.model.config import ConfiguredKey, EncryptionPolicy, KeyKind, VolumeEncryption
from luksctl.model.header import PROVIDER_TOKEN_TYPES, LuksHeader
from luksctl.model.inspection import Inspection, KeyFinding, KeyState
from luksctl.model.ports import Ports
from luksctl.model.probe import Device
from luksctl.reconcile.books import verified
from luksctl.reconcile.keyring import Keyring
from luksctl.reconcile.plan_sync import KINDS_WITH_TOKEN
from luksctl.value import frozen, replace

# For these the TPM gives the key to nobody any more; all others may pass.
_LOST_FOR: Final = frozenset({TpmReason.PCR_MISMATCH, TpmReason.SRK_CHANGED, TpmReason.DAMAGED})
_WRONG_KEY: Final = (
    "the KMS gave a key that does not open the keyslot: it has another master key now, or takes this node for another"
)
_OF_OTHERS: Final = "the keyslot is in use, and luksctl did not make it (luksctl adopt, or another slot in the config)"


@frozen
class _Slot:
    """One configured key beside what the header has at its number."""

    key: ConfiguredKey
    digest: bytes | None
    token: str | None


class Inspector:
    """Look at the keyslots of one volume with the keys of one run. Writes nothing."""

    def __init__(
        self, ports: Ports, keyring: Keyring, device: Device, header: LuksHeader, *, booting: bool = False
    ) -> None:
        self._booting = booting
        self._ports = ports
        self._keyring = keyring
        self._device = device
        self._header = header
        self._mac = keyring.mac(header.uuid)

    def inspect(
        self, encryption: VolumeEncryption, policy: EncryptionPolicy, *, adopting: bool = False, trying: bool = True
    ) -> Inspection:
        """Return what became of each configured key; without `trying`, only what needs no key derivation.

        A volume that nobody adopted is not looked into, unless it is being adopted: only the key that opened is known.
        """
        books, problem = verified(self._header, self._mac)
        if books is None and not adopting:
            good = [key for key in encryption.keys if self._keyring.proven_with(key.slot, key)]
            if not good and problem is None:
                problem = "no key of the config opens it, and luksctl does not manage its keyslots (luksctl adopt)"
            return Inspection(None, tuple(KeyFinding(key, KeyState.PROVEN) for key in good), problem)
        digests = self._ports.headers.slot_digests(self._device, tuple(key.slot for key in encryption.keys))
        known = books or Bookkeeping()
        findings = []
        for key in encryption.keys:
            token = self._header.token(key.slot)
            slot = _Slot(key, digests.get(key.slot), None if token is None else token.json)
            found = self._look(known, slot, policy, trying=trying)
            findings.append(self._with_spare(known, found) if trying else found)
        return Inspection(known, tuple(findings), problem, self._keyring.opener)

    def _look(self, books: Bookkeeping, slot: _Slot, policy: EncryptionPolicy, *, trying: bool) -> KeyFinding:
        found = self._judge(books, slot, policy, trying=trying)
        if not found.works:
            return found
        try:
            deviation = self._ports.deviation(slot.key, slot.token)
        except TokenInvalid as error:
            return KeyFinding(slot.key, KeyState.UNAVAILABLE, problem=error.cause)
        return found if deviation is None else KeyFinding(slot.key, KeyState.DIFFERS, problem=deviation)

    def _judge(self, books: Bookkeeping, slot: _Slot, policy: EncryptionPolicy, *, trying: bool) -> KeyFinding:  # noqa: PLR0911  # one for each state
        key = slot.key
        foreign = self._foreign_token(key)
        if foreign is not None:
            return KeyFinding(key, KeyState.BLOCKED, problem=f"token {key.slot} belongs to {foreign}")
        note = books.note(key.slot)
        if slot.digest is None:
            # Who can write to the disk can remove a keyslot, and no less wait for the machine to trust it again.
            lost = key.kind is KeyKind.TPM and note is not None and note.purpose is Purpose.CONFIG
            return self._lost(slot, "the keyslot is gone") if lost else KeyFinding(key, KeyState.MISSING)
        if note is not None and note.purpose is Purpose.RECOVERY:
            problem = f"the keyslot holds a recovery key (luksctl recovery remove --slot {key.slot}, or another slot)"
            return KeyFinding(key, KeyState.BLOCKED, problem=problem)
        if self._keyring.proven_with(key.slot, key):
            return KeyFinding(key, KeyState.PROVEN, noted=self._noted_as_proven(books, slot, policy))
        try:
            if key.kind not in policy.unfingerprinted and self._matches(books, slot):
                return KeyFinding(key, KeyState.IN_SYNC, noted=True)
            if not trying:
                return KeyFinding(key, KeyState.UNTRIED, problem="it has no fingerprint that tells")
            if self._opens(key, key.slot, slot.token, slot.digest):
                return KeyFinding(key, KeyState.PROVEN, noted=self._noted_as_proven(books, slot, policy))
        except (ProviderUnavailable, KeyRejected, TokenInvalid, DeviceError) as error:
            return self._could_not(books, slot, error)
        if not books.knows(key.slot):
            return KeyFinding(key, KeyState.BLOCKED, problem=_OF_OTHERS)
        if key.kind is KeyKind.KMS:
            # The token may be as it was, and the server not: what it gives is no reason to touch the slot.
            return KeyFinding(key, KeyState.LOST, problem=_WRONG_KEY)
        return self._differs(books, slot, "its key does not open the keyslot")

    def _could_not(self, books: Bookkeeping, slot: _Slot, error: LuksctlError) -> KeyFinding:
        """Leave a slot whose provider cannot say; a token that it can never use is that of another key."""
        if isinstance(error, TpmRejected) and error.reason in _LOST_FOR and books.knows(slot.key.slot):
            return self._lost(slot, error.cause)
        if isinstance(error, KmsRejected) and error.reason is KmsReason.CANNOT_UNSEAL and books.knows(slot.key.slot):
            return KeyFinding(slot.key, KeyState.LOST, problem=error.cause)
        if isinstance(error, TokenInvalid) and books.knows(slot.key.slot):
            return self._differs(books, slot, error.cause)
        if isinstance(error, TokenInvalid) and slot.token is None:
            return KeyFinding(slot.key, KeyState.BLOCKED, problem=_OF_OTHERS)
        return KeyFinding(slot.key, KeyState.UNAVAILABLE, problem=error.cause)

    def _differs(self, books: Bookkeeping, slot: _Slot, cause: str) -> KeyFinding:
        # One that is only announced was never proven: a cut left it without its token, and nothing is sealed *anew*.
        if slot.key.kind is KeyKind.TPM and books.note(slot.key.slot) is not None:
            return self._lost(slot, cause)
        return KeyFinding(slot.key, KeyState.DIFFERS)

    def _lost(self, slot: _Slot, cause: str) -> KeyFinding:
        """Say that another key has to be sealed, and what its provider would bind it to."""
        try:
            vouching = self._ports.vouching(slot.key, slot.token)
        except (ProviderUnavailable, KeyRejected) as error:
            return KeyFinding(slot.key, KeyState.UNAVAILABLE, problem=f"{cause}; {error.cause}")
        return KeyFinding(slot.key, KeyState.LOST, problem=cause, vouching=vouching)

    def _foreign_token(self, key: ConfiguredKey) -> str | None:
        """Return the type of a token at the slot's number that is neither a provider's nor our own."""
        token = self._header.token(key.slot)
        return None if token is None or token.type in {TOKEN_TYPE, *PROVIDER_TOKEN_TYPES} else token.type

    def _noted_as_proven(self, books: Bookkeeping, slot: _Slot, policy: EncryptionPolicy) -> bool:
        """Tell whether the note says what it should: the fingerprint of slot and key, or none where none is wanted."""
        note, digest = books.note(slot.key.slot), slot.digest
        if note is not None and slot.key.kind in policy.unfingerprinted:
            return note.fingerprint is None
        if note is None or note.fingerprint is None or digest is None:
            return False
        # A fingerprint of the token that went stale would never match again, and cost a real try at every boot.
        if slot.token is not None and not self._token_matches(note, slot.key, digest, slot.token):
            return False
        secret = self._keyring.proofs[slot.key.slot].secret
        return self._mac.equal(self._mac.of_key(slot.key.slot, digest, secret), note.fingerprint)

    def _matches(self, books: Bookkeeping, slot: _Slot) -> bool:
        """Tell whether the noted fingerprint is that of the slot as it is with the key as its provider gives it now."""
        note, digest, number = books.note(slot.key.slot), slot.digest, slot.key.slot
        if note is None or digest is None:
            return False
        # Its token says all about a key of such a kind, unless STATE's salt is behind it, too.
        if slot.key.kind in KINDS_WITH_TOKEN and not slot.key.lock_to_state:
            known = slot.token is not None and self._token_matches(note, slot.key, digest, slot.token)
            # A TPM answers in milliseconds: one that gives the key to nobody any more is seen before it is needed.
            return known and (slot.key.kind is not KeyKind.TPM or self._recovers(slot))
        if note.fingerprint is None:
            return False
        for candidate in self._ports.provider(slot.key).recover(self._keyring.volume, slot.key, slot.token):
            with candidate:
                if self._mac.equal(self._mac.of_key(number, digest, candidate), note.fingerprint):
                    return True
        return False

    def _recovers(self, slot: _Slot) -> bool:
        """Tell whether the provider gives the key, or raise what it raises.

        On a node that is up, past the phase that was signed, nobody can ask before the next boot, and nothing is wrong:
        the token is the one that was noted. A boot that comes too late for it has to hear of that.
        """
        try:
            for candidate in self._ports.provider(slot.key).recover(self._keyring.volume, slot.key, slot.token):
                candidate.close()
                return True
        except TpmRejected as error:
            if error.reason is not TpmReason.PHASE_OVER or self._booting:
                raise
            return True
        return False

    def _token_matches(self, note: SlotNote, key: ConfiguredKey, digest: bytes, token: str) -> bool:
        noted = note.token_fingerprint
        return noted is not None and self._mac.equal(self._mac.of_token(key, digest, token), noted)

    def _opens(self, key: ConfiguredKey, number: int, token: str | None, digest: bytes | None = None) -> bool:
        """Try the key at slot `number` for real: one key derivation for each candidate."""
        for candidate in self._ports.provider(key).recover(self._keyring.volume, key, token):
            with candidate:
                try:
                    self._ports.headers.test_key(self._device, number, candidate)
                except SlotPassphraseRejected:
                    continue
                self._keyring.prove(number, key, candidate, digest)
                return True
        return False

    def _with_spare(self, books: Bookkeeping, found: KeyFinding) -> KeyFinding:
        """Add which of the spares that interrupted changes left for its slot the key opens."""
        if found.state not in (KeyState.MISSING, KeyState.DIFFERS, KeyState.LOST):
            return found
        for spare in books.spares_of(found.key.slot):
            if self._header.keyslot(spare) is None:
                continue
            try:
                if self._keyring.proven_with(spare, found.key) or self._opens_spare(found.key, spare):
                    return replace(found, spare=spare)
            except (ProviderUnavailable, KeyRejected, DeviceError) as error:
                return KeyFinding(found.key, KeyState.UNAVAILABLE, problem=error.cause)
        return found

    def _opens_spare(self, key: ConfiguredKey, spare: int) -> bool:
        token = self._header.token(spare)
        try:
            return self._opens(key, spare, None if token is None else token.json)
        except TokenInvalid:
            return False  # cut before its token was written: nobody recovers its key any more
        except TpmRejected as error:
            if error.reason not in _LOST_FOR:
                raise
            return False  # the machine changed once more since the cut
