"""What two worlds must agree on to be the same to plan: simulated against in memory, simulated against real headers."""

from __future__ import annotations

from luksctl.model.observed import Luks2, Unfinished
from luksctl.model.simulate import World


def essence(world: World) -> tuple[object, ...]:
    """Return what plan asks of a world: no sequence ids, JSON texts or names inside a filesystem."""
    observed, meta = world.observed, world.meta
    parts: list[object] = [type(observed), meta.state, meta.record, meta.state_encryption, meta.has_tag9]
    if isinstance(observed, Unfinished | Luks2):
        header, mapping = observed.header, observed.mapping
        parts += [None if mapping is None else (mapping.path, mapping.signature is not None)]
        if header is not None:
            parts += [header.uuid, header.subsystem, {slot.number for slot in header.keyslots}]
    if isinstance(observed, Unfinished):
        parts.append(observed.intent)
    if isinstance(observed, Luks2):
        parts += [observed.copies.state, observed.format_intent]
    return tuple(parts)
