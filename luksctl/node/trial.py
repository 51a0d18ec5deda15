"""A config on trial: its keys were added to the volumes, and are taken away again unless somebody confirms it.

Nothing of it is stored. What STATE holds rules on: a boot, or a sync by it, takes the keys away, and so does the
service that is started before the first key is added. Applying a config, also the same one, is what confirms.
"""

from __future__ import annotations

import hashlib

from luksctl.errors import DeviceError, Refused
from luksctl.model.config import MachineConfig
from luksctl.model.meta import MetaFacts, NodeRecord, Trial
from luksctl.node.node import Node
from luksctl.node.units import TRIAL_SERVICE


def pending(node: Node, meta: MetaFacts | None = None) -> Trial | None:
    """Return the trial that goes on in this boot, or None; `meta` is what META said to who read it already."""
    trial = (node.ports.meta.load() if meta is None else meta).record.trial
    return trial if trial is not None and trial.boot_id == node.system.boot_id() else None


def expect_no_trial(node: Node, meta: MetaFacts | None = None) -> None:
    """Raise Refused while a config is on trial: what follows the stored one would take it back; `meta` as pending."""
    if pending(node, meta) is not None:
        hint = "confirm it with luksctl apply-config -f FILE, or: luksctl trial revert"
        raise Refused("a machine config is on trial", hint=hint)


def begin(node: Node, stored: MachineConfig | None, timeout_s: float) -> Trial:
    """Announce a trial in META, and start what takes it back; Refused where nothing would, or nothing could.

    Cut: the next boot is another one, so the trial is over before a key was added.
    """
    digest = "" if stored is None else hashlib.sha256(stored.text).hexdigest()
    trial = Trial(node.system.boot_id(), node.system.monotonic_s() + timeout_s, digest)
    node.ports.meta.update_record(lambda record: _announced(record, trial))
    try:
        node.system.reset_failed(TRIAL_SERVICE)
        node.system.start_unit(TRIAL_SERVICE)
    except DeviceError as error:
        end(node)
        cause = f"nothing would take the config back: {TRIAL_SERVICE} did not start ({error.cause})"
        raise Refused(cause, hint="luksctl enable") from error
    return trial


def _announced(record: NodeRecord, trial: Trial) -> NodeRecord:
    doomed = ", ".join(intent.volume for intent in record.resets)
    if doomed:
        cause = f"the reset of {doomed} is announced, and a trial could not be taken back there"
        raise Refused(cause, hint="reboot, and try it then; or apply it without trial")
    return record.with_trial(trial)


def end(node: Node) -> bool:
    """Take the announcement back; tell whether there was one. Cut: it is there, or not."""
    if node.ports.meta.load().record.trial is None:
        return False
    node.ports.meta.update_record(lambda record: record.with_trial(None))
    return True


def end_by_reboot(node: Node, meta: MetaFacts) -> tuple[str, ...]:
    """Take back the announcement of an earlier boot, and say so. Its keys go as the keyslots follow the config."""
    trial = meta.record.trial
    if trial is None or trial.boot_id == node.system.boot_id():
        return ()
    end(node)
    return ("the machine config on trial was taken back by the reboot",)
