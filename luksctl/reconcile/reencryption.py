"""One volume gets a new volume key: prepared and started in one run, gone on with in others, until it is settled.

The run that begins it has every key; those that go on need any one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from luksctl.errors import (
    Degraded,
    DeviceError,
    KeyRejected,
    LuksctlError,
    NeedsReboot,
    ProviderUnavailable,
    Refused,
    TokenInvalid,
)
from luksctl.hints import Final
from luksctl.model.config import ConfiguredKey, VolumeEncryption, VolumeSettings
from luksctl.model.desired import DesiredVolume
from luksctl.model.header import LuksHeader
from luksctl.model.intent import ReencryptIntent, ReencryptKind, SlotRole
from luksctl.model.observed import (
    Blank,
    Decrypting,
    Encrypting,
    Erasing,
    FilesystemFound,
    Luks2,
    ReencryptStage,
)
from luksctl.model.ports import Ports
from luksctl.model.step import Done, Step
from luksctl.reconcile.apply import Run
from luksctl.reconcile.books import verified
from luksctl.reconcile.converge import Look, Session, look, reencryption_running
from luksctl.reconcile.keyring import Keyring
from luksctl.reconcile.keys import try_key
from luksctl.reconcile.plan_reencrypt import (
    HeldSlot,
    all_plain,
    budget,
    held_slots,
    moves,
    new_books,
    second_token,
    settled,
    steps_to_begin,
    steps_to_go_on,
)
from luksctl.reconcile.reencrypt_steps import Progress, Reencrypting
from luksctl.secret import Secret
from luksctl.value import replace

_SEALED_AWAY: Final = (ProviderUnavailable, KeyRejected, TokenInvalid, DeviceError)


def expect_encrypted(found: Look, volume: str) -> Luks2:
    """Return the encrypted volume that was found; what refuses it otherwise, or Refused with what is there."""
    cause = "it is not an encrypted volume"
    match found.observed:
        case Erasing():
            cause = "it is being erased"
        case Encrypting() | Decrypting():
            cause = "it is being encrypted or decrypted in place"
        case Blank() | FilesystemFound():
            pass  # what the config makes of it is another verb's work
        case observed:
            if found.plan.refusal is not None:
                raise found.plan.refusal
            if isinstance(observed, Luks2):
                return observed
    raise Refused(cause, volume=volume, hint=f"luksctl status {volume}")


@contextmanager
def reencrypt_session(
    desired: DesiredVolume, settings: VolumeSettings, ports: Ports, progress: Progress
) -> Iterator[ReencryptSession]:
    """Hold the secrets of the run until the end of the `with`, and see that it is the only one for this volume.

    The lock of the volume is held only around what writes the header: a re-encryption may take days.
    """
    with ports.disks.volume_lock(f"{desired.volume}.reencrypt"), Keyring(desired.volume) as keyring:
        yield ReencryptSession(desired, settings, ports, keyring, progress)


class ReencryptSession:
    """The re-encryption of one volume."""

    def __init__(
        self, desired: DesiredVolume, settings: VolumeSettings, ports: Ports, keyring: Keyring, progress: Progress
    ) -> None:
        self._desired = desired
        self._settings = settings
        self._ports = ports.under(desired.policy)
        self._keyring = keyring
        self._progress = progress
        self._carried: dict[int, Secret] = {}
        # Whether the keyslots are those of the config; None until the sync at the end has found out.
        self.in_sync: bool | None = None

    # ---- begin ------------------------------------------------------------------------------------------------------

    def unlock(self) -> Iterator[Done]:
        """Recover a key of the volume; refused where it cannot be re-encrypted now, whatever the keys are."""
        why_not = self._ports.headers.why_not_reencrypt()
        if why_not is not None:
            raise Refused(why_not, volume=self._desired.volume, hint="install libcryptsetup 2.7.5 or newer")
        self.found()
        yield from Session(self._desired, self._settings, self._ports, self._keyring).unlock()

    def found(self) -> Luks2:
        """Return the volume as it is; ReencryptionRunning where one is announced, Refused where it cannot have one."""
        found = self._luks2()
        if found.reencryption is not None:
            raise reencryption_running(self._desired.volume)
        if not found.copies_equal:
            cause = f"its header copies do not agree ({found.copies.state})"
            raise self._refused(cause, f"luksctl boot {self._desired.volume}")
        return found

    def held(self) -> tuple[HeldSlot, ...]:
        """Return what each keyslot is, by bookkeeping that the volume key vouches for; Refused without any."""
        header = self.found().header
        books, problem = verified(header, self._keyring.mac(header.uuid))
        if books is None:
            cause = problem or "luksctl does not manage its keyslots"
            raise self._refused(cause, f"luksctl adopt {self._desired.volume}")
        return held_slots(header, books, self._encryption)

    def carry(self, slot: int, key: Secret) -> None:
        """Carry the keyslot over with `key`; SlotPassphraseRejected where it does not open it."""
        self._ports.headers.test_key(self.found().device, slot, key)
        self._carried[slot] = self._keyring.keep(Secret.join(key))

    def replace_key(self, slot: int, key: Secret) -> None:
        """Carry the keyslot over with another key than it has."""
        self._carried[slot] = self._keyring.keep(Secret.join(key))

    def carry_configured(self, held: tuple[HeldSlot, ...], given_up: tuple[int, ...]) -> dict[int, str]:
        """Recover the key of every configured slot by its provider; return why others could not be, by slot."""
        found, problems = self.found(), {}
        for entry in held:
            if entry.role is not SlotRole.CONFIG or entry.slot in given_up:
                continue
            key = next(key for key in self._encryption.keys if key.slot == entry.slot)
            try:
                self._recover(found.header, key)
            except _SEALED_AWAY as error:
                problems[entry.slot] = f"its {key.kind} key was not recovered: {error.cause}"
        return problems

    def _recover(self, header: LuksHeader, key: ConfiguredKey) -> None:
        token = header.token(key.slot)

        def use(candidate: Secret) -> None:
            self.carry(key.slot, candidate)

        try_key(self._desired.volume, key, None if token is None else token.json, self._ports.provider(key), use)

    def begin(
        self, held: tuple[HeldSlot, ...], how: ReencryptIntent, hand_out: Callable[[ReencryptIntent], None]
    ) -> Iterator[Done]:
        """Yield the steps that announce, prepare and start it; what is in `held` and was not carried is given up.

        `hand_out` is called between the last two: what it raises takes all back. So does whatever fails before it
        started. Refused before the first write where keyslots or JSON area do not hold it.
        """
        found = self.found()
        kept = tuple(entry for entry in held if entry.slot in self._carried)
        intent = self._intent(found, kept, how)
        name = None if found.mapping is None else found.mapping.name
        with self._ports.disks.volume_lock(self._desired.volume):
            if self.found().header != found.header:
                raise self._refused("its header was changed meanwhile", "try again")
            announce, add, start = steps_to_begin(found.device, intent, name)
            try:
                yield from self._take((announce, add))
                hand_out(intent)
                yield from self._take((start,))
            except BaseException as error:
                self._give_up(error)
                raise

    def _give_up(self, because: BaseException) -> None:
        """Take back what did not start; where that fails, the next run does it, and it is noted on the error."""
        try:
            found = self._luks2()
            if found.reencrypt_stage is not ReencryptStage.RUNNING:
                for _ in self._take(steps_to_go_on(found)):
                    pass
        except LuksctlError as error:
            because.add_note(f"what was prepared is taken back by the next luksctl reencrypt --resume: {error}")

    def _intent(self, found: Luks2, kept: tuple[HeldSlot, ...], how: ReencryptIntent) -> ReencryptIntent:
        if not any(entry.role is SlotRole.CONFIG for entry in kept):
            raise self._refused("no configured key would be carried over", f"luksctl check {self._desired.volume}")
        header = found.header
        moved = moves(header, kept, self._encryption)
        books = verified(header, self._keyring.mac(header.uuid))[0]
        if books is None:
            raise self._refused("luksctl does not manage its keyslots", f"luksctl adopt {self._desired.volume}")
        room = budget(header, moved, new_books(books, moved, 0))
        if not room.fits:
            cause = (
                f"the header has room for {room.capacity_bytes} bytes of JSON, and with two keyslots for each key it "
                f"may need {room.needed_bytes}"
            )
            raise self._refused(cause, "give some keyslots up by name: --drop-slot N")
        return replace(
            how,
            volume=self._desired.volume,
            partition=found.device.identity,
            header_uuid=header.uuid,
            moved=moved,
            token=second_token(header, moved, self._encryption),
        )

    # ---- go on ------------------------------------------------------------------------------------------------------

    @property
    def stage(self) -> ReencryptStage | None:
        """Return where the announced one stands, None where none is announced."""
        return self._luks2().reencrypt_stage

    def go_on(self) -> Iterator[Done]:
        """Yield what is left of the announced re-encryption, to the end; nothing where none is announced.

        Locked or ProviderUnavailable where no key can be recovered; what the progress raises stops it.
        """
        found = self._luks2()
        if found.reencryption is not None and found.reencryption.kind is ReencryptKind.DECRYPT:
            yield from self._decrypt(found)
            return
        if found.reencrypt_stage is ReencryptStage.PREPARING:
            yield from self._locked(steps_to_go_on(found))
            return
        if found.reencrypt_stage is ReencryptStage.RUNNING:
            yield from self._take(steps_to_go_on(found))
        if self._luks2().reencrypt_stage is ReencryptStage.SETTLING:
            yield from self._settle()

    def _decrypt(self, found: Luks2) -> Iterator[Done]:
        if not all_plain(found.header):
            yield from self._take(steps_to_go_on(found))
            found = self._luks2()
        yield from self._locked(steps_to_go_on(found))

    def _settle(self) -> Iterator[Done]:
        """Bring the keys back to their numbers, as a sync does, and delete the intent once all are there."""
        with self._ports.disks.volume_lock(self._desired.volume):
            # Also where every spare is gone: what a cut left of the notes about them is not to be seen in the keyslots.
            yield from self._sync()
            yield from self._take(steps_to_go_on(self._luks2()))

    def _sync(self) -> Iterator[Done]:
        """Sync with secrets of its own: it is another volume key. What remains is raised only while a spare is left."""
        with Keyring(self._desired.volume) as keyring:
            running = Session(self._desired, self._settings, self._ports, keyring, settling=True)
            try:
                yield from running.sync()
                self.in_sync = True
            except (Degraded, NeedsReboot):
                self.in_sync = False
                # Keys that were given up, and cannot be made now, are no part of this.
                found = self._luks2()
                if found.reencryption is not None and not settled(found.header, found.reencryption):
                    raise

    def _locked(self, steps: tuple[Step, ...]) -> Iterator[Done]:
        with self._ports.disks.volume_lock(self._desired.volume):
            yield from self._take(steps)

    # ---- common -----------------------------------------------------------------------------------------------------

    @property
    def _encryption(self) -> VolumeEncryption:
        if self._desired.encryption is None and self._desired.fallback:
            return self._desired.fallback[0]  # what is being decrypted has the keys of before
        if self._desired.encryption is None:
            raise self._refused("the config asks for no encryption of it", "add its keys to the config")
        return self._desired.encryption

    def _luks2(self) -> Luks2:
        return expect_encrypted(look(self._desired, self._settings, self._ports), self._desired.volume)

    def _take(self, steps: tuple[Step, ...]) -> Iterator[Done]:
        wanted = self._desired
        run = Run(wanted.volume, self._ports, self._keyring, None, self._encryption)
        run.reencrypting = Reencrypting(self._encryption, wanted.fallback, wanted.policy, self._carried, self._progress)
        yield from run.take_all(steps)

    def _refused(self, cause: str, hint: str) -> Refused:
        return Refused(cause, volume=self._desired.volume, hint=hint)
