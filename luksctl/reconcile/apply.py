"""Take the steps of a plan, one after the other, yielding after each; the only room that makes disks change.

A run holds the volume key of a volume it formats and the keys it made, in Secrets that are wiped when it ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from types import TracebackType

from luksctl.errors import (
    DeviceError,
    KeyRejected,
    LuksctlError,
    NotConverged,
    ProviderUnavailable,
    Refused,
    TokenInvalid,
)
from luksctl.hints import Self, assert_never
from luksctl.model.config import CIPHER_KEY_BITS, DEFAULT_CIPHER, ConfiguredKey, VolumeEncryption
from luksctl.model.header import UNFINISHED_MARK, Copies, LuksHeader
from luksctl.model.intent import FormatIntent
from luksctl.model.meta import NodeRecord
from luksctl.model.plan import Plan
from luksctl.model.ports import Activation, HeaderFormat, MadeKey, Ports
from luksctl.model.probe import Device
from luksctl.model.step import (
    AddKeyslot,
    CloseVolume,
    ConcludeFormat,
    Done,
    EraseHead,
    FinishVolume,
    FormatVolume,
    MakeFilesystem,
    MakeKey,
    OpenVolume,
    ProveAnyKey,
    ProveKey,
    RepairHeader,
    RepairMeta,
    Step,
    WriteIntent,
    WriteStateEncryption,
    WriteToken,
)
from luksctl.reconcile.keys import Failures, cheapest_first, expect_given_back, try_key
from luksctl.secret import Secret
from luksctl.value import replace


def apply(plan: Plan, ports: Ports, seen: LuksHeader | None = None) -> Iterator[Done]:
    """Take every step of `plan`, yielding after each; raises the plan's refusal before the first.

    `seen` is the header that the plan was made for, if there was one: it says which keyslots are tried first.

    A step that fails ends the run with its error; what is on disk then is what the step's docstring says. When a
    format fails, the cause is noted in its intent, so that the third failure can be explained.
    """
    if plan.refusal is not None:
        raise plan.refusal
    with _Run(plan.volume, ports, seen) as run:
        for step in plan.steps:
            try:
                done = run.take(step)
            except LuksctlError as error:
                error.volume = error.volume or plan.volume
                run.note_failure(error)
                raise
            yield done


class _Run:
    """What one run knows beyond its steps: keys made, the volume key, slots proven, slots that failed."""

    def __init__(self, volume: str, ports: Ports, seen: LuksHeader | None) -> None:
        self._seen = seen
        self._ports = ports
        self._volume = volume
        self._secrets = ExitStack()
        self._made: dict[int, MadeKey] = {}
        self._volume_key: Secret | None = None
        self._proven: set[int] = set()
        self._failures = Failures(volume)
        self._intent: FormatIntent | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._secrets.close()

    def note_failure(self, error: LuksctlError) -> None:
        """Write the cause into the announced intent; a META that cannot take it is added to the error, not raised."""
        intent = self._intent
        if intent is None:
            return
        first_line = next(iter(error.cause.splitlines()), "")

        def note(record: NodeRecord) -> NodeRecord:
            announced = record.intent(intent.volume)
            if announced is None or announced.header_uuid != intent.header_uuid:
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
            case AddKeyslot():
                return self._add_keyslot(step)
            case WriteToken():
                return self._write_token(step)
            case ProveKey():
                return self._prove(step)
            case ProveAnyKey(_, device, encryption):
                slot = self._find_key(device, encryption, keep_volume_key=False)
                return Done(step, f"slot {slot} proven", slot=slot)
            case WriteStateEncryption(_, state_encryption):
                self._write_state_encryption(state_encryption)
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
                assert_never(step)
        return Done(step)

    # ---- keys -------------------------------------------------------------------------------------------------------

    def _make_key(self, step: MakeKey) -> Done:
        key = step.key
        try:
            provider = self._ports.provider(key)
            made = provider.make(step.volume, key)
            self._secrets.enter_context(made.key)
            expect_given_back(step.volume, key, made, provider)
        except (ProviderUnavailable, KeyRejected, TokenInvalid) as error:
            self._failures.add(key, error)
            if step.required:
                raise self._failures.combined("could be made", Refused) from error
            return Done(step, slot=key.slot, skipped=error.cause)
        self._made[key.slot] = made
        return Done(step, slot=key.slot)

    def _write_intent(self, step: WriteIntent, intent: FormatIntent) -> Done:
        if intent.header_uuid and self._failures.errors and not self._made:
            raise self._failures.combined("could be made", Refused)

        def announce(record: NodeRecord) -> NodeRecord:
            return record.with_intent(intent)

        self._ports.meta.update_record(announce)
        self._intent = intent
        return Done(step, f"attempt {intent.attempt}, {intent.phase}")

    def _add_keyslot(self, step: AddKeyslot) -> Done:
        made = self._made.get(step.slot)
        if made is None:
            return Done(step, slot=step.slot, skipped="its key could not be made")
        self._ports.headers.add_keyslot(step.device, step.slot, made.key, self._own_volume_key(), step.kdf)
        return Done(step, slot=step.slot)

    def _write_token(self, step: WriteToken) -> Done:
        made = self._made.get(step.slot)
        if made is None or made.token is None:
            return Done(step, slot=step.slot, skipped="its key has no token")
        self._ports.headers.write_token(step.device, step.slot, made.token)
        return Done(step, slot=step.slot)

    def _prove(self, step: ProveKey) -> Done:
        key = step.key
        if key.slot not in self._made:
            return Done(step, slot=key.slot, skipped="its key could not be made")
        header = self._header(step.device)
        token = header.token(key.slot)
        try:
            try_key(
                step.volume,
                key,
                None if token is None else token.json,
                self._ports.provider(key),
                lambda candidate: self._ports.headers.test_key(step.device, key.slot, candidate),
            )
        except (ProviderUnavailable, KeyRejected, TokenInvalid) as error:
            self._failures.add(key, error)
            if step.required:
                raise self._failures.combined("was proven") from error
            return Done(step, slot=key.slot, skipped=error.cause)
        self._proven.add(key.slot)
        return Done(step, "opened", slot=key.slot)

    def _find_key(self, device: Device, encryption: VolumeEncryption, *, keep_volume_key: bool) -> int:
        """Return the slot of the first configured key that opens; keeps the volume key for the activation if asked."""
        header = self._seen or self._header(device)
        failures = Failures(self._volume)
        for key in cheapest_first(encryption.keys, header):
            try:
                volume_key = self._volume_key_by(device, header, key)
            except (ProviderUnavailable, KeyRejected, TokenInvalid, DeviceError) as error:
                failures.add(key, error)
                continue
            self._secrets.enter_context(volume_key)
            if keep_volume_key:
                self._volume_key = volume_key
            self._proven.add(key.slot)
            return key.slot
        raise failures.combined("opens the volume")

    def _volume_key_by(self, device: Device, header: LuksHeader, key: ConfiguredKey) -> Secret:
        if header.keyslot(key.slot) is None:
            raise KeyRejected("the header has no such keyslot")
        token = header.token(key.slot)
        return try_key(
            self._volume,
            key,
            None if token is None else token.json,
            self._ports.provider(key),
            lambda candidate: self._ports.headers.volume_key(device, key.slot, candidate),
        )

    # ---- header and mapping -----------------------------------------------------------------------------------------

    def _own_volume_key(self) -> Secret:
        if self._volume_key is None:
            raise NotConverged("a keyslot was to be added to a volume that this run did not format")
        return self._volume_key

    def _header(self, device: Device) -> LuksHeader:
        header = self._ports.disks.header_copies(device).best
        if header is None:
            raise DeviceError(f"no valid LUKS2 header copy on {device.path}")
        return header

    def _format(self, step: FormatVolume) -> None:
        encryption = step.encryption
        bits = encryption.key_size_bits or CIPHER_KEY_BITS[encryption.cipher or DEFAULT_CIPHER]
        self._volume_key = self._secrets.enter_context(Secret.random(bits // 8))
        how = HeaderFormat(step.header_uuid, UNFINISHED_MARK, encryption, step.talos_readable)
        self._ports.headers.format(step.device, how, self._volume_key)

    def _open(self, step: OpenVolume) -> Done:
        encryption = step.encryption
        detail, slot = "with the volume key of this run", None
        if self._volume_key is None:
            slot = self._find_key(step.device, encryption, keep_volume_key=True)
            kind = next(key.kind for key in encryption.keys if key.slot == slot)
            detail = f"with slot {slot} ({kind})"
        elif not self._proven:
            raise self._failures.combined("was proven")
        how = Activation(encryption.options or (), allow_discards=bool(encryption.allow_discards))
        self._ports.headers.activate(step.device, step.mapped_name, self._own_volume_key(), how)
        return Done(step, detail, slot=slot)

    def _finish(self, device: Device, header_uuid: str) -> None:
        self._expect_header(device, header_uuid)
        self._ports.headers.clear_subsystem(device)
        self._expect_equal_copies(device, "finishing")
        if self._header(device).unfinished_mark:
            # Without the intent, a mark that stayed would lock the volume out at the next boot.
            raise DeviceError(f"after finishing, the header of {device.path} still carries the unfinished mark")

    def _repair_header(self, device: Device, header_uuid: str) -> None:
        self._expect_header(device, header_uuid)
        self._ports.headers.repair(device)
        self._expect_equal_copies(device, "repairing")

    def _expect_header(self, device: Device, header_uuid: str) -> None:
        if self._header(device).uuid != header_uuid:
            raise NotConverged(f"the header of {device.path} changed under us", hint="luksctl plan")

    def _expect_equal_copies(self, device: Device, doing: str) -> None:
        state = self._ports.disks.header_copies(device).state
        if state is not Copies.EQUAL:
            raise DeviceError(f"after {doing}, the header copies of {device.path} do not agree ({state})")

    def _write_state_encryption(self, encryption: VolumeEncryption | None) -> None:
        if encryption is not None and not self._proven:
            if self._failures.errors:
                raise self._failures.combined("was proven")
            raise NotConverged("META was left as it is: no key of the new list was proven on STATE in this run")
        self._ports.meta.write_state_encryption(encryption)
