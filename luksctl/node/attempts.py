"""Give a volume whose first format or reset failed three times new attempts, or forget what was announced."""

from __future__ import annotations

import os

from luksctl.errors import Refused
from luksctl.model.intent import DecryptIntent, InPlaceIntent, InPlacePhase, Intent, ReencryptIntent
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

    Refused for a re-encryption, and for work in place that moved anything. From then on, whatever the interrupted work
    left on the device is foreign data: it is refused, and never formatted.
    """
    with node.ports.disks.volume_lock(volume):
        intent = node.ports.meta.load().record.intent(volume)
        if isinstance(intent, ReencryptIntent):
            cause = "without the announcement of its re-encryption it would not be opened any more"
            raise Refused(cause, volume=volume, hint=f"luksctl reencrypt {volume} goes on with it, and ends it")
        if isinstance(intent, DecryptIntent) and intent.begun:
            raise Refused(
                "it is being decrypted in place, and its header may be in a file already",
                volume=volume,
                hint=f"luksctl boot {volume} goes on with it",
            )
        if isinstance(intent, InPlaceIntent):
            _expect_whole(intent)
        if intent is not None:
            node.ports.meta.update_record(lambda record: record.without_intent(volume))
    return intent


def _expect_whole(intent: InPlaceIntent) -> None:
    """Raise Refused where only the announcement says how the filesystem becomes whole again."""
    volume = intent.volume
    if intent.phase is InPlacePhase.PLACING:
        raise Refused(
            "it is being encrypted in place, and only its announcement says where the head of its filesystem is",
            volume=volume,
            hint=f"luksctl boot {volume} goes on with it, or takes the head back",
        )
    if intent.phase is InPlacePhase.SHRINKING and os.path.exists(intent.saved):
        raise Refused(
            f"its filesystem may be half shrunk, and only its announcement says that {intent.saved} takes that back",
            volume=volume,
            hint=f"luksctl boot {volume} takes it back",
        )
