"""Taking the steps of an encryption in place, up to where re-encryption takes over."""

from __future__ import annotations

from luksctl.errors import DeviceError, LuksctlError, NeedsReboot, Refused
from luksctl.hints import assert_never
from luksctl.model.announced_step import (
    AnnounceDecryption,
    AnnounceInPlace,
    BeginDecryption,
    BuildHeader,
    CheckInPlace,
    ConcludeDecryption,
    ConcludeDetachment,
    ConcludePlacement,
    DecryptStep,
    DetachHeader,
    EncryptStep,
    InPlaceStep,
    MakeRoom,
    MoveHead,
    PlaceHeader,
    RestoreFilesystem,
    RestoreHead,
)
from luksctl.model.config import CIPHER_KEY_BITS, DEFAULT_CIPHER, VolumeEncryption
from luksctl.model.header import Copies
from luksctl.model.in_place import ROOM_BYTES, SHIFT_BYTES, SHRINKABLE, Extent
from luksctl.model.intent import InPlaceIntent, InPlacePhase, ReencryptIntent, ReencryptKind
from luksctl.model.ports import HeaderFormat, Ports
from luksctl.model.probe import Device, Range
from luksctl.model.step import Done
from luksctl.reconcile.keyring import Keyring, Proof
from luksctl.reconcile.observe import current_header, expect_equal_copies
from luksctl.reconcile.plan_reencrypt import all_plain
from luksctl.secret import Secret
from luksctl.units import format_size
from luksctl.value import replace

_HEAD = Range(0, SHIFT_BYTES)


class InPlaceSteps:
    """Encrypt in place by the ports; keys and proofs are those of the run."""

    def __init__(self, ports: Ports, keyring: Keyring) -> None:
        self._ports = ports
        self._keyring = keyring
        self._disks = ports.in_place()

    def take(self, step: InPlaceStep) -> Done:
        """Take one step; its docstring says what a cut leaves."""
        return self._decrypt(step) if isinstance(step, DecryptStep) else self._encrypt(step)

    def _encrypt(self, step: EncryptStep) -> Done:
        match step:
            case CheckInPlace(_, device, saved):
                return Done(step, self._check(device, saved))
            case BuildHeader():
                self._build(step)
            case AnnounceInPlace(_, intent):
                self._announce(intent)
            case MakeRoom(_, device, intent, saved):
                return Done(step, self._make_room(device, intent, saved))
            case RestoreFilesystem(_, device, intent):
                return Done(step, self._unshrink(device, intent))
            case MoveHead():
                return Done(step, self._move_head(step))
            case PlaceHeader(_, device, scratch, uuid):
                self._ports.headers.place_header(device, scratch, uuid)
                expect_equal_copies(self._ports.disks, device, "placing the header")
                self._disks.drop(scratch.path)
            case RestoreHead(_, device, intent):
                return Done(step, self._restore(device, intent))
            case ConcludePlacement():
                self._conclude(step)
            case _:
                assert_never(step)
        return Done(step)

    def _expect_library(self) -> None:
        why_not = self._ports.headers.why_not_reencrypt()
        if why_not is not None:
            raise Refused(why_not, hint="install libcryptsetup 2.7.5 or newer")

    def _check(self, device: Device, saved: str) -> str:
        self._expect_library()
        holder = self._ports.disks.in_use(device)
        if holder is not None:
            raise NeedsReboot(
                f"{device.path} is in use by {holder}, and is encrypted in place before it is mounted",
                hint="reboot: the boot does it",
            )
        extent = self._disks.extent(device)
        expect_room(device, extent, saved)
        if extent.kind in SHRINKABLE:
            # What a log of xfs is not replayed of counts as damage, and only mounting replays it.
            self._expect_sound(device, extent)
        return f"{extent.kind}, {format_size(extent.size_bytes)}"

    def _expect_sound(self, device: Device, extent: Extent) -> None:
        try:
            self._disks.check(device)
        except DeviceError as error:
            raise Refused(
                f"the {extent.kind} filesystem of {device.path} is not sound: {error.cause}; it was not touched",
                hint=f"mend it (fsck {device.path}), then reboot",
            ) from error

    def _build(self, step: BuildHeader) -> None:
        encryption = step.encryption
        if not self._keyring.made:
            raise self._keyring.failures.combined("could be made", Refused)
        bits = encryption.key_size_bits or CIPHER_KEY_BITS[encryption.cipher or DEFAULT_CIPHER]
        self._keyring.hold_volume_key(Secret.random(bits // 8))
        self._disks.make_scratch(step.scratch)
        how = HeaderFormat(step.header_uuid, "", encryption, step.talos_readable)
        self._ports.headers.format(step.scratch, how, self._keyring.volume_key)

    def _announce(self, intent: InPlaceIntent) -> None:
        if not self._keyring.proofs:
            # Before the first write to the volume: a header that nobody opens is never placed.
            raise self._keyring.failures.combined("was proven", Refused)
        self._note(intent)

    def _note(self, intent: InPlaceIntent) -> None:
        self._ports.meta.update_record(lambda record: record.with_intent(intent))

    def _make_room(self, device: Device, intent: InPlaceIntent, saved: str) -> str:
        if saved:
            self._disks.drop(saved)  # one that was never announced, or is done with
        # A journal that is not replayed yet may say that the filesystem is larger than its superblock does.
        self._disks.replay(device)
        extent = self._disks.extent(device)
        self._expect_sound(device, extent)
        limit_bytes = device.size_bytes - ROOM_BYTES
        if extent.size_bytes <= limit_bytes:
            return "there is room"
        expect_room(device, extent, saved)
        digest = self._disks.rehearse(device, limit_bytes, saved)
        last = Range(device.size_bytes - SHIFT_BYTES, SHIFT_BYTES)
        shrinking = replace(intent, phase=InPlacePhase.SHRINKING, moved=last, saved=saved, saved_sha256=digest)
        self._note(shrinking)
        self._disks.shrink(device, limit_bytes)
        self._disks.check(device)
        shrunk = self._disks.extent(device)
        if shrunk.size_bytes > limit_bytes:
            raise DeviceError(f"{device.path}: the filesystem was shrunk, and still reaches too far")
        self._note(intent.taken_back)
        self._disks.drop(saved)
        return f"shrunk from {format_size(extent.size_bytes)} to {format_size(shrunk.size_bytes)}"

    def _unshrink(self, device: Device, intent: InPlaceIntent) -> str:
        detail = self._disks.put_back(device, intent.saved, intent.saved_sha256)
        self._note(intent.taken_back)
        self._disks.drop(intent.saved)
        return detail

    def _move_head(self, step: MoveHead) -> str:
        proof_slot, proof = self._proof(step.encryption)
        cipher = step.encryption.cipher or DEFAULT_CIPHER
        moved = self._ports.headers.begin_encryption(step.device, step.scratch, cipher, proof.secret, proof_slot)
        extent = self._disks.extent(step.device)
        if moved.offset_bytes < extent.size_bytes:
            raise DeviceError(
                f"the head of {step.device.path} was copied into its filesystem", operation="move its head"
            )
        digest = self._disks.digest(step.device, replace(_HEAD, size_bytes=moved.size_bytes))
        if self._disks.digest(step.device, moved) != digest:
            raise DeviceError(
                f"the copy of the head of {step.device.path} does not read back as the head",
                operation="move its head",
                hint="the disk is failing, or hides its writes: read its log (journalctl -k)",
            )
        self._note(replace(step.intent, phase=InPlacePhase.PLACING, moved=moved, head_sha256=digest))
        return f"{format_size(moved.size_bytes)} copied to byte {moved.offset_bytes}, and read back"

    def _proof(self, encryption: VolumeEncryption) -> tuple[int, Proof]:
        """Return a proven key, the cheapest to derive: libcryptsetup derives it once more."""
        costs = {key.slot: key.kind for key in encryption.keys}
        proofs = sorted(self._keyring.proofs.items(), key=lambda entry: (costs.get(entry[0], ""), entry[0]))
        return proofs[0]

    def _restore(self, device: Device, intent: InPlaceIntent) -> str:
        moved = intent.moved
        if moved is None:
            raise DeviceError("META does not say where the head was moved to")
        head = replace(_HEAD, size_bytes=moved.size_bytes)
        detail = "the head is where it was"
        if self._disks.digest(device, head) != intent.head_sha256:
            if self._disks.digest(device, moved) != intent.head_sha256:
                raise Refused(
                    f"neither the head of {device.path} nor its copy at byte {moved.offset_bytes} is what META says",
                    hint="restore the filesystem from a backup; nothing was touched",
                )
            self._disks.copy(device, moved, 0)
            if self._disks.digest(device, head) != intent.head_sha256:
                raise DeviceError(f"the head of {device.path} does not read back as it was written")
            detail = f"taken back from byte {moved.offset_bytes}"
        self._note(intent.taken_back)
        return detail

    def _conclude(self, step: ConcludePlacement) -> None:
        header = current_header(self._ports.disks, step.device)
        copies = self._ports.disks.header_copies(step.device)
        if header.uuid != step.header_uuid or copies.state is not Copies.EQUAL:
            raise DeviceError(f"the header on {step.device.path} is not the one that was placed")
        if not self._keyring.proofs:
            raise _unproven(step.volume)
        intent = ReencryptIntent(
            step.volume,
            step.device.identity,
            step.header_uuid,
            next(segment.encryption for segment in header.segments if segment.encryption),
            kind=ReencryptKind.ENCRYPT,
        )
        self._ports.meta.update_record(
            lambda record: record.with_finished(step.volume, intent.partition, encrypted=True).with_intent(intent)
        )

    # ---- the way back -----------------------------------------------------------------------------------------------

    def _decrypt(self, step: DecryptStep) -> Done:
        match step:
            case AnnounceDecryption(_, intent):
                self._expect_library()
                self._ports.meta.update_record(lambda record: record.with_intent(intent))
            case DetachHeader(_, device):
                return Done(step, self._detach(device))
            case BeginDecryption(_, device, _):
                return Done(step, self._begin_decryption(device))
            case ConcludeDetachment():
                self._conclude_detachment(step)
            case ConcludeDecryption():
                self._conclude_decryption(step)
            case _:
                assert_never(step)
        return Done(step)

    def _detach(self, device: Device) -> str:
        self._disks.save(device.header, self._ports.headers.save_header(replace(device, header="")))
        expect_equal_copies(self._ports.disks, device, "saving the header")
        return device.header

    def _begin_decryption(self, device: Device) -> str:
        slot, proof = next(iter(self._keyring.proofs.items()))
        self._ports.headers.begin_decryption(device, proof.secret, slot)
        data = Range(SHIFT_BYTES, SHIFT_BYTES)
        digest = self._disks.digest(device, data)
        if self._disks.digest(device, _HEAD) != digest:
            # Cut between the header in the file and the copy, or before the copy reached the medium.
            self._disks.copy(device, data, 0)
            if self._disks.digest(device, _HEAD) != digest:
                raise DeviceError(f"the first of the data of {device.path} does not read back where it was copied to")
        return "begun in its header, and the first of the data read back from the medium"

    def _conclude_detachment(self, step: ConcludeDetachment) -> None:
        header = current_header(self._ports.disks, step.device)
        if header.uuid != step.header_uuid or not header.reencrypting:
            raise DeviceError(f"the header in {step.device.header} does not say that it is being decrypted")
        intent = ReencryptIntent(
            step.volume,
            step.device.identity,
            step.header_uuid,
            "",
            kind=ReencryptKind.DECRYPT,
            header=step.device.header,
        )
        self._ports.meta.update_record(lambda record: record.with_intent(intent))

    def _conclude_decryption(self, step: ConcludeDecryption) -> None:
        header = current_header(self._ports.disks, step.device)
        if not all_plain(header):
            raise DeviceError(f"the header in {step.device.header} does not say that all is decrypted")
        partition = step.device.identity
        self._ports.meta.update_record(lambda record: record.with_finished(step.volume, partition, encrypted=False))
        self._disks.drop(step.device.header)


def _unproven(volume: str) -> LuksctlError:
    return DeviceError("no key was proven on the header that was placed", volume=volume)


def expect_room(device: Device, extent: Extent, saved: str) -> None:
    """Raise Refused where the filesystem reaches too far towards the end, and cannot be made smaller.

    `saved` is where what shrinking overwrites is kept meanwhile; empty where there is no such place.
    """
    limit_bytes = device.size_bytes - ROOM_BYTES
    if extent.size_bytes <= limit_bytes:
        return
    missing = format_size(extent.size_bytes - limit_bytes)
    if extent.kind == "xfs":
        raise Refused(
            f"the xfs on {device.path} leaves no room for a header: {missing} at its end are missing, and xfs cannot "
            "be made smaller; nothing was touched",
            hint="back its files up, reset it (luksctl reset), let the boot make it encrypted, and restore them",
        )
    if extent.smallest_bytes is None or extent.smallest_bytes > limit_bytes:
        raise Refused(
            f"the {extent.kind} on {device.path} is too full to be shrunk by {missing}; nothing was touched",
            hint="free some space on it",
        )
    if not saved:
        raise Refused(
            f"the {extent.kind} on {device.path} has to be shrunk, and what that overwrites is kept on STATE "
            "meanwhile, which is not mounted; nothing was touched",
            hint="luksctl status",
        )
