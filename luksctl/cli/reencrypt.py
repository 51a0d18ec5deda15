"""`luksctl reencrypt`: give a volume a new volume key where it stands, also while it is mounted.

What it began goes on in a service, at the next boot as well; ending the verb ends nothing of that.
"""

from __future__ import annotations

import signal
from argparse import Namespace
from types import FrameType

from luksctl.cli.context import Context
from luksctl.cli.handing_out import add_recipient, handing_out
from luksctl.cli.parser import Parser, Takes
from luksctl.cli.recovery_prompt import ask_recovery_key
from luksctl.cli.secret_input import TERMINAL, read_passphrase
from luksctl.cli.volumes import MANAGED, volume_of
from luksctl.errors import NeedsReboot, UsageError
from luksctl.hints import Final
from luksctl.model.intent import ReencryptKind, Resilience, SlotRole
from luksctl.node.node import Node
from luksctl.node.recovery import Place
from luksctl.node.reencrypt import Options, announced, begin, go_on, how_far, start_service
from luksctl.node.reencrypt_progress import ReencryptProgress
from luksctl.providers.recovery_key import read_recovery_key
from luksctl.reconcile.plan_reencrypt import HeldSlot
from luksctl.secret import Secret
from luksctl.units import KIB, parse_size

_LOOK_EVERY_S: Final = 1.0
_SILENT_TOO_LONG_S: Final = 90.0
# Below this, a hot zone of one sector would take longer than a minute.
_SLOWEST_BYTES_S: Final = 64 * KIB

_ENDED: Final[dict[ReencryptKind | None, str]] = {
    None: "nothing is left to do",
    ReencryptKind.RENEW: "it has a new volume key, and every key is back in its slot",
    ReencryptKind.ENCRYPT: "all of it is encrypted",
    ReencryptKind.DECRYPT: "all of it is decrypted; the next boot mounts it plain",
}


def configure(parser: Parser) -> None:
    """Add the options of the verb."""
    parser.add_argument("volume", metavar="VOLUME", help=" or ".join(MANAGED))
    kinds = [kind.value for kind in Resilience]
    parser.add_argument("--resilience", choices=kinds, help="what mends a torn hot zone; on image files journal")
    parser.add_argument("--max-rate", metavar="SIZE", help="no faster than this each second, such as 20MiB")
    given_up = "give these keyslots up: their keys open nothing afterwards"
    parser.add_list("drop-slot", metavar="N", text=given_up, default=())
    parser.add_descriptors(
        "key-fd",
        text="read the recovery key or passphrase of this keyslot from descriptor N; without it, it is asked for",
    )
    add_recipient(parser)
    parser.add_flag("resume", text="go on in this process with what was begun")
    parser.add_flag("recovery", text="with --resume: ask for a recovery key, where no configured key can be recovered")
    parser.add_sent(
        Takes.DESCRIPTOR, "--recovery-fd", metavar="N", type=int, help="with --resume: read it from this descriptor"
    )
    parser.add_flag("foreground", text="do all of it in this process, not in the service")
    parser.add_flag("wait", text="show how far it is until it has ended (default)", default=True)
    parser.add_flag("yes", text="do not ask")


def run(arguments: Namespace, context: Context) -> int:
    """Begin it, or go on with what was begun, and show how far it is."""
    volume, node = volume_of(arguments.volume), context.node()
    keys = _descriptors(arguments.key_fd)
    if arguments.resume:
        _expect_nothing_new(arguments)
        return _resume(arguments, context, node, volume)
    if arguments.recovery or arguments.recovery_fd is not None:
        raise UsageError("--recovery is for --resume: to begin, every key is asked for by itself")
    options = _options(arguments, keys)
    here, handed_out = bool(arguments.foreground), False
    if announced(node, volume) is None:
        is_open, handed_out = _begin(arguments, options, keys, context)
        here = here or not is_open
    else:
        _expect_nothing_new(arguments)
    if here:
        return _tell(context, volume, _ENDED[go_on(node, volume)], handed_out=handed_out)
    start_service(node, volume)
    if not arguments.wait:
        return _tell(context, volume, handed_out=handed_out)
    return _tell(context, volume, _ENDED[_follow(node, volume, context)], handed_out=handed_out)


def _expect_nothing_new(arguments: Namespace) -> None:
    """Raise UsageError where something is asked for that only the beginning could do: it goes on as it was begun."""
    volume = arguments.volume
    to_begin = {
        "--key-fd": arguments.key_fd,
        "--drop-slot": arguments.drop_slot,
        "--recipient": arguments.recipient,
        "--resilience": arguments.resilience,
        "--max-rate": arguments.max_rate,
    }
    given = [word for word, value in to_begin.items() if value]
    if given:
        hint = f"luksctl reencrypt {volume} goes on with it; with --resume --recovery it takes a recovery key"
        raise UsageError(f"{', '.join(given)}: only to begin with; {volume} goes on as it was begun", hint=hint)


def _begin(arguments: Namespace, options: Options, keys: dict[int, int], context: Context) -> tuple[bool, bool]:
    """Prepare and start it; return whether the volume is open, and whether a recovery key was handed out."""
    volume = volume_of(arguments.volume)
    if options.given_up:
        slots = ", ".join(map(str, options.given_up))
        what = f"What opens keyslots {slots} of {volume} will open nothing any more"
        context.confirm(what, volume, yes=arguments.yes)
    hand_out = handing_out(arguments.recipient, context.console)
    shown = []

    def show(place: Place, key: Secret) -> None:
        hand_out(place, key)
        shown.append(place)

    is_open = begin(context.node(), volume, options, lambda held: _ask(volume, held, keys), show)
    context.console.note(
        f"{volume}: backups of its header are of the old volume key: put back, they would cost all data"
    )
    return is_open, bool(shown)


def _tell(context: Context, volume: str, ended: str = "", *, handed_out: bool = False) -> int:
    """Say how it ended, or that it goes on; on standard error where the new recovery key is the one document."""
    text = ended or "it goes on by itself; luksctl status shows how far it is"
    if handed_out:
        context.console.note(f"{volume}: {text}")
        context.console.note(f"next: luksctl recovery verify {volume}")
    else:
        context.console.say(f"{volume}: {text}")
        context.console.document({"volume": volume, "ended": bool(ended)})
    return 0


def _resume(arguments: Namespace, context: Context, node: Node, volume: str) -> int:
    def stop(_signal: int, _frame: FrameType | None) -> None:
        # As Ctrl-C: the library ends the hot zone that it is at, and leaves all in order.
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    recovery: Secret | None = None
    if arguments.recovery or arguments.recovery_fd is not None:
        recovery = ask_recovery_key(arguments.recovery_fd)
    try:
        return _tell(context, volume, _ENDED[go_on(node, volume, recovery)])
    finally:
        if recovery is not None:
            recovery.close()


def _options(arguments: Namespace, keys: dict[int, int]) -> Options:
    for slot in arguments.drop_slot:
        if not slot.isdecimal():
            raise UsageError(f"--drop-slot {slot}: the number of a keyslot is expected", hint="luksctl status")
    try:
        rate = 0 if arguments.max_rate is None else parse_size(arguments.max_rate)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if arguments.max_rate is not None and rate < _SLOWEST_BYTES_S:
        raise UsageError(f"--max-rate {arguments.max_rate} is too slow", hint="at least 64KiB")
    resilience = None if arguments.resilience is None else Resilience(arguments.resilience)
    return Options(resilience, rate, tuple(int(slot) for slot in arguments.drop_slot), tuple(keys))


# ---- keys that no provider has --------------------------------------------------------------------------------------


def _descriptors(given: tuple[str, ...]) -> dict[int, int]:
    found: dict[int, int] = {}
    for entry in given:
        slot, colon, descriptor = entry.partition(":")
        if not (colon and slot.isdecimal() and descriptor.isdecimal()):
            raise UsageError(f"--key-fd {entry}: a keyslot and a descriptor are expected", hint="for example 31:3")
        if int(slot) in found:
            raise UsageError(f"--key-fd {entry}: keyslot {int(slot)} has one already")
        found[int(slot)] = int(descriptor)
    return found


def _ask(volume: str, held: HeldSlot, descriptors: dict[int, int]) -> Secret | None:
    """Return the key of a slot that no provider has; None where nobody is here to be asked."""
    what = f"{'Recovery key' if held.role is SlotRole.RECOVERY else 'Passphrase'} of slot {held.slot} of {volume}"
    descriptor = descriptors.get(held.slot)
    try:
        given = read_passphrase(what, descriptor, terminal=TERMINAL)
    except UsageError:
        if descriptor is not None:
            raise
        return None
    if held.role is not SlotRole.RECOVERY:
        return given
    with given:
        return read_recovery_key(given)


# ---- how far it is --------------------------------------------------------------------------------------------------


def _follow(node: Node, volume: str, context: Context) -> ReencryptKind:
    """Tell how far it is, as often as that changes by a hundredth, until it has ended; Ctrl-C ends only this."""
    told, kind = "", ReencryptKind.RENEW
    changed_s = node.system.monotonic_s()
    while (progress := how_far(node, volume)) is not None and not progress.left_to_boot:
        kind = progress.kind
        if progress.stop is not None and progress.stop.for_good:
            raise NeedsReboot(progress.stop.why, volume=volume)
        line = _line(progress)
        now_s = node.system.monotonic_s()
        if line != told:
            told, changed_s = line, now_s
            context.console.note(f"{volume}: {progress.text()}")
        elif now_s - changed_s > _SILENT_TOO_LONG_S:
            changed_s = now_s
            context.console.note(f"{volume}: nothing changes (journalctl -u 'luksctl-reencrypt@{volume}')")
        node.system.sleep(_LOOK_EVERY_S)
    return kind if progress is None else progress.kind


def _line(progress: ReencryptProgress) -> str:
    return f"{progress.stage} {100 * progress.done_bytes // max(progress.total_bytes, 1)} {progress.running}"
