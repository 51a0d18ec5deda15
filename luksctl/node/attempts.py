"""Give a volume whose first format failed three times new attempts, or forget that it was being formatted."""

from __future__ import annotations

from luksctl.model.intent import FormatIntent
from luksctl.node.node import Node
from luksctl.value import replace


def allow_again(node: Node, volume: str) -> FormatIntent | None:
    """Set the attempts of the announced format of `volume` back to none, and return the intent as it was.

    None where nothing is announced. Cut: the old count or the new one.
    """
    with node.ports.disks.volume_lock(volume):
        intent = node.ports.meta.load().record.intent(volume)
        if intent is not None:
            fresh = replace(intent, attempt=0)
            node.ports.meta.update_record(lambda record: record.with_intent(fresh))
    return intent


def drop_intent(node: Node, volume: str) -> FormatIntent | None:
    """Take back the announcement that `volume` is being formatted, and return it; None where nothing is announced.

    From then on, whatever the interrupted format left on the device is foreign data: refused, never formatted.
    """
    with node.ports.disks.volume_lock(volume):
        intent = node.ports.meta.load().record.intent(volume)
        if intent is not None:
            node.ports.meta.update_record(lambda record: record.without_intent(volume))
    return intent
