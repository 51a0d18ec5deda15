"""Fresh keys for slots whose provider makes keys: each is changed through a spare, whatever its slot holds now."""

from __future__ import annotations

from collections.abc import Iterator

from luksctl.errors import Degraded, NeedsReboot, Refused
from luksctl.model.config import VolumeSettings
from luksctl.model.desired import DesiredVolume
from luksctl.model.ports import Ports
from luksctl.model.step import Done
from luksctl.reconcile.apply import Run
from luksctl.reconcile.converge import Session
from luksctl.reconcile.keyring import Keyring
from luksctl.value import replace


def rotate(desired: DesiredVolume, settings: VolumeSettings, ports: Ports) -> Iterator[Done]:
    """Yield every step that gives the slots of `desired.rotate` new keys, and brings all others in sync.

    Where this boot is past making a key, a step leaves it to the next one; NeedsReboot where that one is lost, so that
    the volume is not in sync until then. Refused where the volume is none of ours; Degraded where another slot still
    has the key it had, or is not in sync. Cut: the next sync ends with the old key or
    the new one in the slot, and nothing left of the other.
    """
    volume = desired.volume
    with ports.disks.volume_lock(volume), Keyring(volume) as keyring:
        session = Session(desired, settings, ports, keyring)
        yield from session.unlock()
        if not session.adopted:
            raise Refused("luksctl does not manage its keyslots", volume=volume, hint=f"luksctl adopt {volume}")
        planned = session.compare()
        if planned.sealing:
            ports.remember(volume, planned.sealing)
        yield from Run(volume, ports.under(desired.policy), keyring, None, desired.encryption).take_all(planned.steps)
        old = [slot for slot in desired.rotate if not keyring.renewed(slot)]
        late = tuple(slot for slot in old if keyring.failures.wait_for_boot(slot))
        if late:
            yield from session.stage(late)
        waiting: NeedsReboot | None = None
        try:
            # What is left to do now is what a sync would do: the keys that were made are not made once more.
            yield from Session(replace(desired, rotate=()), settings, ports, keyring).sync()
        except NeedsReboot as error:
            waiting = error
        kept = [slot for slot in old if slot not in late]
        if kept:
            causes = [error.cause for error in keyring.failures.errors if error.slot in kept]
            because = "; ".join((*planned.problems, *causes)) or "nothing was changed"
            named = ", ".join(f"slot {slot}" for slot in kept)
            raise Degraded(f"{named} kept the key it had: {because}", volume=volume, hint=f"luksctl check {volume}")
        if waiting is not None:
            raise waiting
