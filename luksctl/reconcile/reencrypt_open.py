"""Opening a volume while it is re-encrypted, or encrypted or decrypted in place."""

from __future__ import annotations

from luksctl.errors import LuksctlError
from luksctl.model.header import LuksHeader
from luksctl.model.ports import Activation, Ports
from luksctl.model.step import Done, OpenVolume
from luksctl.reconcile.keyring import Keyring
from luksctl.reconcile.plan_reencrypt import all_plain
from luksctl.reconcile.unlock import first_that_works
from luksctl.secret import Secret


def open_reencrypting(ports: Ports, keyring: Keyring, header: LuksHeader, step: OpenVolume, how: Activation) -> Done:
    """Open by passphrase and any slot: it takes both volume keys, which are in two slots of one key.

    The library mends a torn hot zone first. Where that was the last one of a decryption, it also ends it, and then
    finds no key that opens what is plain by now: the step is skipped, and the next look finds that out.
    """

    def activate(slot: int, candidate: Secret) -> tuple[int, bool]:
        try:
            ports.headers.activate_reencrypting(step.device, step.mapped_name, candidate, how)
        except LuksctlError:
            found = ports.disks.header_copies(step.device).best
            if found is None or not all_plain(found):
                raise
            return slot, False
        return slot, True

    slot, is_open = first_that_works(ports, keyring, header, (step.encryption, *step.fallback), activate)
    if not is_open:
        return Done(step, slot=slot, skipped="the last of it was decrypted as its hot zone was mended")
    kind = keyring.proofs[slot].key.kind
    return Done(step, f"with the {kind} key of slot {slot}, while it is being re-encrypted", slot=slot)
