"""Take the steps of a plan, one after the other, yielding after each; the only room that makes disks change.

A run holds the volume key of a volume and the keys it made or proved, in Secrets that are wiped when it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from luksctl.errors import (
    DeviceError,
    KdfOutOfMemory,
    KeyRejected,
    LuksctlError,
    NotConverged,
    ProviderUnavailable,
    Refused,
    TokenInvalid,
)
from luksctl.hints import TYPE_CHECKING
from luksctl.model.announced_step import (
    AnnounceDecryption,
    AnnounceInPlace,
    AnnounceReset,
    ConcludeDetachment,
    ConcludePlacement,
    ConcludeReset,
    Discard,
    EraseEnds,
    EraseHeader,
    InPlaceStep,
    Overwrite,
    ReencryptStep,
)
from luksctl.model.config import CIPHER_KEY_BITS, DEFAULT_CIPHER, ConfiguredKey, VolumeEncryption
from luksctl.model.header import UNFINISHED_MARK, LuksHeader
from luksctl.model.intent import DecryptIntent, FormatIntent, InPlaceIntent, Intent
from luksctl.model.meta import NodeRecord
from luksctl.model.plan import Plan
from luksctl.model.ports import Activation, HeaderFormat, MadeKey, Ports
from luksctl.model.probe import Device
from luksctl.model.step import (
    AddKeyslot,
    AnnounceKeyslot,
    CloseVolume,
    ConcludeFormat,
    DisownKeyslot,
    Done,
    EraseHead,
    FinishVolume,
    ForgetKeyslots,
    FormatVolume,
    MakeFilesystem,
    MakeKey,
    OpenVolume,
    ProveAnyKey,
    ProveKey,
    RecordKeyslots,
    RemoveKeyslot,
    RepairHeader,
    RepairMeta,
    StageRotation,
    Step,
    TakeKey,
    WriteIntent,
    WriteStateEncryption,
    WriteToken,
)
from luksctl.reconcile.keyring import Keyring
from luksctl.reconcile.keys import expect_given_back, try_key
from luksctl.reconcile.observe import current_header, expect_equal_copies
from luksctl.reconcile.unlock import first_that_opens
from luksctl.secret import Secret
from luksctl.value import replace

if TYPE_CHECKING:
    from luksctl.reconcile.in_place_steps import InPlaceSteps
    from luksctl.reconcile.keyslot_steps import KeyslotSteps
    from luksctl.reconcile.reencrypt_steps import Reencrypting


def apply(plan: Plan, ports: Ports, seen: LuksHeader | None = None) -> Iterator[Done]:
    """Take every step of `plan` in a run of its own; raises the plan's refusal before the first. See Run.take_all."""
    if plan.refusal is not None:
        raise plan.refusal
    with Keyring(plan.volume) as keyring:
        yield from Run(plan.volume, ports, keyring, seen).take_all(plan.steps)


class Run:
    """One run over one volume: takes steps, and knows what the earlier ones came to.

    `seen` is the header that was looked at, if there was one: it says which keyslots are tried first. `configured` are
    the keys that the volume is to keep: only where one of them was proven, others are removed.
    """

    def __init__(
        self,
        volume: str,
        ports: Ports,
        keyring: Keyring,
        seen: LuksHeader | None = None,
        configured: VolumeEncryption | None = None,
    ) -> None:
        self._ports = ports
        self._configured = configured
        self._volume = volume
        self._keyring = keyring
        self._seen = seen
        self._intent: Intent | None = None
        # While META is to follow and did not yet, the keys that it names may be the last ones to open STATE.
        self._meta_behind = False
        self._keyslots: KeyslotSteps | None = None
        self._in_place: InPlaceSteps | None = None
        # Asked between two stretches of what may take hours; once it says no, the step ends as Busy.
        self.keep_going: Callable[[], bool] = lambda: True
        # Set by whoever takes steps of a re-encryption.
        self.reencrypting: Reencrypting | None = None

    def take_all(self, steps: tuple[Step, ...]) -> Iterator[Done]:
        """Take every step, yielding after each.

        A step that fails ends the run with its error; what is on disk then is what the step's docstring says. When a
        format fails, the cause is noted in its intent, so that the third failure can be explained.
        """
        self._meta_behind = any(
            isinstance(step, WriteStateEncryption) and step.encryption is not None for step in steps
        )
        if any(isinstance(step, RemoveKeyslot) for step in steps):
            self._slots.look_at_removed(steps)
        for step in steps:
            try:
                done = self.take(step)
            except LuksctlError as error:
                error.volume = error.volume or self._volume
                self._note_failure(error)
                raise
            yield done

    def _note_failure(self, error: LuksctlError) -> None:
        """Write the cause into the announced intent; a META that cannot take it is added to the error, not raised."""
        intent = self._intent
        if intent is None:
            return
        first_line = next(iter(error.cause.splitlines()), "")

        def note(record: NodeRecord) -> NodeRecord:
            announced = record.intent(intent.volume)
            if announced is None or not _same_work(announced, intent):
                # Where deleting the intent failed halfway, it must not come back: it is permission to destroy.
                return record
            return record.with_intent(replace(announced, last_error=first_line[:200] or type(error).__name__))

        try:
            self._ports.meta.update_record(note)
        except LuksctlError as second:
            error.add_note(f"the cause could not be noted in META: {second}")

    def take(self, step: Step) -> Done:  # noqa: C901, PLR0911, PLR0912  # one case per step, nothing else
        """Take one step."""
        ports = self._ports
        if isinstance(step, InPlaceStep):
            return self._take_in_place(step)
        match step:
            case RepairMeta():
                ports.meta.repair()
            case MakeKey():
                return self._make_key(step)
            case WriteIntent(_, intent):
                return self._write_intent(step, intent)
            case CloseVolume(_, mapped_name):
                ports.headers.deactivate(mapped_name)
            case EraseHead(_, device):
                ports.disks.erase_head(device)
            case FormatVolume():
                self._format(step)
            case ProveKey():
                return self._prove(step)
            case TakeKey():
                return self._take_key(step)
            case ProveAnyKey(_, device, encryption, fallback):
                slot = self._unlock(device, (encryption, *fallback))
                return Done(step, f"slot {slot} proven", slot=slot)
            case (
                AnnounceKeyslot()
                | AddKeyslot()
                | WriteToken()
                | RecordKeyslots()
                | ForgetKeyslots()
                | DisownKeyslot()
                | RemoveKeyslot()
                | StageRotation()
            ):
                return self._slots.take(step, meta_behind=self._meta_behind)
            case AnnounceReset(_, intent):
                self._announce(intent)
            case EraseHeader() | EraseEnds() | Overwrite() | Discard() | ConcludeReset():
                from luksctl.reconcile.erase_steps import EraseSteps  # noqa: PLC0415  # no boot without a reset does

                return EraseSteps(ports, self.keep_going).take(step)
            case WriteStateEncryption():
                return self._write_state_encryption(step)
            case RepairHeader(_, device, header_uuid):
                self._repair_header(device, header_uuid)
            case OpenVolume():
                return self._open(step)
            case MakeFilesystem():
                ports.disks.make_filesystem(
                    step.target, step.filesystem, step.volume, uuid=step.uuid, size_bytes=step.size_bytes
                )
            case FinishVolume(_, device, header_uuid):
                self._finish(device, header_uuid)
            case ConcludeFormat(volume, partition, encrypted):
                ports.meta.update_record(lambda record: record.with_finished(volume, partition, encrypted=encrypted))
                self._intent = None
            case _:
                return self._reencrypt(step)
        return Done(step)

    def _take_in_place(self, step: InPlaceStep) -> Done:
        if self._in_place is None:
            from luksctl.reconcile.in_place_steps import InPlaceSteps  # noqa: PLC0415  # few boots encrypt in place

            self._in_place = InPlaceSteps(self._ports, self._keyring)
        done = self._in_place.take(step)
        if isinstance(step, AnnounceInPlace | AnnounceDecryption):
            self._intent = step.intent
        elif isinstance(step, ConcludePlacement | ConcludeDetachment):
            self._intent = None
        return done

    # ---- keys -------------------------------------------------------------------------------------------------------

    def _make_key(self, step: MakeKey) -> Done:
        key = step.key
        try:
            provider = self._ports.provider(key)
            made = provider.make(step.volume, key)
            self._keyring.keep(made.key)
            expect_given_back(step.volume, key, made, provider)
        except (ProviderUnavailable, KeyRejected, TokenInvalid) as error:
            self._keyring.failures.add(key, error)
            if step.required:
                raise self._keyring.failures.combined("could be made", Refused) from error
            return Done(step, slot=key.slot, skipped=error.cause)
        self._keyring.made[key.slot] = made
        return Done(step, slot=key.slot)

    def _write_intent(self, step: WriteIntent, intent: FormatIntent) -> Done:
        if intent.header_uuid and self._keyring.failures.errors and not self._keyring.made:
            raise self._keyring.failures.combined("could be made", Refused)

        self._announce(intent)
        return Done(step, f"attempt {intent.attempt}, {intent.phase}")

    def _announce(self, intent: Intent) -> None:
        def announce(record: NodeRecord) -> NodeRecord:
            return record.with_intent(intent)

        self._ports.meta.update_record(announce)
        self._intent = intent

    def _prove(self, step: ProveKey) -> Done:
        key = step.key
        number = key.slot if step.slot is None else step.slot
        if key.slot not in self._keyring.made:
            return Done(step, slot=number, skipped="its key could not be made")
        try:
            self._try(step.device, key, number)
        except (ProviderUnavailable, KeyRejected, TokenInvalid, KdfOutOfMemory) as error:
            self._keyring.failures.add(key, error)
            if step.required:
                raise self._keyring.failures.combined("was proven") from error
            return Done(step, slot=number, skipped=error.cause)
        return Done(step, "opened", slot=number)

    def _take_key(self, step: TakeKey) -> Done:
        try:
            self._try(step.device, step.key, step.slot)
        except (ProviderUnavailable, KeyRejected, TokenInvalid, KdfOutOfMemory) as error:
            self._keyring.failures.add(step.key, error)
            return Done(step, slot=step.slot, skipped=error.cause)
        token = self._header(step.device).token(step.slot)
        secret = self._keyring.keep(Secret.join(self._keyring.proofs[step.slot].secret))
        self._keyring.made[step.key.slot] = MadeKey(secret, None if token is None else token.json)
        return Done(step, "opened", slot=step.slot)

    def _try(self, device: Device, key: ConfiguredKey, number: int) -> None:
        """Read the token of slot `number` back, get the key from its provider and open the slot with it."""
        token = self._header(device).token(number)
        # Before the try: whoever changes the slot after it makes another one of it, which nobody proved.
        digest = self._ports.headers.slot_digests(device, (number,)).get(number)

        def use(candidate: Secret) -> None:
            self._ports.headers.test_key(device, number, candidate)
            self._keyring.prove(number, key, candidate, digest)

        try_key(self._volume, key, None if token is None else token.json, self._ports.provider(key), use)

    def _unlock(self, device: Device, lists: tuple[VolumeEncryption, ...]) -> int:
        """Keep the volume key that the first fitting key yields; return the slot it opened."""
        header = self._seen or self._header(device)
        opened = first_that_opens(self._ports, self._keyring, device, header, lists)
        self._keyring.hold_volume_key(opened.volume_key)
        return opened.slot

    @property
    def _slots(self) -> KeyslotSteps:
        """Return who changes keyslots in this run."""
        if self._keyslots is None:
            # Not at the top: a boot in sync changes none, and its start is timed.
            from luksctl.reconcile.keyslot_steps import KeyslotSteps  # noqa: PLC0415

            self._keyslots = KeyslotSteps(self._ports, self._keyring, self._configured)
        return self._keyslots

    def _reencrypt(self, step: ReencryptStep) -> Done:
        from luksctl.reconcile.reencrypt_steps import ReencryptSteps  # noqa: PLC0415  # no boot takes any

        if self.reencrypting is None:
            raise ValueError("whoever takes steps of a re-encryption says how")
        self._seen = None  # it changes all of the header
        return ReencryptSteps(self._ports, self._keyring, self.reencrypting).take(step)

    # ---- header and mapping -----------------------------------------------------------------------------------------

    def _header(self, device: Device) -> LuksHeader:
        return current_header(self._ports.disks, device)

    def _format(self, step: FormatVolume) -> None:
        encryption = step.encryption
        bits = encryption.key_size_bits or CIPHER_KEY_BITS[encryption.cipher or DEFAULT_CIPHER]
        self._keyring.hold_volume_key(Secret.random(bits // 8))
        how = HeaderFormat(step.header_uuid, UNFINISHED_MARK, encryption, step.talos_readable)
        self._ports.headers.format(step.device, how, self._keyring.volume_key)

    def _open(self, step: OpenVolume) -> Done:
        encryption = step.encryption
        how = Activation(encryption.options or (), allow_discards=bool(encryption.allow_discards))
        if self._seen is not None and self._seen.reencrypting:
            from luksctl.reconcile.reencrypt_open import open_reencrypting  # noqa: PLC0415  # few boots have one

            return open_reencrypting(self._ports, self._keyring, self._seen, step, how)
        detail, slot = "with the volume key of this run", None
        if not self._keyring.has_volume_key:
            slot = self._unlock(step.device, (encryption, *step.fallback))
            detail = f"with slot {slot} ({self._keyring.proofs[slot].key.kind})"
        elif not self._keyring.proofs:
            raise self._keyring.failures.combined("was proven")
        self._ports.headers.activate(step.device, step.mapped_name, self._keyring.volume_key, how)
        return Done(step, detail, slot=slot)

    def _finish(self, device: Device, header_uuid: str) -> None:
        self._expect_header(device, header_uuid)
        self._ports.headers.clear_subsystem(device)
        expect_equal_copies(self._ports.disks, device, "finishing")
        if self._header(device).unfinished_mark:
            # Without the intent, a mark that stayed would lock the volume out at the next boot.
            raise DeviceError(f"after finishing, the header of {device.path} still carries the unfinished mark")

    def _repair_header(self, device: Device, header_uuid: str) -> None:
        self._expect_header(device, header_uuid)
        self._ports.headers.repair(device)
        expect_equal_copies(self._ports.disks, device, "repairing")

    def _expect_header(self, device: Device, header_uuid: str) -> None:
        if self._header(device).uuid != header_uuid:
            raise NotConverged(f"the header of {device.path} changed under us", hint="luksctl plan")

    def _write_state_encryption(self, step: WriteStateEncryption) -> Done:
        """Let META follow, once a key of the new list was proven; until then it stays as it is."""
        encryption = step.encryption
        if encryption is not None and not self._keyring.proven_key_of(encryption):
            if not self._keyring.proofs and self._keyring.failures.errors:
                raise self._keyring.failures.combined("was proven")
            return Done(step, skipped="no key of the new list was proven on STATE in this run")
        self._ports.meta.write_state_encryption(encryption)
        self._meta_behind = False
        return Done(step)


def _same_work(announced: Intent, intent: Intent) -> bool:
    """Tell whether META still announces what this run began, whatever else was noted about it since."""
    if isinstance(announced, FormatIntent) and isinstance(intent, FormatIntent):
        return announced.header_uuid == intent.header_uuid
    if isinstance(announced, InPlaceIntent | DecryptIntent) and isinstance(intent, InPlaceIntent | DecryptIntent):
        return announced.header_uuid == intent.header_uuid
    return type(announced) is type(intent)
