"""What to say of kms keys while all is well: proofs that grew old, and a credential that the disk carries in clear."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from luksctl.hints import Final
from luksctl.model.config import STATE, KeyKind
from luksctl.model.header import LuksHeader
from luksctl.node.checked import read_checked, slot_digest, timestamp
from luksctl.node.node import Node
from luksctl.node.preview import Preview
from luksctl.node.sources import state_directory

_DAY_S: Final = 86400
# A boot that another key opens never asks the KMS: only the check that runs every week does.
UNPROVEN_AFTER_S: Final = 30 * _DAY_S


def kms_warnings(
    node: Node, seen: Preview, header: LuksHeader, now: Callable[[], float] = time.time
) -> tuple[str, ...]:
    """Return one sentence for each thing to know about the kms keys of a volume; none for a volume without."""
    encryption = None if seen.desired is None else seen.desired.encryption
    slots = () if encryption is None else tuple(key.slot for key in encryption.keys if key.kind is KeyKind.KMS)
    if not slots:
        return ()
    return (*_unproven(node, seen.volume, header, slots, now), *_credential(node, seen.volume))


def _unproven(
    node: Node, volume: str, header: LuksHeader, slots: tuple[int, ...], now: Callable[[], float]
) -> Iterator[str]:
    directory = state_directory(node)
    if directory is None:
        return
    known = {entry.digest: entry for entry in read_checked(directory)}
    for slot in slots:
        if header.keyslot(slot) is None:
            continue  # a finding says so
        entry = known.get(slot_digest(header, slot))
        proven_s = None if entry is None else entry.proven_s
        if entry is not None and (proven_s is None or now() - proven_s > UNPROVEN_AFTER_S):
            since = "was never proven" if proven_s is None else f"was last proven on {timestamp(proven_s)}"
            yield f"slot {slot} (kms) {since}: see that the KMS still has its key (luksctl check {volume})"


def _credential(node: Node, volume: str) -> Iterator[str]:
    if volume != STATE:
        return
    kept = node.ports.meta.load().kms_access
    if kept is not None and kept.in_clear:
        yield "META holds in clear what this node shows the KMS, for want of a TPM: the disk carries its own credential"
