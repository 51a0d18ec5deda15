"""What a boot, or a new config, would do to each volume: `luksctl plan`. Reads only."""

from __future__ import annotations

from functools import cached_property

from luksctl.errors import Locked, LuksctlError, Maintenance, MetaError
from luksctl.model.config import STATE, EncryptionPolicy, MachineConfig
from luksctl.model.desired import DesiredVolume
from luksctl.model.meta import MetaFacts, MetaState
from luksctl.model.observed import Observed
from luksctl.model.plan import Plan
from luksctl.node.boot import earlier_keys, maintenance
from luksctl.node.config_view import ConfigView, config_view
from luksctl.node.expected import expecting
from luksctl.node.node import Node
from luksctl.node.sources import keeping_on, previous_configs, state_directory
from luksctl.reconcile.converge import look
from luksctl.reconcile.desire import desire, desire_from_meta
from luksctl.value import frozen, replace

_IN_USE = "STATE is mounted and in use already"
_ONLY_OPENS = "the node is locked: a config given by hand may only open"


@frozen
class Preview:
    """One volume: the wish and where it comes from, what is there, and what would be done about it.

    `desired` is None where no config says anything, `observed` where the device could not be looked at.
    """

    volume: str
    source: str
    plan: Plan
    desired: DesiredVolume | None = None
    observed: Observed | None = None


@frozen
class Outlook:
    """What is known before any volume is looked at. `given` is a config named by the operator."""

    node: Node
    view: ConfigView
    meta: MetaFacts
    given: MachineConfig | None = None

    @property
    def config(self) -> MachineConfig | None:
        """Return the config to plan by, or None."""
        return self.given or self.view.ruling

    @cached_property
    def waiting_for_config(self) -> str | None:
        """Say why the node is in maintenance, or None where it is not.

        A STATE that is open and holds no config is one, too: its first config was cut short, or somebody removed it.
        """
        if self.view.ruling is not None or self.view.problem is not None:
            return None
        if self.view.state_mounted:
            return "STATE holds no machine config, and none is at hand" if self.meta.readable else None
        return maintenance(self.node, self.meta)


def outlook(node: Node, given: MachineConfig | None = None) -> Outlook:
    """Read META and the configs; META that cannot be read at all counts as unreadable, with the reason."""
    try:
        meta = node.ports.meta.load()
    except MetaError as error:
        meta = MetaFacts(MetaState.UNREADABLE, problem=error.cause)
    return Outlook(node, config_view(node), meta, given)


def preview(known: Outlook, volume: str) -> Preview:
    """Plan for `volume` as its next boot would, or as applying the given config would; raises nothing of its own."""
    try:
        desired, source = _wish(known, volume)
    except LuksctlError as refusal:
        refusal.volume = refusal.volume or volume
        return Preview(volume, "", Plan(volume, refusal=refusal), observed=_observed(known, volume))
    desired = expecting(known.node.paths, desired)
    try:
        found = look(desired, known.node.settings.volume(volume), known.node.ports, known.meta)
    except LuksctlError as refusal:
        refusal.volume = refusal.volume or volume
        return Preview(volume, source, Plan(volume, refusal=refusal), desired)
    return Preview(volume, source, found.plan, desired, found.observed)


def _observed(known: Outlook, volume: str) -> Observed | None:
    """Look at a volume that nobody says anything about."""
    plain = DesiredVolume(volume, None, EncryptionPolicy())
    try:
        return look(plain, known.node.settings.volume(volume), known.node.ports, known.meta).observed
    except LuksctlError:
        return None


def _wish(known: Outlook, volume: str) -> tuple[DesiredVolume, str]:
    config = known.config
    if config is not None:
        wanted = desire(
            volume, config, memory_kib=known.node.system.memory_kib(), format_refusal=_format_refusal(known, volume)
        )
        if volume != STATE and wanted.encryption is None:
            wanted = _with_earlier_keys(known, config, wanted)
        follows = volume == STATE and known.view.state_mounted and (known.view.stored or known.given is not None)
        return replace(wanted, follow_in_meta=follows), config.source
    if known.view.problem is not None:
        raise known.view.problem
    reason = known.waiting_for_config
    if reason is not None and not (volume == STATE and known.view.state_mounted):
        raise Maintenance(reason, hint="luksctl apply-config --insecure -f FILE")
    if volume == STATE and known.meta.state_encryption is not None:
        return desire_from_meta(known.meta), "META tag 9"
    if volume == STATE:
        return DesiredVolume(STATE, None, EncryptionPolicy(), "no machine config is at hand"), "nothing"
    raise Locked("STATE is not mounted, and no machine config is at hand", hint="luksctl status")


def _with_earlier_keys(known: Outlook, config: MachineConfig, wanted: DesiredVolume) -> DesiredVolume:
    """Return the wish for a plain volume with what decrypts it in place: keys of before, a place in STATE."""
    directory = state_directory(known.node)
    if directory is None:
        return wanted
    ruling = (known.view.ruling,) if known.given is not None and known.view.ruling is not None else ()
    lists = earlier_keys(wanted.volume, config, (*ruling, *previous_configs(directory)))
    return replace(keeping_on(directory, wanted), fallback=lists)


def _format_refusal(known: Outlook, volume: str) -> str | None:
    if known.view.state_mounted:
        return _IN_USE if volume == STATE else None
    if known.given is not None and replace(known, given=None).waiting_for_config is None:
        return _ONLY_OPENS
    if volume != STATE and preview(known, STATE).plan.refusal is not None:
        return "STATE is not mounted, so this config may only open"
    return None
