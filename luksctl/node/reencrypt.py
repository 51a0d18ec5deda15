"""A volume of this node gets a new volume key: `luksctl reencrypt`.

What is announced goes on in the service that `reencrypt_unit` names, which the boot starts as well; it needs any one
key of the config. A volume that is closed is re-encrypted where it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable

from luksctl.errors import KeyRejected, LuksctlError, Refused, SlotPassphraseRejected, UsageError
from luksctl.hints import Final, Self
from luksctl.model.config import DEFAULT_CIPHER
from luksctl.model.desired import DesiredVolume
from luksctl.model.intent import ReencryptIntent, ReencryptKind, Resilience, SlotRole
from luksctl.model.observed import Luks2, ReencryptStage
from luksctl.node.header_backup import drop_backups
from luksctl.node.node import Node
from luksctl.node.recovery import Place, Show
from luksctl.node.reencrypt_pace import Pace, note_stop
from luksctl.node.reencrypt_progress import ReencryptProgress, progress_of
from luksctl.node.report import note_in_sync
from luksctl.node.sync import ruling_config, wish
from luksctl.node.trial import expect_no_trial
from luksctl.node.units import reencrypt_unit
from luksctl.providers.recovery_key import make_recovery_key
from luksctl.reconcile.converge import look
from luksctl.reconcile.plan_reencrypt import HeldSlot
from luksctl.reconcile.recovery import keys_to_try
from luksctl.reconcile.reencryption import ReencryptSession, expect_encrypted, reencrypt_session
from luksctl.secret import Secret
from luksctl.units import MIB
from luksctl.value import frozen, replace

# What goes to a hot zone waits until that is done: of what is mounted, no more than disks write in a blink.
_MOUNTED_HOTZONE_BYTES: Final = 16 * MIB

Ask = Callable[[HeldSlot], Secret | None]


@frozen
class Options:
    """What the operator chose. Slots in `given_up` are not carried over; `max_rate_bytes_s` 0 is as fast as it goes.

    `given` are slots whose keys the operator has ready, so each of them has to be asked for.

    `resilience` None is what the device needs: checksums tell only whole sectors apart, and what is written to an image
    file may tear within the sectors that the library takes it to have.
    """

    resilience: Resilience | None = None
    max_rate_bytes_s: int = 0
    given_up: tuple[int, ...] = ()
    given: tuple[int, ...] = ()


def announced(node: Node, volume: str) -> ReencryptStage | None:
    """Return where an announced re-encryption of `volume` stands, None where none is announced."""
    return _look(node, volume, _wish(node, volume)).reencrypt_stage


def how_far(node: Node, volume: str) -> ReencryptProgress | None:
    """Return how far the announced re-encryption of `volume` is, None where none is announced."""
    return progress_of(node, volume, _look(node, volume, _wish(node, volume)))


def begin(node: Node, volume: str, options: Options, ask: Ask, show: Show) -> bool:
    """Prepare and start it; nothing is re-encrypted yet. Return whether the volume is open.

    `ask` gives the key of a slot that no provider has, or None; `show` hands out the recovery key that replaces one
    that was given up. Before the first write: Refused where a key is missing, naming each slot; UsageError where one is
    given for a slot that asks for none. Cut: nothing, or what the next run takes back, or it is announced and started.
    """
    expect_no_trial(node)
    wanted = _wish(node, volume)
    found = _look(node, volume, wanted)
    with reencrypt_session(wanted, node.settings.volume(volume), node.ports, lambda _done, _total: None) as running:
        for done in running.unlock():
            node.announce(done)
        held = running.held()
        _expect_known(volume, held, options.given_up)
        _expect_asked(volume, held, options)
        _carry(node, volume, running, held, options, ask)
        made = [entry for entry in held if entry.slot in options.given_up and entry.role is SlotRole.RECOVERY]
        with _NewKeys(node, volume, made, show) as keys:
            for slot, key in keys.made:
                running.replace_key(slot, key)
            how = _how(found, options)
            for done in running.begin(held, how, keys.hand_out):
                node.announce(done)
    return found.mapping is not None


class _NewKeys:
    """Recovery keys in place of those that were given up; each is shown once its keyslot was proven."""

    def __init__(self, node: Node, volume: str, given_up: list[HeldSlot], show: Show) -> None:
        self._node = node
        self._volume = volume
        self._show = show
        self.made = [(entry.slot, make_recovery_key()) for entry in given_up]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for _slot, key in self.made:
            key.close()

    def hand_out(self, intent: ReencryptIntent) -> None:
        """Show each with the number that its keyslot has from now on."""
        numbers = {slot.old: slot.new for slot in intent.moved}
        for old, key in self.made:
            self._show(Place(self._volume, intent.header_uuid, numbers[old]), key)


def _expect_known(volume: str, held: tuple[HeldSlot, ...], given_up: tuple[int, ...]) -> None:
    missing = sorted(set(given_up) - {entry.slot for entry in held})
    if missing:
        raise Refused(f"there is no keyslot {', '.join(map(str, missing))} to give up", volume=volume)


def _expect_asked(volume: str, held: tuple[HeldSlot, ...], options: Options) -> None:
    asking = {entry.slot for entry in held if entry.role is not SlotRole.CONFIG} - set(options.given_up)
    unasked = sorted(set(options.given) - asking)
    if unasked:
        those = f"those that do: {', '.join(map(str, sorted(asking)))}" if asking else "none of this volume does"
        raise UsageError(
            f"a key is given for keyslot {', '.join(map(str, unasked))} of {volume}, which asks for none ({those})",
            hint=f"luksctl status {volume} shows the kind of each keyslot",
        )


def _carry(
    node: Node, volume: str, running: ReencryptSession, held: tuple[HeldSlot, ...], options: Options, ask: Ask
) -> None:
    """Have every key that is to stay; Refused, naming each that is missing."""
    problems = running.carry_configured(held, options.given_up)
    for entry in held:
        if entry.role is SlotRole.CONFIG or entry.slot in options.given_up:
            continue
        why = _carry_asked(running, entry, ask)
        if why is not None:
            problems[entry.slot] = why
    if problems:
        every = "; ".join(f"slot {slot}: {why}" for slot, why in sorted(problems.items()))
        named = " ".join(f"--drop-slot {slot}" for slot in sorted(problems))
        raise Refused(
            f"every key has to be known, because its keyslot is lost otherwise: {every}; nothing was written",
            volume=volume,
            hint=f"give the keys, or give the keyslots up: luksctl reencrypt {volume} {named}",
        )
    node.tell(f"{volume}: every key that stays is known")


def _carry_asked(running: ReencryptSession, entry: HeldSlot, ask: Ask) -> str | None:
    key = ask(entry)
    if key is None:
        return f"its {entry.role} key was not given"
    with key:
        try:
            running.carry(entry.slot, key)
        except (SlotPassphraseRejected, KeyRejected):
            return f"the {entry.role} key that was given does not open it"
    return None


def _how(found: Luks2, options: Options) -> ReencryptIntent:
    """Return how it is done: the cipher and sectors that the data has, in hot zones as large as the rate allows."""
    segment = found.header.segments[0]
    hotzone_bytes = 0 if found.mapping is None else _MOUNTED_HOTZONE_BYTES
    if options.max_rate_bytes_s:
        in_a_second = max(options.max_rate_bytes_s // MIB, 1) * MIB
        hotzone_bytes = min(hotzone_bytes or in_a_second, in_a_second)
    return ReencryptIntent(
        volume="",
        partition="",
        header_uuid="",
        cipher=segment.encryption or DEFAULT_CIPHER,
        sector_size_bytes=segment.sector_size_bytes,
        resilience=options.resilience or (Resilience.JOURNAL if found.device.image else Resilience.CHECKSUM),
        hotzone_bytes=hotzone_bytes,
        max_rate_bytes_s=options.max_rate_bytes_s,
    )


# ---- going on -------------------------------------------------------------------------------------------------------


def go_on(node: Node, volume: str, recovery: Secret | None = None) -> ReencryptKind | None:
    """Do what is left of the announced re-encryption, to the end; return what it was, None where none was announced.

    `recovery` is a key that serves where no configured one can be recovered. What stops it leaves all in order, and the
    next run, or boot, goes on.
    """
    wanted = _wish(node, volume)
    found = _look(node, volume, wanted)
    intent = found.reencryption
    if intent is None:
        return None
    if recovery is not None:
        wanted = replace(wanted, fallback=(*wanted.fallback, *keys_to_try(found.header, recovery)))
    pace = Pace(node, volume, intent.max_rate_bytes_s)
    note_stop(node, volume, None)
    try:
        with reencrypt_session(wanted, node.settings.volume(volume), node.ports, pace) as running:
            for done in running.go_on():
                node.announce(done)
            if running.in_sync is not None:
                note_in_sync(node, volume, in_sync=running.in_sync)
    except LuksctlError as error:
        note_stop(node, volume, error)
        raise
    finally:
        pace.close()
    if found.reencrypt_stage is not ReencryptStage.PREPARING:
        # They are of the old volume key: put back, they would cost all data.
        drop_backups(node, volume)
    return intent.kind


def start_service(node: Node, volume: str) -> None:
    """Have systemd go on with it, without waiting; DeviceError where it has no such unit."""
    note_stop(node, volume, None)
    node.system.reset_failed(reencrypt_unit(volume))
    node.system.start_soon(reencrypt_unit(volume))


def _wish(node: Node, volume: str) -> DesiredVolume:
    return replace(wish(node, ruling_config(node), volume), sync=True)


def _look(node: Node, volume: str, wanted: DesiredVolume) -> Luks2:
    return expect_encrypted(look(wanted, node.settings.volume(volume), node.ports), volume)
