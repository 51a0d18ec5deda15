"""`luksctl decrypt VOLUME`: make an encrypted volume plain in place; it keeps its data."""

from __future__ import annotations

from argparse import Namespace

from luksctl.cli.boot import open_now, show_reports
from luksctl.cli.context import Context
from luksctl.cli.parser import Parser
from luksctl.cli.volumes import MANAGED, volume_of
from luksctl.errors import NeedsReboot
from luksctl.node.in_place import Encrypted, announce_decryption, look_at_encrypted
from luksctl.node.retry import start_mounts


def configure(parser: Parser) -> None:
    """Add the options of the verb."""
    parser.add_argument("volume", metavar="VOLUME", help=" or ".join(MANAGED))
    parser.add_flag("dry-run", text="show what would be done, and touch nothing")
    parser.add_flag("reboot", text="reboot afterwards, where the volume is open")
    parser.add_flag("mount", text="have systemd mount the volume as well (default)", default=True)
    parser.add_flag("yes", text="do not ask")


def run(arguments: Namespace, context: Context) -> int:
    """Look, ask, announce; then begin, or leave it to the boot where the volume is open."""
    volume = volume_of(arguments.volume)
    node, console = context.node(), context.console
    found = look_at_encrypted(node, volume)
    console.say(
        f"{volume}: {found.device.path}, header {found.header_uuid}, which is kept in {found.header_file} meanwhile"
    )
    if arguments.dry_run:
        console.document({"dryRun": True, **_fields(found)})
        return 0
    what = (
        f"Everything on {volume} is written anew, in the plain; its keyslots are lost; make sure that there is a backup"
    )
    context.confirm(what, volume, yes=arguments.yes)
    announce_decryption(node, found)
    if found.open_as is not None:
        console.say(f"{volume} is open as {found.open_as}: the next boot begins before it opens the volume")
        console.document({"waitsFor": found.open_as, "rebooting": arguments.reboot, **_fields(found)})
        if not arguments.reboot:
            return NeedsReboot.exit_code
        node.system.reboot()
        return 0
    report = open_now(node, volume)
    if arguments.mount:
        start_mounts(node, volume)
    show_reports([report], console)
    return 0


def _fields(found: Encrypted) -> dict[str, object]:
    return {
        "volume": found.volume,
        "device": found.device.path,
        "headerUUID": found.header_uuid,
        "headerFile": found.header_file,
    }
