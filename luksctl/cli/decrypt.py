"""`luksctl decrypt VOLUME`: make an encrypted volume plain in place; it keeps its data."""

from __future__ import annotations

from argparse import Namespace

from luksctl.cli import in_place
from luksctl.cli.context import Context
from luksctl.cli.in_place import Work, attempts_told, carry_out
from luksctl.cli.parser import Parser
from luksctl.cli.volumes import volume_of
from luksctl.node.in_place import Encrypted, announce_decryption, look_at_encrypted


def configure(parser: Parser) -> None:
    """Add the options of the verb."""
    in_place.configure(parser)


def run(arguments: Namespace, context: Context) -> int:
    """Look, say what would be done, and do it."""
    volume, node = volume_of(arguments.volume), context.node()
    found = look_at_encrypted(node, volume)
    context.console.say(_told(found))
    at_stake = (
        f"Everything on {volume} is written anew, in the plain; its keyslots are lost; make sure that there is a backup"
    )
    work = Work(volume, at_stake, found.open_as, lambda: announce_decryption(node, found), _fields(found))
    return carry_out(node, work, arguments, context)


def _told(found: Encrypted) -> str:
    if found.begun is not None:
        return attempts_told(found.volume, found.begun.attempt)
    kept = f"which is kept in {found.header_file} meanwhile"
    return f"{found.volume}: {found.device.path}, header {found.header_uuid}, {kept}"


def _fields(found: Encrypted) -> dict[str, object]:
    return {
        "volume": found.volume,
        "device": found.device.path,
        "announced": found.begun is not None,
        "headerUUID": found.header_uuid,
        "headerFile": found.header_file,
    }
