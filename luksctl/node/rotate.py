"""New keys for keyslots, on demand: `luksctl keys rotate`.

kms, tpm   the provider makes a fresh key; any number of slots in one run, also without being named. A boot that is past
           the phase in which a TPM makes keys leaves it to the next one
static     the new passphrase comes from a person, and goes into STATE's config and from there into the slot
recovery   a new recovery key is made, proven and handed out, and then the old one destroyed
nodeID     refused: the same machine gives the same key again
"""

from __future__ import annotations

from collections.abc import Callable

from luksctl.config.rewrite import with_passphrase
from luksctl.errors import NeedsReboot, Refused, UsageError
from luksctl.model.config import ConfiguredKey, KeyKind, MachineConfig, StaticKey
from luksctl.model.desired import DesiredVolume
from luksctl.model.step import StageRotation
from luksctl.node.apply_config import apply_config
from luksctl.node.config_view import config_view
from luksctl.node.node import Node
from luksctl.node.recovery import Place, Show, recovery_keys, replace_recovery_key
from luksctl.node.report import note_in_sync
from luksctl.node.sync import ruling_config, wish
from luksctl.node.trial import expect_no_trial
from luksctl.reconcile.plan_sync import KINDS_WITH_TOKEN
from luksctl.reconcile.rotation import rotate as rotate_made
from luksctl.secret import Secret
from luksctl.value import frozen, replace


@frozen
class Rotated:
    """The slots of one volume that have new keys. `place` is where a new recovery key is; its old one is gone.

    `stored` tells that STATE's config has another passphrase now; `staged` are slots that the next boot gives new keys.
    """

    volume: str
    slots: tuple[int, ...]
    kind: str
    place: Place | None = None
    stored: bool = False
    staged: tuple[int, ...] = ()


def rotate_all(node: Node, volumes: tuple[str, ...]) -> tuple[Rotated, ...]:
    """Give a fresh key to every slot of `volumes` whose provider makes keys; Refused where there is none.

    Cut: each slot has the old key or the new one, and the next sync takes away what is left of the other.
    """
    expect_no_trial(node)
    config = ruling_config(node)
    wanted = {volume: wish(node, config, volume) for volume in volumes}
    slots = {volume: _made_by_providers(desired) for volume, desired in wanted.items()}
    if not any(slots.values()):
        cause = f"no slot of {' or '.join(volumes)} has a key that is made anew by itself"
        raise Refused(cause, hint="name one: luksctl keys rotate VOLUME --slot N")
    return tuple(_rotate_made(node, wanted[volume], slots[volume]) for volume in volumes if slots[volume])


def rotate_slot(node: Node, volume: str, slot: int, ask: Callable[[], Secret], show: Show) -> Rotated:
    """Give `slot` a new key. `ask` returns the new passphrase of a static one, `show` hands out a new recovery key.

    Cut: the old key or the new one opens, and the next boot or sync finishes what was begun; see the module.
    """
    expect_no_trial(node)
    config = ruling_config(node)
    wanted = wish(node, config, volume)
    keys = () if wanted.encryption is None else wanted.encryption.keys
    key = next((entry for entry in keys if entry.slot == slot), None)
    if key is None:
        return _rotate_recovery(node, volume, slot, show)
    match key.kind:
        case KeyKind.STATIC:
            return _rotate_static(node, volume, key, ask)
        case KeyKind.NODE_ID:
            cause = "a nodeID key is made from the machine's UUID, so a new one would be the same"
            hint = "give the slot another kind of key in the config, and: luksctl apply-config -f FILE"
            raise Refused(cause, volume=volume, slot=slot, hint=hint)
        case KeyKind.KMS | KeyKind.TPM:
            return _rotate_made(node, wanted, (slot,))


def takes_passphrase(node: Node, volume: str, slot: int) -> bool:
    """Tell whether `slot` has a static key by the config, so that a new passphrase is asked for."""
    encryption = ruling_config(node).encryption_of(volume)
    keys = () if encryption is None else encryption.keys
    return any(key.slot == slot and key.kind is KeyKind.STATIC for key in keys)


def _made_by_providers(desired: DesiredVolume) -> tuple[int, ...]:
    keys = () if desired.encryption is None else desired.encryption.keys
    return tuple(key.slot for key in keys if key.kind in KINDS_WITH_TOKEN)


def _rotate_made(node: Node, desired: DesiredVolume, slots: tuple[int, ...]) -> Rotated:
    settings = node.settings.volume(desired.volume)
    staged: tuple[int, ...] = ()
    in_sync = True  # it ends so, or by raising
    try:
        for done in rotate_made(replace(desired, rotate=slots), settings, node.ports):
            node.announce(done)
            if isinstance(done.step, StageRotation):
                staged = done.step.slots
    except NeedsReboot:
        if not staged:
            raise
        in_sync = False  # a key that was lost is so until the next boot
    note_in_sync(node, desired.volume, in_sync=in_sync)
    renewed = tuple(slot for slot in slots if slot not in staged)
    return Rotated(desired.volume, renewed, "made by its provider", staged=staged)


def _rotate_recovery(node: Node, volume: str, slot: int, show: Show) -> Rotated:
    if not any(entry.slot == slot for entry in recovery_keys(node, volume)):
        cause = "the slot is not in the config, and holds no recovery key"
        raise Refused(cause, volume=volume, slot=slot, hint=f"luksctl status {volume}")
    place = replace_recovery_key(node, volume, slot, show)
    return Rotated(volume, (slot,), "recovery", place=place)


def _rotate_static(node: Node, volume: str, key: ConfiguredKey, ask: Callable[[], Secret]) -> Rotated:
    """Replace the passphrase in STATE's config, and apply that as any other new config.

    Cut: the old config, or the new one and a slot that the next boot changes.
    """
    _stored(node, volume, key.slot)  # what is refused anyway asks nobody
    with ask() as passphrase:
        # Read now: while somebody was typing, another config may have been applied.
        config = _stored(node, volume, key.slot)
        key = _static_key(config, volume, key.slot)
        if isinstance(key.source, StaticKey) and key.source.passphrase == passphrase:
            raise Refused("this is the passphrase that the slot has already", volume=volume, slot=key.slot)
        text = _text(passphrase)
        if text is None:
            raise UsageError("the new passphrase is not UTF-8, which a config is written in")
        changed = with_passphrase(config, volume, key.slot, text)
    if changed is None:
        raise _by_hand("the config refers to this passphrase in more than one place", volume, key.slot)
    apply_config(node, changed, insecure=False)
    return Rotated(volume, (key.slot,), KeyKind.STATIC.value, stored=True)


def _static_key(config: MachineConfig, volume: str, slot: int) -> ConfiguredKey:
    encryption = config.encryption_of(volume)
    keys = () if encryption is None else encryption.keys
    key = next((entry for entry in keys if entry.slot == slot and isinstance(entry.source, StaticKey)), None)
    if key is None:
        raise Refused("the config has no static key there any more", volume=volume, slot=slot, hint="luksctl status")
    return key


def _stored(node: Node, volume: str, slot: int) -> MachineConfig:
    """Return STATE's own config; Refused where another one rules, which the next boot would read again."""
    view = config_view(node)
    if view.ruling is None or not view.state_mounted or not view.stored:
        raise _by_hand("the passphrase stands in a config that STATE does not hold", volume, slot)
    return view.ruling


def _by_hand(cause: str, volume: str, slot: int) -> Refused:
    hint = f"put the new passphrase into slot {slot} of {volume} in the config, and: luksctl apply-config -f FILE"
    return Refused(cause, volume=volume, slot=slot, hint=hint)


def _text(passphrase: Secret) -> str | None:
    """Return the passphrase as text; None where it is none, since that error would carry the passphrase with it."""
    with passphrase.view() as view:
        try:
            return str(view, "utf-8")
        except UnicodeDecodeError:
            return None
