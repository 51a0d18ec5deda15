"""The stage of a boot that has a network: open what only a KMS can, and do for the keyslots what needed one.

    luksctl-boot --network VOLUME

Started by the stages before it, and only where they left something to do.
"""

from __future__ import annotations

from itertools import islice

from luksctl.errors import LuksctlError
from luksctl.hints import Final
from luksctl.model.config import EPHEMERAL, STATE
from luksctl.node.clock import await_clock
from luksctl.node.kms_meta import follow_reach
from luksctl.node.node import Node
from luksctl.node.report import Report, read_report
from luksctl.node.retry import retry
from luksctl.node.sources import state_directory
from luksctl.node.sync import ruling_config, sync
from luksctl.node.waiting import back_off

# Each attempt costs a key derivation. The waits between them, 1 s to a minute, are five minutes together.
_ATTEMPTS: Final = 10


def with_network(node: Node, volume: str) -> Report:
    """Return once `volume` is open and mounted, which may take for ever, and its keyslots were tried to be in sync."""
    await_clock(node, volume)
    report = retry(node, volume, network=True)
    for wait_s in islice(back_off(node.settings.timeouts), _ATTEMPTS):
        left = _catch_up(node)
        if not left:
            break
        node.tell(f"{left}; trying again in {wait_s:.0f} s")
        node.system.sleep(wait_s)
    else:
        node.tell("the keyslots are left as they are; luksctl sync tries again")
    return report


def _catch_up(node: Node) -> str | None:
    """Bring in sync what the stages before could not, META with it; say what is left to do, None where nothing is."""
    if state_directory(node) is None:
        return None
    behind = tuple(volume for volume in (STATE, EPHEMERAL) if _is_behind(read_report(node, volume)))
    try:
        left = [synced for synced in sync(node, behind) if not synced.in_sync] if behind else []
        if left:
            return "; ".join(f"{synced.volume}: {', '.join(synced.problems) or 'not in sync'}" for synced in left)
        return "; ".join(follow_reach(node, ruling_config(node))) or None
    except LuksctlError as error:
        return str(error)


def _is_behind(report: Report | None) -> bool:
    return report is not None and report.exit_code == 0 and report.in_sync is False
