"""`luksctl recovery …`: recovery keys of this node's volumes; and for operators, to open one that was encrypted."""

from __future__ import annotations

import sys
from argparse import Namespace

from luksctl.cli.context import Context
from luksctl.cli.handing_out import add_recipient, handing_out
from luksctl.cli.parser import Parser, Takes
from luksctl.cli.recovery_prompt import ask_recovery_key
from luksctl.cli.secret_input import read_file, read_passphrase
from luksctl.cli.volumes import MANAGED, volume_of, volumes_of
from luksctl.errors import UsageError
from luksctl.hints import TYPE_CHECKING
from luksctl.providers.recipient import read_identity
from luksctl.providers.sealed_key import SealedKey, open_sealed_key, read_sealed_key

if TYPE_CHECKING:
    from luksctl.node.recovery_listing import RecoverySlot


def configure(parser: Parser) -> None:
    """Add the options of the verb."""
    adding = parser.add_command("add", text="make a recovery key for a volume, and show it once")
    _add_volume(adding)
    add_recipient(adding)
    listing = parser.add_command("list", text="list the recovery keys; no key is tried")
    listing.add_argument("volumes", metavar="VOLUME", nargs="*", help="STATE, EPHEMERAL; both without any")
    verifying = parser.add_command("verify", text="prove that what you hold opens the volume; nothing is opened")
    _add_volume(verifying)
    add_key_descriptor(verifying)
    removing = parser.add_command("remove", text="destroy a recovery key")
    _add_volume(removing)
    removing.add_argument("--slot", metavar="N", type=int, required=True, help="its keyslot, as list shows it")
    removing.add_flag("yes", text="do not ask")
    opening = parser.add_command("open", text="show a recovery key that was encrypted to your public key")
    opening.add_argument("file", metavar="FILE", help="the JSON document that the node made; - for standard input")
    opening.add_argument("--identity", metavar="FILE", required=True, help="your private key, in PEM or of OpenSSH")
    opening.add_argument(
        "--passphrase-fd",
        metavar="N",
        type=int,
        help="read the passphrase of the private key from this descriptor; without it, it is asked for",
    )


def add_key_descriptor(parser: Parser) -> None:
    """Add the option that names where a recovery key is read from."""
    parser.add_sent(
        Takes.DESCRIPTOR,
        "--key-fd",
        metavar="N",
        type=int,
        help="read the key from this descriptor; without it, it is asked for",
    )


def run(arguments: Namespace, context: Context) -> int:
    """Do what the word after recovery says."""
    commands = {"add": _add, "list": _list, "verify": _verify, "remove": _remove, "open": _open}
    return commands[arguments.command](arguments, context)


def _add_volume(parser: Parser) -> None:
    parser.add_argument("volume", metavar="VOLUME", help=" or ".join(MANAGED))


# ---- on the node ----------------------------------------------------------------------------------------------------


def _add(arguments: Namespace, context: Context) -> int:
    """Make the key, and show it on standard output, or there only what the recipient can open."""
    from luksctl.node.recovery import add_recovery_key  # noqa: PLC0415  # open needs no node

    volume = volume_of(arguments.volume)
    show = handing_out(arguments.recipient, context.console)
    place = add_recovery_key(context.node(), volume, show)
    context.console.note(f"next: luksctl recovery verify {place.volume}")
    return 0


def _list(arguments: Namespace, context: Context) -> int:
    """Show the recovery keys as the headers list them."""
    from luksctl.node.recovery import recovery_keys  # noqa: PLC0415  # as add

    node, console = context.node(), context.console
    found = [entry for volume in volumes_of(arguments.volumes) for entry in recovery_keys(node, volume)]
    if found:
        rows = [(entry.volume, str(entry.slot), entry.made_at, _state(entry)) for entry in found]
        console.table(("volume", "slot", "made", "verified"), rows)
    else:
        console.say("no recovery keys; to make one: luksctl recovery add VOLUME")
    console.document({"recoveryKeys": [_slot_fields(entry) for entry in found]})
    return 0


def _verify(arguments: Namespace, context: Context) -> int:
    """Ask for the key, and say which slot it opens."""
    from luksctl.node.recovery import luks2, verify_recovery_key  # noqa: PLC0415  # as add

    node, console, volume = context.node(), context.console, volume_of(arguments.volume)
    luks2(node, volume)  # what has no keyslots asks nobody to type 65 characters
    with ask_recovery_key(arguments.key_fd) as key:
        proof = verify_recovery_key(node, volume, key)
    console.say(f"{volume}: it opens slot {proof.slot} of header {proof.header_uuid}")
    if not proof.listed:
        console.note(f"luksctl: {volume}, slot {proof.slot}: not listed as a recovery key, so a sync may not keep it")
    if proof.kept is None:
        console.note(f"luksctl: not noted anywhere: {proof.not_kept}")
    else:
        console.note(f"noted in {proof.kept}")
    console.document(
        {
            "volume": volume,
            "headerUUID": proof.header_uuid,
            "slot": proof.slot,
            "listed": proof.listed,
            "kept": proof.kept,
            "notKept": proof.not_kept if proof.kept is None else None,
        }
    )
    return 0


def _remove(arguments: Namespace, context: Context) -> int:
    """Say what will open nothing any more, ask, and destroy it."""
    from luksctl.node.recovery import recovery_keys, remove_recovery_key  # noqa: PLC0415  # as add

    node, console = context.node(), context.console
    volume, slot = volume_of(arguments.volume), int(arguments.slot)
    found = next((entry for entry in recovery_keys(node, volume) if entry.slot == slot), None)
    if found is None:
        hint = f"luksctl recovery list {volume}"
        raise UsageError(f"{volume} has no recovery key in slot {slot}", hint=hint)
    what = (
        f"What anyone holds of the recovery key in slot {slot} of {volume} (made {found.made_at}, verified "
        f"{_state(found)}) will open nothing any more"
    )
    context.confirm(what, volume, yes=arguments.yes)
    remove_recovery_key(node, volume, slot)
    console.say(f"{volume}: the recovery key in slot {slot} is gone")
    console.document({"volume": volume, "slot": slot, "removed": True})
    return 0


def _state(entry: RecoverySlot) -> str:
    if not entry.present:
        return "the keyslot is gone"
    return entry.verified_at or "never"


def _slot_fields(entry: RecoverySlot) -> dict[str, object]:
    return {
        "volume": entry.volume,
        "headerUUID": entry.header_uuid,
        "slot": entry.slot,
        "madeAt": entry.made_at,
        "present": entry.present,
        "verifiedAt": entry.verified_at,
    }


# ---- at the operator's ----------------------------------------------------------------------------------------------


def _open(arguments: Namespace, context: Context) -> int:
    """Print the key on standard output and what it is for on standard error, or all of it as JSON."""
    path: str = arguments.identity
    document = read_sealed_key(_content(arguments.file))
    with read_file(path, "the private key") as text:
        identity = read_identity(text, lambda: read_passphrase(f"Passphrase of {path}", arguments.passphrase_fd))
    console = context.console
    with open_sealed_key(document, identity) as key, key.view() as view:
        if console.json:
            console.hand_out(_fields(document) | {"recoveryKey": str(view, "ascii")})
        else:
            for name, value in _fields(document).items():
                console.note(f"{name}: {value}")
            console.raw(view)
            console.say()
    return 0


def _content(path: str) -> bytes:
    if path == "-":
        return sys.stdin.buffer.read()
    with open(path, "rb") as stream:
        return stream.read()


def _fields(document: SealedKey) -> dict[str, object]:
    return {
        "node": document.place.node,
        "volume": document.place.volume,
        "headerUUID": document.place.header_uuid,
        "slot": document.place.slot,
        "created": document.created,
        "recipient": document.recipient,
    }
