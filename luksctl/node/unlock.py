"""Open a volume by hand with a recovery key: `luksctl unlock --recovery`. Needs neither a config nor META."""

from __future__ import annotations

from luksctl.errors import ConfigError, Locked
from luksctl.model.config import STATE, EncryptionPolicy, VolumeEncryption
from luksctl.model.desired import DesiredVolume
from luksctl.model.step import Done, OpenVolume
from luksctl.node.config_view import config_view
from luksctl.node.node import Node
from luksctl.node.opening import Wish, already_open, publish
from luksctl.node.recovery import luks2, opens_nothing
from luksctl.node.report import Report, write_report
from luksctl.reconcile.converge import session
from luksctl.reconcile.recovery import keys_to_try
from luksctl.secret import Secret
from luksctl.value import frozen, replace

_SOURCE = "a recovery key typed by hand"


@frozen
class Unlocked:
    """The volume is open. `already`: it was before, and the key was not needed, nor tried."""

    report: Report
    already: bool = False


def open_already(node: Node, volume: str) -> Unlocked | None:
    """Return what is to be said of a volume that is open, None where it is not: then a key is needed."""
    report = already_open(node, volume)
    return None if report is None else Unlocked(report, already=True)


def unlock(node: Node, volume: str, key: Secret) -> Unlocked:
    """Open `volume` with `key`, under the name and with the options of a boot, and publish it for its mount unit.

    Formats nothing; Locked where the key opens no slot. A header copy that is damaged is mended as a boot would, once
    the key has opened the volume. Cut: as at a boot.
    """
    first, rest = keys_to_try(luks2(node, volume).header, key)
    options = _configured(node, volume) or VolumeEncryption(())
    wanted = DesiredVolume(
        volume,
        replace(options, keys=first.keys),
        EncryptionPolicy(),
        format_refusal="a recovery key only opens what is there",
        fallback=(rest,),
    )
    steps: list[Done] = []
    try:
        with session(wanted, node.settings.volume(volume), node.ports) as running:
            for done in running.converge():
                steps.append(_in_words(done))
                node.announce(steps[-1])
    except Locked as error:
        refused = opens_nothing(volume)
        refused.add_note(error.cause.replace("(static key)", "(typed key)"))
        raise refused from error
    report = publish(node, Wish(wanted, _SOURCE), steps)
    write_report(node, report)
    return Unlocked(report)


def _configured(node: Node, volume: str) -> VolumeEncryption | None:
    """Return the encryption that a boot would open with, for its options; None where nobody knows it any more."""
    try:
        config = config_view(node).ruling
    except ConfigError:
        config = None
    if config is not None:
        return config.encryption_of(volume)
    return node.ports.meta.load().state_encryption if volume == STATE else None


def _in_words(done: Done) -> Done:
    """Say what opened it: in a run, a recovery key is a static key."""
    if isinstance(done.step, OpenVolume) and not done.skipped:
        return replace(done, detail=f"with the recovery key, slot {done.slot}")
    return done
