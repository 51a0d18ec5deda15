"""`luksctl header backup | restore | list | drop | open`: LUKS2 headers saved, and put back."""

from __future__ import annotations

from argparse import Namespace

from luksctl.cli.attached import read_bytes
from luksctl.cli.context import Context
from luksctl.cli.parser import Parser, Takes
from luksctl.cli.secret_input import read_file, read_passphrase
from luksctl.cli.volumes import MANAGED, volume_of
from luksctl.errors import Refused, UsageError
from luksctl.hints import TYPE_CHECKING
from luksctl.providers.recipient import Recipient, read_identity, read_recipient
from luksctl.providers.sealed_header import is_sealed_header, open_sealed_header, read_sealed_header

if TYPE_CHECKING:
    from luksctl.node.header_backup import KeptBackup
    from luksctl.node.header_restore import Restoring


def configure(parser: Parser) -> None:
    """Add the options of the verb."""
    saving = parser.add_command("backup", text="save the header of a volume, encrypted to an operator")
    _add_volume(saving)
    saving.add_argument("--to", metavar="FILE", help="write it there and never over a file; else to standard output")
    whose = "public key (PEM, or a line of OpenSSH) to encrypt it to"
    saving.add_sent(Takes.FILE, "--recipient", metavar="FILE", help=whose)
    saving.add_flag("unencrypted", text="save it as it is: who has it and a key that was rotated out opens the volume")
    putting = parser.add_command("restore", text="put a saved header back; says what it destroys, and asks")
    _add_volume(putting)
    putting.add_sent(
        Takes.FILE, "--from", dest="source", metavar="FILE", required=True, help="the backup; - for standard input"
    )
    _add_identity(putting, required=False)
    putting.add_flag("older", text="also if keyslots were changed since: keys that were rotated out open it again")
    putting.add_flag("while-open", text="also while the volume is open")
    putting.add_flag("unfinished", text="also if a first format was not finished, in the backup or on the device")
    putting.add_flag("reencryption", text="also if a re-encryption lies between, or is under way in either")
    putting.add_flag("yes", text="do not ask")
    parser.add_command("list", text="list the backups that are kept in STATE")
    dropping = parser.add_command("drop", text="remove the backups of a volume that are kept in STATE")
    _add_volume(dropping)
    dropping.add_flag("yes", text="do not ask")
    opening = parser.add_command("open", text="decrypt a backup, into a file that cryptsetup restores as well")
    opening.add_argument("file", metavar="FILE", help="the JSON document that the node made; - for standard input")
    opening.add_argument("--to", metavar="FILE", required=True, help="write it there, and never over a file")
    _add_identity(opening, required=True)


def _add_volume(parser: Parser) -> None:
    parser.add_argument("volume", metavar="VOLUME", help=" or ".join(MANAGED))


def _add_identity(parser: Parser, *, required: bool) -> None:
    what = "your private key, in PEM or of OpenSSH, for a backup that is encrypted"
    parser.add_argument("--identity", metavar="FILE", required=required, help=what)
    parser.add_sent(
        Takes.DESCRIPTOR,
        "--passphrase-fd",
        metavar="N",
        type=int,
        help="read the passphrase of the private key from this descriptor; without it, it is asked for",
    )


def run(arguments: Namespace, context: Context) -> int:
    """Do what the word after header says."""
    commands = {"backup": _backup, "restore": _restore, "list": _list, "drop": _drop, "open": _open}
    return commands[arguments.command](arguments, context)


def _backup(arguments: Namespace, context: Context) -> int:
    from luksctl.node.header_backup import (  # noqa: PLC0415  # open needs no node
        configured_recipient,
        save_header,
        sealed,
        write_new,
    )

    volume, node, console = volume_of(arguments.volume), context.node(), context.console
    if arguments.unencrypted:
        if arguments.recipient is not None:
            raise UsageError("--unencrypted and --recipient contradict each other")
        if arguments.to is None:
            raise UsageError("--unencrypted needs --to FILE")
        recipient = None
    else:
        recipient = _recipient(arguments.recipient, configured_recipient(node))
    saved = save_header(node, volume)
    content = saved.content if recipient is None else sealed(saved, recipient)
    if arguments.to is None:
        console.raw(content)
        return 0
    write_new(arguments.to, content)
    place = saved.place
    console.say(f"{volume}: header {place.header_uuid} with slots {_numbers(place.slots)} saved in {arguments.to}")
    console.document(
        {
            "volume": volume,
            "headerUUID": place.header_uuid,
            "seqid": place.seqid,
            "counter": place.counter,
            "slots": list(place.slots),
            "file": arguments.to,
            "recipient": None if recipient is None else recipient.fingerprint,
        }
    )
    return 0


def _recipient(file: str | None, configured: str | None) -> Recipient:
    """Return who was named, or else who the policy names."""
    if file is not None:
        return read_recipient(read_bytes(file)[0])
    if configured is not None:
        return read_recipient(configured.encode())
    raise UsageError(
        "a backup is encrypted, and nobody was named to open it",
        hint="--recipient FILE with a public key, or one in the policy (headerBackup); or --unencrypted",
    )


def _restore(arguments: Namespace, context: Context) -> int:
    from luksctl.node.header_restore import Allowed, look_at, restore  # noqa: PLC0415  # as backup

    volume, node, console = volume_of(arguments.volume), context.node(), context.console
    content = _opened(read_bytes(arguments.source)[0], arguments, volume)
    allowed = Allowed(arguments.while_open, arguments.older, arguments.unfinished, arguments.reencryption)
    seen = look_at(node, volume, content, allowed)
    for line in _told(seen):
        console.note(line)
    context.confirm(f"The header on {seen.device.path} will be gone", volume, yes=arguments.yes)
    restore(node, seen, content, allowed)
    console.say(f"{volume}: header {seen.backup.uuid} is back, in both copies; next: luksctl check {volume}")
    console.document(_restored_fields(seen))
    return 0


def _told(seen: Restoring) -> list[str]:
    """Say what the restore does."""
    lines = [f"{seen.volume} on {seen.device.path}, header {seen.backup.uuid}"]
    if seen.present is None:
        lines.append(
            "nothing on the device can be read as a header, so nobody can say whether the backup belongs there"
        )
    for slots, what in (
        (seen.back, "come back"),
        (seen.changed, "open with the key of the backup again, and not with the one they have now"),
        (seen.gone, "vanish"),
        (seen.same, "stay as they are"),
    ):
        if slots:
            lines.append(f"slots that {what}: {_numbers(slots)}")
    return lines


def _restored_fields(seen: Restoring) -> dict[str, object]:
    return {
        "volume": seen.volume,
        "device": seen.device.path,
        "headerUUID": seen.backup.uuid,
        "back": list(seen.back),
        "changed": list(seen.changed),
        "gone": list(seen.gone),
        "same": list(seen.same),
    }


def _list(_: Namespace, context: Context) -> int:
    from luksctl.node.header_backup import kept_backups  # noqa: PLC0415  # as backup

    console, found = context.console, kept_backups(context.node())
    if found:
        console.table(("volume", "created", "header", "slots", "file"), [_row(kept) for kept in found])
    else:
        console.say("no header backups are kept")
    console.document({"headerBackups": [_kept_fields(kept) for kept in found]})
    return 0


def _row(kept: KeptBackup) -> tuple[str, ...]:
    document = kept.document
    if document is None:
        return kept.volume, "", "", f"! {kept.problem}", kept.path
    return kept.volume, document.created, document.place.header_uuid, _numbers(document.place.slots), kept.path


def _kept_fields(kept: KeptBackup) -> dict[str, object]:
    document = kept.document
    return {
        "volume": kept.volume,
        "file": kept.path,
        "problem": kept.problem,
        "created": None if document is None else document.created,
        "headerUUID": None if document is None else document.place.header_uuid,
        "seqid": None if document is None else document.place.seqid,
        "counter": None if document is None else document.place.counter,
        "slots": None if document is None else list(document.place.slots),
        "recipient": None if document is None else document.recipient,
    }


def _drop(arguments: Namespace, context: Context) -> int:
    from luksctl.node.header_backup import drop_backups, kept_backups  # noqa: PLC0415  # as backup

    volume, node, console = volume_of(arguments.volume), context.node(), context.console
    found = [kept.path for kept in kept_backups(node) if kept.volume == volume]
    if found:
        context.confirm(f"{len(found)} header backups of {volume} will be gone", volume, yes=arguments.yes)
    dropped = drop_backups(node, volume)
    console.say(f"{volume}: {len(dropped)} header backups dropped")
    console.document({"volume": volume, "dropped": list(dropped)})
    return 0


def _open(arguments: Namespace, context: Context) -> int:
    """Decrypt a backup; for operators, on a machine of theirs."""
    from luksctl.node.files import create_file  # noqa: PLC0415  # as backup

    content = _opened(read_bytes(arguments.file)[0], arguments, None)
    if not create_file(arguments.to, content):
        raise Refused(f"{arguments.to} is there already; nothing was written", hint="name another file")
    context.console.say(f"decrypted into {arguments.to}")
    context.console.document({"file": arguments.to})
    return 0


def _opened(content: bytes, arguments: Namespace, volume: str | None) -> bytes:
    """Return the backup file that `content` is, or holds encrypted; Refused where it names another volume."""
    if not is_sealed_header(content):
        return content
    document = read_sealed_header(content)
    if volume is not None and document.place.volume != volume:
        raise Refused(f"the backup is of {document.place.volume}; nothing was written", volume=volume)
    path = arguments.identity
    if path is None:
        raise UsageError(
            f"the backup is encrypted to {document.recipient}",
            hint="--identity FILE; or, so that the private key stays away from the node: luksctl header open elsewhere",
        )
    with read_file(path, "the private key") as text:
        identity = read_identity(text, lambda: read_passphrase(f"Passphrase of {path}", arguments.passphrase_fd))
    return open_sealed_header(document, identity)


def _numbers(slots: tuple[int, ...]) -> str:
    return ", ".join(map(str, slots)) or "none"
