"""Wishes: what a config or META's tag 9 asks of a volume, with key derivation that this machine can afford."""

from __future__ import annotations

from luksctl.model.config import CHEAPEST_KDF, EPHEMERAL, STATE, EncryptionPolicy, KdfCost, MachineConfig
from luksctl.model.meta import MetaFacts, MetaState
from luksctl.reconcile.desire import desire, desire_from_meta
from luksctl.units import MIB
from luksctl.value import replace
from tests.reconcile.providers import encrypted, static

KEYS = encrypted(static(0))
GIB_IN_KIB = 1 * MIB


def config(memory_kib: int = 256 * 1024) -> MachineConfig:
    """Return a config that encrypts STATE only."""
    return MachineConfig(b"", "machine.yaml", ((STATE, KEYS),), EncryptionPolicy(kdf=KdfCost(4, memory_kib, 2)))


def test_a_volume_is_wanted_as_the_config_says() -> None:
    """Each volume gets its own encryption; one that the config does not name is wanted plain."""
    assert desire(STATE, config(), memory_kib=GIB_IN_KIB).encryption == KEYS
    assert desire(EPHEMERAL, config(), memory_kib=GIB_IN_KIB).encryption is None


def test_a_wish_may_format_unless_told_otherwise_and_never_follows_in_meta() -> None:
    """The refusal is handed on; only STATE's own config lets META follow, and that is said elsewhere."""
    assert desire(STATE, config(), memory_kib=GIB_IN_KIB).format_refusal is None
    assert desire(STATE, config(), memory_kib=GIB_IN_KIB, format_refusal="locked").format_refusal == "locked"
    assert not desire(STATE, config(), memory_kib=GIB_IN_KIB).follow_in_meta


def test_only_ephemeral_is_encrypted_in_place() -> None:
    """What is on STATE comes back from its config, whatever the policy says."""
    wanted = replace(config(), policy=replace(config().policy, in_place=True))
    assert desire(EPHEMERAL, wanted, memory_kib=GIB_IN_KIB).policy.in_place
    assert not desire(STATE, wanted, memory_kib=GIB_IN_KIB).policy.in_place


def test_kdf_memory_is_at_most_a_quarter_of_the_machine() -> None:
    """A machine with 256 MiB gets slots of 64 MiB; time and lanes stay."""
    assert desire(STATE, config(), memory_kib=256 * 1024).policy.kdf == KdfCost(4, 64 * 1024, 2)


def test_the_cap_holds_for_every_kind() -> None:
    """A kind that the policy names itself is no exception; the least of Argon2 fits into any machine."""
    named = EncryptionPolicy(kdf_by_kind=(("nodeID", KdfCost(5, 512 * 1024, 1)), ("kms", KdfCost(4, 128 * 1024, 4))))
    wanted = desire(STATE, replace(config(), policy=named), memory_kib=256 * 1024).policy
    assert wanted.kdf_for("nodeID") == KdfCost(5, 64 * 1024, 1)
    assert wanted.kdf_for("kms") == KdfCost(4, 64 * 1024, 4)
    assert wanted.kdf_for("static") == KdfCost(4, 64 * 1024, 2)
    assert wanted.kdf_for("recovery") == CHEAPEST_KDF


def test_kdf_memory_is_never_raised() -> None:
    """The cap is no target: a policy that asks for less gets less."""
    assert desire(STATE, config(1024), memory_kib=GIB_IN_KIB).policy.kdf.memory_kib == 1024


def test_kdf_memory_never_falls_below_what_argon2_takes() -> None:
    """A machine whose memory cannot be told still gets a keyslot that the library accepts."""
    assert desire(STATE, config(), memory_kib=0).policy.kdf.memory_kib == CHEAPEST_KDF.memory_kib


def test_a_wish_from_meta_may_only_open() -> None:
    """META's copy of the keys never formats and never rewrites itself."""
    wanted = desire_from_meta(MetaFacts(MetaState.OK, KEYS, has_tag9=True))
    assert (wanted.volume, wanted.encryption) == (STATE, KEYS)
    assert wanted.format_refusal is not None
    assert not wanted.follow_in_meta
