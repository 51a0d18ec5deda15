"""`luksctl keys rotate`: give keyslots new keys. Ends with 7 where the next boot has to make some of them."""

from __future__ import annotations

from argparse import Namespace

from luksctl.cli.context import Context
from luksctl.cli.handing_out import add_recipient, handing_out
from luksctl.cli.parser import Parser, Takes
from luksctl.cli.secret_input import TERMINAL, read_passphrase
from luksctl.cli.volumes import MANAGED, volume_of, volumes_of
from luksctl.errors import NeedsReboot, UsageError
from luksctl.node.recovery import recovery_keys
from luksctl.node.rotate import Rotated, rotate_all, rotate_slot, takes_passphrase
from luksctl.secret import Secret


def configure(parser: Parser) -> None:
    """Add the options of the verb."""
    rotating = parser.add_command("rotate", text="give one slot, or all slots whose provider makes keys, new keys")
    rotating.add_argument("volume", metavar="VOLUME", nargs="?", help=f"{' or '.join(MANAGED)}; both without it")
    rotating.add_argument("--slot", metavar="N", type=int, help="this keyslot, whatever its kind")
    rotating.add_sent(
        Takes.DESCRIPTOR,
        "--key-fd",
        metavar="N",
        type=int,
        help="read the new passphrase of a static key from this descriptor; without it, it is asked for",
    )
    add_recipient(rotating)


def run(arguments: Namespace, context: Context) -> int:
    """Rotate, and say which slots have new keys."""
    show = handing_out(arguments.recipient, context.console)
    if arguments.slot is None:
        _expect_no_recipient(arguments)
        _expect_no_passphrase(arguments, "name the keyslot: luksctl keys rotate VOLUME --slot N --key-fd N")
        volumes = volumes_of(() if arguments.volume is None else (arguments.volume,))
        rotated = rotate_all(context.node(), volumes)
    elif arguments.volume is None:
        raise UsageError("--slot needs a volume", hint="luksctl keys rotate VOLUME --slot N")
    else:
        volume, slot = volume_of(arguments.volume), int(arguments.slot)
        what = f"New passphrase of slot {slot} of {volume}"
        node = context.node()
        if arguments.recipient is not None and all(key.slot != slot for key in recovery_keys(node, volume)):
            _expect_no_recipient(arguments)
        if arguments.key_fd is not None and not takes_passphrase(node, volume, slot):
            _expect_no_passphrase(arguments, f"luksctl status {volume} shows the kind of each keyslot")
        rotated = (rotate_slot(node, volume, slot, lambda: _ask(what, arguments.key_fd), show),)
    _say(rotated, context)
    return NeedsReboot.exit_code if any(entry.staged for entry in rotated) else 0


def _expect_no_recipient(arguments: Namespace) -> None:
    """Refuse a recipient where no recovery key is handed out: whoever names one waits for a document."""
    if arguments.recipient is not None:
        raise UsageError("--recipient is for new recovery keys, and this makes none; nothing was changed")


def _expect_no_passphrase(arguments: Namespace, hint: str) -> None:
    """Refuse a passphrase where none is asked for: whoever gives one takes it for the new key."""
    if arguments.key_fd is not None:
        raise UsageError("--key-fd is for the passphrase of a static key, and none is asked for", hint=hint)


def _ask(what: str, descriptor: int | None) -> Secret:
    """Return the new passphrase; typed at a terminal, it is asked for twice. UsageError where both differ."""
    passphrase = read_passphrase(what, descriptor, terminal=TERMINAL)
    if descriptor is not None:
        return passphrase
    with read_passphrase(f"{what}, again", None, terminal=TERMINAL) as again:
        if passphrase == again:
            return passphrase
    passphrase.close()
    raise UsageError("the two passphrases differ; nothing was changed")


def _say(rotated: tuple[Rotated, ...], context: Context) -> None:
    console = context.console
    if any(entry.place is not None for entry in rotated):
        # What was handed out is the one document on standard output.
        for entry in rotated:
            console.note(f"{entry.volume}: the recovery key of slot {entry.slots[0]} is gone")
            console.note(f"next: luksctl recovery verify {entry.volume}")
        return
    for entry in rotated:
        if entry.slots:
            console.say(f"{entry.volume}: new keys in slots {', '.join(map(str, entry.slots))}")
        if entry.staged:
            named = ", ".join(map(str, entry.staged))
            console.say(f"{entry.volume}: this boot is past making keys for slots {named}; the next one makes them")
        if entry.stored:
            console.note("STATE's config has the new passphrase. Put it into your own copy, too: a file that still has")
            console.note("the old one brings that back when it is applied.")
    console.document(
        {
            "rotated": [
                {
                    "volume": entry.volume,
                    "slots": list(entry.slots),
                    "staged": list(entry.staged),
                    "kind": entry.kind,
                    "stored": entry.stored,
                }
                for entry in rotated
            ]
        }
    )
