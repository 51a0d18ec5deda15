"""Whether the tpm keys of this node will open at the next boot: `luksctl tpm preflight`, for those who update images.

Reads only; nothing is unsealed, and no key is derived.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from luksctl.errors import Degraded, LuksctlError, Refused
from luksctl.model.config import KeyKind, TpmPolicy
from luksctl.model.observed import Luks2
from luksctl.node.node import Node
from luksctl.node.preview import Outlook, outlook, preview
from luksctl.providers.deadline import Deadline
from luksctl.providers.tpm_connection import TpmConnection
from luksctl.providers.tpm_preflight import Forecast, TpmPreflight
from luksctl.value import frozen

WELL = 0


@frozen
class SlotForecast:
    """One tpm slot of a volume, and what is foreseen for it."""

    volume: str
    slot: int
    forecast: Forecast


@frozen
class NodeForecast:
    """All tpm slots that were asked about."""

    slots: tuple[SlotForecast, ...]

    @property
    def exit_code(self) -> int:
        """Return 0 where every tpm slot will open, else 5."""
        return WELL if all(slot.forecast.opens for slot in self.slots) else Degraded.exit_code


def tpm_preflight(
    node: Node,
    volumes: Sequence[str],
    signatures: tuple[str, ...],
    foreseen: Mapping[int, bytes],
    connection: TpmConnection | None = None,
) -> NodeForecast:
    """Look ahead for the tpm slots of `volumes`; Refused where no config names any.

    TpmUnavailable where the TPM cannot be asked.
    """
    known = outlook(node)
    policy = TpmPolicy() if known.config is None else known.config.policy.tpm
    ahead = TpmPreflight(connection or TpmConnection(), policy, signatures=signatures, foreseen=foreseen)
    deadline = Deadline("the TPM", tell=node.tell)
    found: list[SlotForecast] = []
    for volume in volumes:
        for slot, token in _tpm_slots(known, volume):
            forecast = deadline.run(partial(ahead.forecast, token), lambda _: None)
            found.append(SlotForecast(volume, slot, forecast))
    if not found:
        named = " and ".join(volumes)
        raise Refused(f"no tpm key is configured for {named}", hint="luksctl status")
    return NodeForecast(tuple(found))


def _tpm_slots(known: Outlook, volume: str) -> tuple[tuple[int, str | None], ...]:
    """Return the configured tpm slots of `volume`, each with its token; what cannot be looked at is raised."""
    seen = preview(known, volume)
    if seen.desired is None or seen.desired.encryption is None:
        return ()
    slots = [key.slot for key in seen.desired.encryption.keys if key.kind is KeyKind.TPM]
    if slots and not isinstance(seen.observed, Luks2):
        raise seen.plan.refusal or _not_there(volume)
    header = None if not isinstance(seen.observed, Luks2) else seen.observed.header
    tokens = {slot: None if header is None else header.token(slot) for slot in slots}
    return tuple((slot, None if token is None else token.json) for slot, token in tokens.items())


def _not_there(volume: str) -> LuksctlError:
    return Refused("it is no LUKS2 volume yet", volume=volume, hint=f"luksctl status {volume}")
