"""Give a volume whose first format or reset failed three times new attempts, or forget what was announced."""

from __future__ import annotations

from luksctl.errors import Refused
from luksctl.model.intent import Intent, ReencryptIntent
from luksctl.node.node import Node
from luksctl.value import replace


def allow_again(node: Node, volume: str) -> Intent | None:
    """Set the attempts of the announced format or reset of `volume` back to none, and return the intent as it was.

    None where nothing is announced. Cut: the old count or the new one.
    """
    with node.ports.disks.volume_lock(volume):
        intent = node.ports.meta.load().record.intent(volume)
        if intent is not None:
            fresh = replace(intent, attempt=0)
            node.ports.meta.update_record(lambda record: record.with_intent(fresh))
    return intent


def drop_intent(node: Node, volume: str) -> Intent | None:
    """Take back the announcement of work on `volume`, and return it; None where nothing is announced.

    Refused for a re-encryption. From then on, whatever the interrupted work left on the device is foreign data: it is
    refused, and never formatted.
    """
    with node.ports.disks.volume_lock(volume):
        intent = node.ports.meta.load().record.intent(volume)
        if isinstance(intent, ReencryptIntent):
            cause = "without the announcement of its re-encryption it would not be opened any more"
            raise Refused(cause, volume=volume, hint=f"luksctl reencrypt {volume} goes on with it, and ends it")
        if intent is not None:
            node.ports.meta.update_record(lambda record: record.without_intent(volume))
    return intent
