"""Taking the steps by which a volume gets a new volume key; see model/announced_step.py for what a cut leaves."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Mapping

from luksctl.errors import (
    CryptsetupError,
    DeviceError,
    LuksctlError,
    NeedsReboot,
    NotConverged,
    SlotPassphraseRejected,
)
from luksctl.hints import assert_never
from luksctl.model.announced_step import (
    AddNewKeyslots,
    AnnounceReencryption,
    ConcludeReencryption,
    EndReencryption,
    ReencryptStep,
    RunReencryption,
    StartReencryption,
    TakeBackReencryption,
)
from luksctl.model.bookkeeping import TOKEN_TYPE, Bookkeeping, encode
from luksctl.model.config import RECOVERY, EncryptionPolicy, KdfCost, VolumeEncryption
from luksctl.model.header import PROVIDER_TOKEN_TYPES
from luksctl.model.intent import MovedSlot, ReencryptIntent, SlotRole
from luksctl.model.ports import Ports
from luksctl.model.probe import Device
from luksctl.model.step import Done
from luksctl.reconcile.books import verified
from luksctl.reconcile.fingerprints import VolumeMac
from luksctl.reconcile.keyring import Keyring
from luksctl.reconcile.observe import current_header, expect_equal_copies
from luksctl.reconcile.plan_reencrypt import new_books, settled, tokens_to_copy
from luksctl.reconcile.unlock import first_that_works
from luksctl.secret import Secret
from luksctl.value import frozen

Progress = Callable[[int, int], None]


@frozen
class Reencrypting:
    """What the steps need beside a run. `carried` are the keys that the new keyslots get, by the old one's number.

    `fallback` are the key lists that the volume had before.
    """

    encryption: VolumeEncryption
    fallback: tuple[VolumeEncryption, ...]
    policy: EncryptionPolicy
    carried: Mapping[int, Secret]
    progress: Progress


class ReencryptSteps:
    """Take them by the ports, with the keys of a run."""

    def __init__(self, ports: Ports, keyring: Keyring, how: Reencrypting) -> None:
        self._ports = ports
        self._keyring = keyring
        self._encryption, self._policy = how.encryption, how.policy
        self._lists = (how.encryption, *how.fallback)
        self._carried = how.carried
        self._progress = how.progress

    def take(self, step: ReencryptStep) -> Done:  # noqa: PLR0911  # one case per step
        """Take one step."""
        match step:
            case AnnounceReencryption(_, intent):
                self._ports.meta.update_record(lambda record: record.with_intent(intent))
                return Done(step)
            case AddNewKeyslots(_, device, intent):
                self._add(device, intent)
                return Done(step, f"{len(intent.moved)} keyslots, each opened")
            case StartReencryption(_, device, intent, mapped_name):
                self._start(device, intent, mapped_name)
                return Done(step)
            case RunReencryption():
                return self._run(step)
            case EndReencryption():
                return self._end(step)
            case TakeBackReencryption(_, device, intent, slots):
                self._take_back(device, intent, slots)
                return Done(step)
            case ConcludeReencryption(volume, device):
                self._conclude(volume, device)
                return Done(step)
        assert_never(step)

    # ---- before it starts -------------------------------------------------------------------------------------------

    def _add(self, device: Device, intent: ReencryptIntent) -> None:
        headers = self._ports.headers
        header = current_header(self._ports.disks, device)
        mac = self._keyring.mac(header.uuid)
        books = verified(header, mac)[0] or Bookkeeping()
        tokens = tokens_to_copy(header, intent.moved, self._encryption)
        with Secret.random(len(self._keyring.volume_key)) as volume_key:
            for number, slot in enumerate(intent.moved):
                key, cost = self._carried[slot.old], self._cost(slot)
                headers.add_new_keyslot(device, slot.new, key, volume_key, cost, first=number == 0)
                if slot.new in tokens:
                    headers.write_token(device, slot.new, tokens[slot.new])
            self._write_books(device, intent, new_books(books, intent.moved, int(time.time())), volume_key)
            for slot in intent.moved:
                with headers.volume_key(device, slot.new, self._carried[slot.old]) as found:
                    if found != volume_key:
                        raise NotConverged("the new keyslot gives another volume key", slot=slot.new)
        expect_equal_copies(self._ports.disks, device, "adding the new keyslots")

    def _write_books(self, device: Device, intent: ReencryptIntent, books: Bookkeeping, volume_key: Secret) -> None:
        """Write the bookkeeping that will verify once the new volume key is the volume's, beside the one that does."""
        mac = VolumeMac(volume_key, intent.header_uuid)
        try:
            self._ports.headers.write_token(device, intent.token, encode(books, mac.of_books(books)))
        finally:
            mac.close()

    def _cost(self, slot: MovedSlot) -> KdfCost:
        """Return what the second keyslot costs: the policy's for its kind; an unmanaged key may be guessable."""
        if slot.role is SlotRole.RECOVERY:
            return self._policy.kdf_for(RECOVERY)
        kind = next((key.kind for key in self._encryption.keys if key.slot == slot.old), None)
        return self._policy.kdf if kind is None or slot.role is SlotRole.UNMANAGED else self._policy.kdf_for(kind)

    def _start(self, device: Device, intent: ReencryptIntent, mapped_name: str | None) -> None:
        slots = next(slot for slot in intent.moved if slot.role is SlotRole.CONFIG)
        self._ports.headers.start_reencryption(device, self._carried[slots.old], slots, intent, mapped_name)
        expect_equal_copies(self._ports.disks, device, "starting the re-encryption")
        if not current_header(self._ports.disks, device).reencrypting:
            raise DeviceError(f"the header of {device.path} says nothing of the re-encryption that was started")

    def _take_back(self, device: Device, intent: ReencryptIntent, slots: tuple[int, ...]) -> None:
        """Remove what is bound to no data, tokens first: without any of the keyslots there is nothing to take back."""
        header = current_header(self._ports.disks, device)
        if header.reencrypting or any(header.bound(slot) for slot in slots):
            raise NotConverged("data has the new volume key, so its keyslots are not taken back", hint="luksctl status")
        books = header.token(intent.token)
        copied = {token.number for token in header.tokens if token.type in PROVIDER_TOKEN_TYPES}
        numbers = [slot for slot in slots if slot in copied]
        if books is not None and books.type == TOKEN_TYPE:
            numbers.append(intent.token)
        for number in numbers:
            self._ports.headers.remove_token(device, number)
        for slot in slots:
            if header.keyslot(slot) is not None:
                self._ports.headers.remove_keyslot(device, slot)

    # ---- afterwards -------------------------------------------------------------------------------------------------

    def _run(self, step: RunReencryption) -> Done:
        """Run it by the first key that the library takes; a failure after that is no reason to try another one."""
        device, name = step.device, step.mapped_name
        left_over = None if name is None else self._ports.disks.hot_zone(name)

        def run(slot: int, candidate: Secret) -> tuple[int, LuksctlError | None]:
            try:
                self._ports.headers.run_reencryption(device, candidate, step.intent, step.mapped_name, self._progress)
            except SlotPassphraseRejected:
                raise
            except LuksctlError as error:
                return slot, error
            return slot, None

        header = current_header(self._ports.disks, device)
        slot, failure = first_that_works(self._ports, self._keyring, header, self._lists, run)
        if failure is not None:
            raise failure if name is None else self._broken_off(name, left_over, failure)
        expect_equal_copies(self._ports.disks, device, "the re-encryption")
        return Done(step, slot=slot)

    def _broken_off(self, mapped_name: str, left_over: str | None, failure: LuksctlError) -> LuksctlError:
        """Return the error of a run that failed below an open mapping: NeedsReboot where the kernel has its hot zone.

        One that was `left_over` from before is not touched: it may be that of a program which runs now.
        """
        hot_zone = self._ports.disks.hot_zone(mapped_name)
        if hot_zone is None or isinstance(failure, NeedsReboot):
            return failure
        if left_over is not None and isinstance(failure, CryptsetupError) and failure.errno == errno.EBUSY:
            return failure  # it does
        cause = f"{failure.cause}; until the next boot, part of {mapped_name} can be neither read nor written"
        hint = "see to the disk (journalctl -k), then reboot: the boot mends the hot zone, and the service goes on"
        error = NeedsReboot(cause, operation=failure.operation, hint=hint)
        error.__cause__ = failure
        if left_over is None:
            try:
                self._ports.disks.fail_hot_zone(hot_zone)
            except LuksctlError as problem:
                error.add_note(f"whatever reads or writes there waits until then: {problem}")
        return error

    def _end(self, step: EndReencryption) -> Done:
        """End it once a key has opened a keyslot of the new volume key: whoever wrote that header knew it."""
        device, second = step.device, {slot.old: slot.new for slot in step.intent.moved}

        def opens(slot: int, candidate: Secret) -> int:
            number = second.get(slot, slot)
            with self._ports.headers.volume_key(device, number, candidate):
                return number

        header = current_header(self._ports.disks, device)
        slot = first_that_works(self._ports, self._keyring, header, self._lists, opens)
        self._ports.headers.end_reencryption(device, step.intent)
        expect_equal_copies(self._ports.disks, device, "ending the re-encryption")
        return Done(step, slot=slot)

    def _conclude(self, volume: str, device: Device) -> None:
        header = current_header(self._ports.disks, device)
        announced = self._ports.meta.load().record.intent(volume)
        running = isinstance(announced, ReencryptIntent) and not settled(header, announced)
        if header.reencrypting or running:
            raise NotConverged("the re-encryption is not done", hint="luksctl status")
        self._ports.meta.update_record(lambda record: record.without_intent(volume))
