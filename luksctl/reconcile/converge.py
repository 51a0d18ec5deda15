"""Bring one volume to what is desired: observe, plan, apply, and look again; then the keyslots of what is open."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from luksctl.errors import Busy, Degraded, NeedsReboot, NotConverged, ReencryptionRunning, Refused
from luksctl.hints import TYPE_CHECKING, Final
from luksctl.model.announced_step import BeginDecryption, BuildHeader, ConcludeDecryption
from luksctl.model.config import VolumeSettings
from luksctl.model.desired import DesiredVolume
from luksctl.model.header import LuksHeader
from luksctl.model.meta import MetaFacts
from luksctl.model.observed import (
    Ambiguous,
    Blank,
    Damaged,
    Decrypting,
    Encrypting,
    Erasing,
    FilesystemFound,
    Luks2,
    Missing,
    Observed,
    ReencryptStage,
    Unfinished,
)
from luksctl.model.plan import Plan
from luksctl.model.ports import Ports
from luksctl.model.probe import Device
from luksctl.model.sealing import Due
from luksctl.model.step import Done, MakeKey, ProveAnyKey, RemoveKeyslot
from luksctl.reconcile.apply import Run
from luksctl.reconcile.keyring import Keyring
from luksctl.reconcile.observe import observe
from luksctl.reconcile.plan import plan
from luksctl.value import frozen

if TYPE_CHECKING:
    from luksctl.reconcile.plan_sync import SyncPlan

# One below a mapping that is in use, one once nobody holds the volume any more, and one look that finds it blank.
_ERASE_ROUNDS: Final = 3
# One that takes a head back and begins anew, or goes on where a header is placed, and one look that finds it done.
_IN_PLACE_ROUNDS: Final = 3


@frozen
class Look:
    """What is there and what would be done about it."""

    observed: Observed
    plan: Plan


def look(desired: DesiredVolume, settings: VolumeSettings, ports: Ports, meta: MetaFacts | None = None) -> Look:
    """Observe and plan; reads only. `meta` is what META said to who reads only, too, and looks at several volumes."""
    meta = ports.meta.load() if meta is None else meta
    observed = observe(desired.volume, settings, desired.mapped_name, meta, ports.disks)
    return Look(observed, plan(desired, observed, meta, fresh_uuid=_random_uuid(), scratch_dir=ports.scratch_dir))


@contextmanager
def session(desired: DesiredVolume, settings: VolumeSettings, ports: Ports) -> Iterator[Session]:
    """Hold our lock of the volume, and the secrets that its run comes to know, until the end of the `with`."""
    with ports.disks.volume_lock(desired.volume), Keyring(desired.volume) as keyring:
        yield Session(desired, settings, ports, keyring)


def converge(desired: DesiredVolume, settings: VolumeSettings, ports: Ports) -> Iterator[Done]:
    """Yield every step taken until nothing is left to do; raises the refusal, a step's error, or NotConverged.

    Where the wish says so, the keyslots follow; Degraded when they could not.
    """
    with session(desired, settings, ports) as running:
        yield from running.follow()


class Session:
    """One volume under our lock: first brought up, then, with the key that opened it, its keyslots brought in sync."""

    def __init__(
        self,
        desired: DesiredVolume,
        settings: VolumeSettings,
        ports: Ports,
        keyring: Keyring,
        *,
        settling: bool = False,
    ) -> None:
        # `settling`: it runs for the re-encryption itself, which everybody else waits for.
        self._settling = settling
        self._latest: Look | None = None
        self._desired = desired
        self._settings = settings
        self._ports = ports.under(desired.policy)
        self._keyring = keyring

    def follow(self) -> Iterator[Done]:
        """Yield every step that brings the volume up and, where the wish says so, its keyslots in sync."""
        yield from self.converge()
        if self._desired.sync and self._desired.encryption is not None and self.reencryption is None:
            yield from self.sync()

    def converge(self) -> Iterator[Done]:
        """Yield every step taken until the volume is open; raises the refusal, a step's error, or NotConverged.

        The whole disk's flock is held only where something is formatted, and then the look that decides is taken under
        it.
        """
        found = self.look()
        if isinstance(found.observed, Erasing):
            yield from self.erase()
            found = self.look()
        if is_in_place(found):
            yield from self.work_in_place()
            found = self.look()
        with ExitStack() as locks:
            if isinstance(found.observed, Blank | Unfinished) and found.plan.refusal is None:
                locked = found.observed.device
                locks.enter_context(self._ports.disks.format_lock(locked))
                found = self.look()
                _expect_same_device(locked, found)
            if found.plan.refusal is not None:
                raise found.plan.refusal
            seen = found.observed.header if isinstance(found.observed, Luks2) else None
            run = self._run(seen)
            if isinstance(found.observed, Luks2) and found.observed.reencryption is not None:
                self._prepare_reencrypting(run)
            yield from run.take_all(found.plan.steps)
        if found.plan.steps:
            left = self.look().plan
            if left.steps and all(isinstance(step, ConcludeDecryption) for step in left.steps):
                # Opening it mended its last hot zone, and nothing of it is encrypted any more.
                yield from self._run(None).take_all(left.steps)
                left = self.look().plan
            if left.refusal is not None:
                raise left.refusal
            if left.steps:
                names = ", ".join(type(step).__name__ for step in left.steps)
                raise NotConverged(f"still to do after applying the plan: {names}", volume=self._desired.volume)

    def work_in_place(self) -> Iterator[Done]:
        """Yield every step of encrypting or decrypting it in place until re-encryption takes over.

        Raises what stops it. The whole disk's flock is held, and the look that decides is taken under it.
        """
        for _ in range(_IN_PLACE_ROUNDS):
            found = self.look()
            if not isinstance(found.observed, Encrypting | Decrypting | FilesystemFound | Luks2):
                return
            if not is_in_place(found):
                return
            with self._ports.disks.format_lock(found.observed.device):
                seen, found = found.observed.device, self.look()
                if found.plan.refusal is not None:
                    raise found.plan.refusal
                if getattr(found.observed, "device", None) != seen:
                    raise Busy("the volume moved meanwhile", volume=self._desired.volume, hint="try again")
                yield from self._run(None).take_all(found.plan.steps)
        raise NotConverged("the work in place on it does not begin", volume=self._desired.volume, hint="luksctl status")

    def _prepare_reencrypting(self, run: Run) -> None:
        """Let the run end what libcryptsetup could not; it begins and re-encrypts nothing."""
        from luksctl.reconcile.reencrypt_steps import Reencrypting  # noqa: PLC0415  # few boots have one

        wanted = self._desired
        if wanted.encryption is not None:
            run.reencrypting = Reencrypting(
                wanted.encryption, wanted.fallback, wanted.policy, {}, lambda _done, _total: None
            )

    def erase(self, keep_going: Callable[[], bool] = lambda: True) -> Iterator[Done]:
        """Yield every step of the reset that META announces, if it does, until the volume is blank.

        NeedsReboot while somebody uses it, Busy where `keep_going` stopped it on the way.
        """
        for _ in range(_ERASE_ROUNDS):
            found = self.look()
            if isinstance(found.observed, Missing | Ambiguous | Damaged) and found.plan.refusal is not None:
                raise found.plan.refusal
            if not isinstance(found.observed, Erasing):
                return
            if found.plan.refusal is not None:
                raise found.plan.refusal
            run = self._run(None)
            run.keep_going = keep_going
            yield from run.take_all(found.plan.steps)
        raise NotConverged("its reset does not end", volume=self._desired.volume, hint="luksctl status")

    def sync(self) -> Iterator[Done]:
        """Yield every step that makes the keyslots those of the config; Degraded for what could not be brought in sync.

        Where the volume was open before, one of its keys is recovered anew. A slot that fails is left as it was.
        NeedsReboot where nothing is left but keys that only the next boot can make.
        """
        yield from self.unlock()
        planned = self.compare()
        if planned.in_sync:
            return
        if planned.sealing:
            self._ports.remember(self._desired.volume, planned.sealing)
        yield from self._run(None).take_all(planned.steps)
        left = self.compare() if planned.steps else planned
        if not left.in_sync:
            raise self._not_in_sync(left)

    @property
    def reencryption(self) -> ReencryptStage | None:
        """Return where an announced re-encryption stood at the last look, None where there is none.

        The keyslots are left to it.
        """
        observed = (self._latest or self.look()).observed
        return observed.reencrypt_stage if isinstance(observed, Luks2) else None

    def _not_in_sync(self, left: SyncPlan) -> Degraded | NeedsReboot:
        volume = self._desired.volume
        late = self._left_to_next_boot(left)
        if late:
            named = ", ".join(f"slot {slot}" for slot in late)
            return NeedsReboot(f"{named}: this boot is past making its key, so the next one does it", volume=volume)
        waiting = [f"slot {slot}: not in sync" for slot in _slots_of(left)]
        cause = "the keyslots could not be brought in sync: " + "; ".join((*left.problems, *waiting))
        return Degraded(cause, volume=volume, hint=f"luksctl sync {volume}")

    def _left_to_next_boot(self, left: SyncPlan) -> tuple[int, ...]:
        """Return the slots whose keys this boot is past making, if there is nothing else left to do; else none."""
        makes = [step.key.slot for step in left.steps if isinstance(step, MakeKey)]
        removes = any(isinstance(step, RemoveKeyslot) and step.key is None for step in left.steps)
        if left.problems or removes or not all(self._keyring.failures.wait_for_boot(slot) for slot in makes):
            return ()
        return tuple(sorted({*makes, *left.late}))

    def stage(self, slots: tuple[int, ...]) -> Iterator[Done]:
        """Yield the step that leaves new keys for `slots` to the next boot; writes nothing where that is noted."""
        from luksctl.reconcile.plan_sync import plan_staging  # noqa: PLC0415  # no boot does

        found = self._luks2()
        keys = () if self._desired.encryption is None else self._desired.encryption.keys
        tokens = {token.number: token.json for token in found.header.tokens}
        due = tuple(
            Due(key.slot, self._ports.vouching(key, tokens.get(key.slot)).policy) for key in keys if key.slot in slots
        )
        yield from self._run(None).take_all(plan_staging(self._desired, found.device, found.header, due))

    @property
    def unlocked_by_config(self) -> bool:
        """Tell whether a key of the wish, and not only an earlier one, opened a slot in this run."""
        encryption = self._desired.encryption
        return encryption is not None and self._keyring.proven_key_of(encryption)

    def unlock(self) -> Iterator[Done]:
        """Recover a key of a volume that is open already, unless this run holds its volume key."""
        if self._keyring.has_volume_key or self._desired.encryption is None:
            return
        found = self._luks2()
        step = ProveAnyKey(self._desired.volume, found.device, self._desired.encryption, self._desired.fallback)
        yield from self._run(found.header).take_all((step,))

    @property
    def adopted(self) -> bool:
        """Tell whether the header has bookkeeping that this run's volume key vouches for."""
        from luksctl.reconcile.books import verified  # noqa: PLC0415  # no boot asks, and its start is timed

        header = self._luks2().header
        return verified(header, self._keyring.mac(header.uuid))[0] is not None

    def adopt(self) -> Iterator[Done]:
        """Yield the steps that make a volume of others one of ours: the slots that configured keys open are noted.

        Every configured key is tried at its slot. Refused where none opens its own; nothing to do where it is ours.
        """
        from luksctl.reconcile.inspect import Inspector  # noqa: PLC0415  # as adopted
        from luksctl.reconcile.plan_sync import plan_adoption  # noqa: PLC0415

        yield from self.unlock()
        if self.adopted or self._desired.encryption is None:
            return
        found = self._luks2()
        inspector = Inspector(self._ports, self._keyring, found.device, found.header)
        inspection = inspector.inspect(self._desired.encryption, self._desired.policy, adopting=True)
        yield from self._run(None).take_all(plan_adoption(self._desired, found.device, found.header, inspection))

    def compare(self, *, trying: bool = True) -> SyncPlan:
        """Say what is to do for the keyslots, with the keys of this run; writes nothing.

        Without `trying` no key derivation is run: what has no fingerprint counts as not in sync.
        """
        # Not at the top: first the key, which may take long; the start of a boot is timed.
        from luksctl.model.bookkeeping import MAX_KEYS_WITH_BOOKKEEPING  # noqa: PLC0415
        from luksctl.reconcile.inspect import Inspector  # noqa: PLC0415
        from luksctl.reconcile.plan_sync import SyncPlan, plan_sync  # noqa: PLC0415

        found = self._luks2()
        encryption = self._desired.encryption
        if encryption is None:
            return SyncPlan()
        inspector = Inspector(self._ports, self._keyring, found.device, found.header, booting=self._desired.booting)
        meta = self._ports.meta.load()
        # With so many keys there is no bookkeeping to tell a volume of ours; then META's record does.
        ours = len(encryption.keys) > MAX_KEYS_WITH_BOOKKEEPING and self._desired.volume in meta.record.encrypted
        inspection = inspector.inspect(encryption, self._desired.policy, adopting=ours, trying=trying)
        return plan_sync(self._desired, found.device, found.header, inspection, meta)

    def _luks2(self) -> Luks2:
        observed = self.look().observed
        stage = observed.reencrypt_stage if isinstance(observed, Luks2) else None
        if stage is not None and not (self._settling and stage is ReencryptStage.SETTLING):
            raise reencryption_running(self._desired.volume)
        if not isinstance(observed, Luks2) or observed.header.reencrypting or observed.header.requirements:
            raise Refused("its keyslots cannot be looked at now", volume=self._desired.volume, hint="luksctl status")
        return observed

    def look(self) -> Look:
        """Observe and plan; reads only."""
        self._latest = look(self._desired, self._settings, self._ports)
        return self._latest

    def _run(self, seen: LuksHeader | None) -> Run:
        return Run(self._desired.volume, self._ports, self._keyring, seen, self._desired.encryption)


def is_in_place(found: Look) -> bool:
    """Tell whether the volume is encrypted or decrypted in place, or would be by the plan, and that has not begun."""
    if isinstance(found.observed, Encrypting | Decrypting):
        return True
    return any(isinstance(step, BuildHeader | BeginDecryption) for step in found.plan.steps)


def reencryption_running(volume: str) -> ReencryptionRunning:
    """Return what everybody else is told as long as a re-encryption is announced."""
    return ReencryptionRunning("it is being re-encrypted", volume=volume, hint="luksctl status shows how far it is")


def _slots_of(planned: SyncPlan) -> tuple[int, ...]:
    return tuple(sorted({slot for step in planned.steps if isinstance(slot := getattr(step, "slot", None), int)}))


def _expect_same_device(locked: Device, found: Look) -> None:
    """Raise Busy where the volume moved while its lock was awaited: what was found now is not what is locked."""
    if found.plan.destroys_data and isinstance(found.observed, Blank | Unfinished) and found.observed.device != locked:
        cause = f"the volume was on {locked.path} and is on {found.observed.device.path} now"
        raise Busy(cause, volume=found.plan.volume, hint="try again")


def _random_uuid() -> str:
    """Return a version 4 UUID (RFC 9562); the module of that name costs every boot six milliseconds of import."""
    octets = bytearray(os.urandom(16))
    octets[6] = octets[6] & 0x0F | 0x40
    octets[8] = octets[8] & 0x3F | 0x80
    text = octets.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
