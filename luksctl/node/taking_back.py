"""Take back a config on trial: a sync by what STATE holds takes its keys away."""

from __future__ import annotations

from luksctl.errors import Degraded, DeviceMissing, LuksctlError
from luksctl.hints import Final
from luksctl.model.config import EPHEMERAL, STATE
from luksctl.node.node import Node
from luksctl.node.sync import ruling_config, sync
from luksctl.node.trial import end, pending

_LOOKS_EVERY_S: Final = 2.0


def revert(node: Node) -> bool:
    """Take the keys of a config on trial away again, by what STATE holds; tell whether there was any trial.

    Degraded where a volume could not be brought back: the trial goes on until that succeeds. Cut: some of the keys are
    gone, and the next boot takes away the others.
    """
    if pending(node) is None:
        return False
    config = ruling_config(node)
    problems: list[str] = []
    for volume in (STATE, EPHEMERAL):
        if config.encryption_of(volume) is None:
            continue
        try:
            found = sync(node, (volume,), taking_back=True)
        except DeviceMissing:
            continue  # no key was added to what is not there
        except LuksctlError as error:
            problems.append(f"{volume}: {error.cause}")
        else:
            problems += (f"{volume}: {problem}" for synced in found for problem in synced.problems)
    if problems:
        raise Degraded("the config on trial could not be taken back: " + "; ".join(problems), hint="luksctl status")
    return end(node)


def revert_at_deadline(node: Node) -> bool:
    """Wait until the trial's time is over, and take it back; tell whether that was to do, or somebody confirmed it."""
    node.system.tell_ready()
    while (trial := pending(node)) is not None:
        left_s = trial.deadline_s - node.system.monotonic_s()
        if left_s <= 0:
            return revert(node)
        node.system.sleep(min(left_s, _LOOKS_EVERY_S))
    return False
