"""`luksctl meta list|read|write|delete`: the tags of META, in the syntax of Talos; secrets only when asked for."""

from __future__ import annotations

import sys
from argparse import Namespace

from luksctl.cli.context import Context
from luksctl.cli.parser import Parser, Takes
from luksctl.errors import UsageError
from luksctl.hints import Final
from luksctl.meta.store import AdvStore
from luksctl.meta.tags import describe_tag, parse_tag, tag_name
from luksctl.model.meta import TAG_LUKSCTL, TAG_STATE_ENCRYPTION, TAG_UUID_OVERRIDE
from luksctl.wiring import meta_store

_MACHINE_TOKEN: Final = 0x10
# Half of a passphrase, or all of it: never shown by the way.
_SECRET: Final = frozenset({TAG_STATE_ENCRYPTION, TAG_UUID_OVERRIDE, _MACHINE_TOKEN})
_USERS_OWN: Final = frozenset({0x0C, 0x0D, 0x0E})
_KEY_HELP: Final = "the tag: 12, or 0x0c"


def configure(parser: Parser) -> None:
    """Add the options of the verb."""
    parser.add_command("list", text="every tag, its name, and what it holds; without secrets")
    read = parser.add_command("read", text="the value of one tag")
    read.add_argument("key", metavar="KEY", help=_KEY_HELP)
    read.add_argument("-o", "--output", choices=("text", "raw"), default="text", help="raw: the bytes as they are")
    read.add_flag("show-secrets", text="show passphrases and the node UUID as well")
    write = parser.add_command("write", text="give a tag a value")
    write.add_argument("key", metavar="KEY", help=_KEY_HELP)
    text = "the text; - for standard input, which other users cannot see"
    write.add_sent(Takes.TEXT, "value", metavar="VALUE", help=text)
    write.add_flag("yes", text="do not ask, also where Talos or luksctl owns the tag")
    delete = parser.add_command("delete", text="take a tag away")
    delete.add_argument("key", metavar="KEY", help=_KEY_HELP)
    delete.add_flag("yes", text="do not ask, also where Talos or luksctl owns the tag")


def run(arguments: Namespace, context: Context) -> int:
    """Do what the word after meta says."""
    tag = None if arguments.command == "list" else parse_tag(arguments.key)
    store = meta_store(context.settings())
    if tag is None:
        return _list(store, context)
    match arguments.command:
        case "read":
            return _read(store, tag, context, raw=arguments.output == "raw", secrets=arguments.show_secrets)
        case "write":
            return _write(store, tag, arguments.value, context, yes=arguments.yes)
        case _:
            return _delete(store, tag, context, yes=arguments.yes)


def _list(store: AdvStore, context: Context) -> int:
    tags = store.list_tags()
    rows = [(f"0x{tag:02x}", str(tag), tag_name(tag) or "-", describe_tag(tag, value)) for tag, value in tags.items()]
    context.console.table(("tag", "", "name", "value"), rows)
    context.console.document(
        {
            "tags": [
                {"tag": tag, "name": tag_name(tag) or None, "sizeBytes": len(value), "shown": describe_tag(tag, value)}
                for tag, value in tags.items()
            ]
        }
    )
    return 0


def _read(store: AdvStore, tag: int, context: Context, *, raw: bool, secrets: bool) -> int:
    redacted = tag in _SECRET and not secrets
    if raw and redacted:
        raise UsageError(
            f"tag 0x{tag:02x} ({tag_name(tag)}) holds a secret, and raw output cannot leave it out",
            hint="add --show-secrets if that is meant",
        )
    value = store.read_tag(tag)
    if raw:
        context.console.raw(value)
        return 0
    text = describe_tag(tag, value) if redacted else _text(value)
    context.console.say(f"{len(value)} bytes that are not text (see -o raw)" if text is None else text)
    context.console.document(
        {"tag": tag, "name": tag_name(tag) or None, "sizeBytes": len(value), "value": text, "redacted": redacted}
    )
    return 0


def _text(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def _write(store: AdvStore, tag: int, text: str, context: Context, *, yes: bool) -> int:
    _ask(tag, "written", context, yes=yes)
    value = sys.stdin.buffer.read() if text == "-" else text.encode("utf-8", "surrogateescape")
    store.write_tag(tag, value)
    context.console.say(f"tag 0x{tag:02x} has {len(value)} bytes")
    context.console.document({"tag": tag, "sizeBytes": len(value)})
    return 0


def _delete(store: AdvStore, tag: int, context: Context, *, yes: bool) -> int:
    _ask(tag, "deleted", context, yes=yes)
    store.delete_tag(tag)
    context.console.say(f"tag 0x{tag:02x} is gone")
    context.console.document({"tag": tag, "deleted": True})
    return 0


def _ask(tag: int, done: str, context: Context, *, yes: bool) -> None:
    """Ask before a tag changes that Talos or luksctl keeps for itself."""
    name = tag_name(tag)
    if not name or tag in _USERS_OWN:
        return
    owner = "luksctl" if tag == TAG_LUKSCTL else "Talos"
    what = f"Tag 0x{tag:02x} ({name}) belongs to {owner}, and a boot may depend on it; it will be {done}"
    if yes:
        context.console.note(f"warning: {what}")
    context.confirm(what, f"0x{tag:02x}", yes=yes)
