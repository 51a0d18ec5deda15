"""A world whose machine has a TPM: it gives a key out only in the state, and the phase, in which it was sealed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

from luksctl.errors import PcrChange, ProviderUnavailable, TokenInvalid, TpmReason, TpmRejected
from luksctl.model.config import (
    CHEAPEST_KDF,
    ConfiguredKey,
    EncryptionPolicy,
    KeyKind,
    Reseal,
    TpmKey,
    TpmPolicy,
    VolumeEncryption,
)
from luksctl.model.desired import DesiredVolume
from luksctl.model.ports import KeyProvider, MadeKey, Ports
from luksctl.model.sealing import Resealing, Sealing, Vouching
from luksctl.secret import Secret
from luksctl.value import replace
from tests.reconcile.providers import FakeProviders, encrypted, node_id, static
from tests.reconcile.world import World, wish

TPM_SLOT = 0
TPM = ConfiguredKey(TPM_SLOT, TpmKey())
WITH_STATIC, WITH_NODE_ID, ALONE = encrypted(TPM, static(1)), encrypted(TPM, node_id(1)), encrypted(TPM)
FIRST, UPDATED = "firmware 1", "firmware 2"
UNASKED = Resealing()


@dataclass
class Machine(FakeProviders):
    """A machine whose TPM gives a key out only in the state in which it was sealed; other kinds as usual."""

    state: str = FIRST
    vouched: bool = False
    there: bool = True
    phase_over: bool = False

    sealed: dict[str, tuple[str, bytes]] = field(default_factory=dict)

    def provider(self, key: ConfiguredKey) -> KeyProvider:
        """Return who serves `key`."""
        return Tpm(self) if key.kind is KeyKind.TPM else super().provider(key)

    def vouching(self, _key: ConfiguredKey, token: str | None) -> Vouching:
        """Say what a key made now would be bound to."""
        was = None if token is None else self.sealed.get(json.loads(token)["blob"], (None,))[0]
        return Vouching(self.state, was, self.vouched and not self.phase_over, late=self.phase_over)


@dataclass
class Tpm:
    """Its TPM."""

    machine: Machine

    def make(self, volume: str, key: ConfiguredKey) -> MadeKey:
        """Seal a random key to the state of the machine."""
        del volume, key
        self._expect_there()
        self._expect_phase()
        secret = self.machine.track(Secret.random(32))
        blob = f"blob {len(self.machine.sealed)}"
        with secret.view() as view:
            self.machine.sealed[blob] = (self.machine.state, bytes(view))
        return MadeKey(secret, json.dumps({"type": "talos-tpm2", "keyslots": [], "blob": blob}))

    def recover(self, volume: str, key: ConfiguredKey, token: str | None) -> Iterator[Secret]:
        """Yield the key, where the machine is in the state to which it was sealed."""
        del volume, key
        self._expect_there()
        if token is None:
            raise TokenInvalid("the slot has no token")
        state, secret = self.machine.sealed.get(json.loads(token).get("blob", ""), (None, b""))
        if state is None:
            raise TokenInvalid("its token holds nothing that this TPM sealed")
        if state != self.machine.state:
            changed = (PcrChange(7, "bb", "aa"),)
            raise TpmRejected(f"PCR 7 changed: {changed[0]}", reason=TpmReason.PCR_MISMATCH, pcrs=changed)
        self._expect_phase()
        yield self.machine.track(Secret.take(bytes(secret)))

    def explain_rejection(self, volume: str, key: ConfiguredKey) -> str | None:
        """Return nothing: there is nothing to add."""
        del volume, key
        return None

    def _expect_there(self) -> None:
        if not self.machine.there:
            raise ProviderUnavailable("there is no TPM")

    def _expect_phase(self) -> None:
        if self.machine.phase_over:
            raise TpmRejected("the boot is past what was signed", reason=TpmReason.PHASE_OVER)


class TpmWorld(World):
    """A world whose machine has a TPM."""

    def __init__(self) -> None:
        self.machine = Machine()
        self.remembered: list[Sealing] = []
        self.writes_when_remembered: list[int] = []
        super().__init__(keys=self.machine)

    @property
    def ports(self) -> Ports:
        """Return the world with somebody who vouches, and somebody who remembers."""
        return replace(super().ports, vouching=self.machine.vouching, remember=self._remember)

    def _remember(self, volume: str, sealing: tuple[Sealing, ...]) -> None:
        assert volume == "STATE"
        self.remembered += sealing
        self.writes_when_remembered.append(len(self.power.writes))


def following(
    keys: VolumeEncryption, resealing: Resealing = UNASKED, reseal: Reseal = Reseal.AUTO, **more: object
) -> DesiredVolume:
    """Return what STATE's own config wants of its keys."""
    policy = EncryptionPolicy(kdf=CHEAPEST_KDF, tpm=TpmPolicy(reseal))
    return replace(wish(keys, policy=policy), sync=True, resealing=resealing, **more)


def updated(keys: VolumeEncryption, *, vouched: bool = False) -> TpmWorld:
    """Return a world that was formatted with `keys` before its firmware was updated, and rebooted since."""
    world = TpmWorld()
    world.converge(following(keys))
    world.machine.state, world.machine.vouched = UPDATED, vouched
    world.reboot()
    return world


def blobs(world: TpmWorld) -> list[str]:
    """Return what the tokens of the header hold."""
    header = world.medium.copies().best
    assert header is not None
    return [json.loads(token.json)["blob"] for token in header.tokens if token.type == "talos-tpm2"]


def sealed_states(world: TpmWorld) -> set[str]:
    """Return the states to which the tokens of the header are bound."""
    return {world.machine.sealed[blob][0] for blob in blobs(world)}
