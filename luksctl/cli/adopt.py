"""`luksctl adopt VOLUME`: take over a volume that Talos or cryptsetup made; no key, no slot and no data is changed."""

from __future__ import annotations

from argparse import Namespace

from luksctl.cli.context import Context
from luksctl.cli.parser import Parser
from luksctl.cli.sync import show
from luksctl.cli.volumes import MANAGED, volume_of
from luksctl.model.step import RecordKeyslots
from luksctl.node.sync import adopt


def configure(parser: Parser) -> None:
    """Add the options of the verb."""
    parser.add_argument("volume", metavar="VOLUME", help=" or ".join(MANAGED))


def run(arguments: Namespace, context: Context) -> int:
    """Adopt the volume, and say what sync would do then."""
    synced = adopt(context.node(), volume_of(arguments.volume))
    noted = next((done.detail for done in synced.taken if isinstance(done.step, RecordKeyslots)), None)
    said = "it was ours already" if noted is None else f"adopted; the config's keys open {noted}"
    context.console.say(f"{synced.volume}: {said}")
    show((synced,), context)
    return 0
