"""When a tpm key may be sealed anew without anybody asking: making one is enrolling the machine as it is now. Pure.

A TPM refuses a key when firmware or boot code changed. Firmware updates do that, and so does who boots code of their
own and waits for the machine to trust it. So what decides is who opened the volume, and what vouches for the code.
"""

from __future__ import annotations

from luksctl.model.config import ConfiguredKey, KeyKind, Reseal
from luksctl.value import frozen


@frozen
class Vouching:
    """What the provider says of a key that it would make now, in the place of one that is lost.

    `policy` identifies the state of the machine that the key would be bound to, None where that cannot be known; `was`
    the one that the lost key was bound to, as far as its token says. `holds`: Secure Boot is on, SetupMode is off, and
    the signed PCR policy is satisfied: the code is vouched for. `late`: this boot is past making it, and `policy` is
    what the next one would bind it to if nothing else changes.
    """

    policy: str | None = None
    was: str | None = None
    holds: bool = False
    late: bool = False


@frozen
class Resealing:
    """What this run knows. `asked`: a person runs it. `barred` says why nothing is done unless somebody names the slot.

    `before` are pairs of a slot and a policy that the slot's key was bound to, and is not any more.
    """

    asked: bool = False
    barred: str | None = None
    before: tuple[tuple[int, str], ...] = ()


@frozen
class Sealing:
    """The key of `slot` is lost for `cause`, and this run replaces it by one of which its provider says `vouching`."""

    slot: int
    cause: str
    vouching: Vouching


@frozen
class Due:
    """The next boot makes a new key for `slot`; a lost one too, where the machine is in the state `policy` still.

    `policy` is what a key made then would be bound to (Vouching), None where nobody could say.
    """

    slot: int
    policy: str | None = None


def objection(
    policy: Reseal, known: Resealing, slot: int, vouching: Vouching, opener: ConfiguredKey | None
) -> str | None:
    """Say why the key of `slot` is not sealed anew by itself, or None; `opener` is the key that opened the volume."""
    always = (
        (policy is Reseal.NEVER, "the policy never does that by itself"),
        (policy is Reseal.ASK, "the policy asks first"),
        (known.barred is not None, known.barred or ""),
        (vouching.late, "this boot is past making its key, and a rotation of it would be left to the next one"),
        (vouching.policy is None, "nobody can say now what it would be bound to"),
        (
            (slot, vouching.policy) in known.before,
            "it was bound to this very state before, and back and forth needs somebody who knows why",
        ),
    )
    unasked = (
        (
            not vouching.holds,
            "nothing vouches for the code that runs: Secure Boot is off, or no signed PCR policy holds",
        ),
        (
            opener is None or opener.kind is KeyKind.NODE_ID,
            "only a nodeID key opened the volume, and that key whoever has the machine has, too",
        ),
    )
    reasons = always if known.asked else (*always, *unasked)
    return next((reason for applies, reason in reasons if applies), None)
