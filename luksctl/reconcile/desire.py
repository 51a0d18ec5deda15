"""Work out what a volume should be. Pure: config and META in, a wish out."""

from __future__ import annotations

from luksctl.model.config import STATE, EncryptionPolicy, KmsPolicy, MachineConfig
from luksctl.model.desired import DesiredVolume
from luksctl.model.meta import MetaFacts
from luksctl.value import replace

# A keyslot made today must open on this machine when memory is short, so it may cost a quarter of it at the most.
_MEMORY_SHARE = 4


def desire(volume: str, config: MachineConfig, *, memory_kib: int, format_refusal: str | None = None) -> DesiredVolume:
    """Return the wish of `config` for `volume`; KDF memory is capped to a quarter of the machine's `memory_kib`.

    Tag 9 does not follow it; see `DesiredVolume.follow_in_meta`.
    """
    policy = config.policy.with_kdf_memory_at_most(memory_kib // _MEMORY_SHARE)
    if volume == STATE:
        # What is on it comes back from its config, and nothing else could keep its header meanwhile.
        policy = replace(policy, in_place=False)
    return DesiredVolume(volume, config.encryption_of(volume), policy, format_refusal)


def desire_from_meta(meta: MetaFacts) -> DesiredVolume:
    """Return the wish of META's tag 9 for STATE, when no config is at hand: it opens, and never formats."""
    refusal = "no machine config is at hand, only META's copy of STATE's keys, and that copy may only open"
    # And it reaches a KMS as META says.
    policy = EncryptionPolicy(kms=KmsPolicy(from_meta=True))
    return DesiredVolume(STATE, meta.state_encryption, policy, refusal)
