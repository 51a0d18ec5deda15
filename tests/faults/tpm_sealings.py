"""A tpm key that a change of the machine lost, and that is sealed anew: what is there opens, what was lost does not.

The provider here keeps nothing: its token holds the key and the state of the machine it was sealed to. In which state
the machine is stands in a file beside the images, and every key that was ever made in another.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from luksctl.errors import PcrChange, TokenInvalid, TpmReason, TpmRejected
from luksctl.model.config import ConfiguredKey, KeyKind, TpmKey
from luksctl.model.ports import KeyProvider, MadeKey, Ports
from luksctl.model.sealing import Vouching
from luksctl.reconcile.converge import converge
from luksctl.secret import Secret
from luksctl.value import replace
from tests.faults.sealings import SealingNode
from tests.reconcile.images import cheap_wish
from tests.reconcile.providers import encrypted, static
from tests.reconcile.rotations import OLD, boot
from tests.reconcile.stage import assert_in_sync, header_of, keys_that_open, stock_opens

TPM_SLOT: Final = 0
KEYS: Final = encrypted(ConfiguredKey(TPM_SLOT, TpmKey()), static(1, OLD))
_BEFORE, _AFTER = "firmware 1", "firmware 2"


class SealedToState:
    """The provider, on a machine that is in `state`."""

    def __init__(self, state: str, made: Path) -> None:
        self._state = state
        self._made = made

    def make(self, volume: str, key: ConfiguredKey) -> MadeKey:  # noqa: ARG002  # any slot of any volume
        """Make a key, note it, and seal it to the state."""
        secret = Secret.random(32)
        with secret.view() as view:
            text = bytes(view).hex()
        with self._made.open("a", encoding="ascii") as file:
            file.write(f"{text}\n")
        token = {"type": "talos-tpm2", "keyslots": [], "sealed": text, "state": self._state}
        return MadeKey(secret, json.dumps(token))

    def recover(self, volume: str, key: ConfiguredKey, token: str | None) -> Iterator[Secret]:  # noqa: ARG002
        """Yield what the token holds, where the machine is as it was."""
        if token is None:
            raise TokenInvalid("the slot has no token")
        held = json.loads(token)
        if held["state"] != self._state:
            changed = (PcrChange(7, self._state, held["state"]),)
            raise TpmRejected("PCR 7 changed", reason=TpmReason.PCR_MISMATCH, pcrs=changed)
        yield Secret.take(bytes.fromhex(held["sealed"]))

    def vouching(self, _key: ConfiguredKey, token: str | None) -> Vouching:
        """Vouch for the machine as it is."""
        return Vouching(self._state, None if token is None else json.loads(token)["state"], holds=True)

    def explain_rejection(self, volume: str, key: ConfiguredKey) -> str | None:  # noqa: ARG002
        """Have nothing to say."""
        return None


class TpmNode(SealingNode):
    """A node that has the provider for its tpm keys, and one for its kms keys."""

    @property
    def ports(self) -> Ports:
        """Return the ports with that provider."""
        ports = super().ports
        sealed = SealedToState(self.in_state.read_text(encoding="ascii"), self.state.with_name("made"))

        def provider(key: ConfiguredKey) -> KeyProvider:
            return sealed if key.kind is KeyKind.TPM else ports.provider(key)

        return replace(ports, provider=provider, vouching=sealed.vouching)

    @property
    def in_state(self) -> Path:
        """Return the file that says in which state the machine is."""
        return self.state.with_name("machine-state")


def new_node(directory: Path) -> TpmNode:
    """Return one whose firmware was never updated."""
    node = TpmNode(directory)
    node.in_state.write_text(_BEFORE, encoding="ascii")
    return node


def lost(directory: Path) -> None:
    """Make a node whose tpm key was sealed before its firmware was updated."""
    node = new_node(directory)
    list(converge(cheap_wish(KEYS), node.volume_settings, node.ports))
    node.in_state.write_text(_AFTER, encoding="ascii")


def sealed_anew(directory: Path) -> None:
    """Boot: the static key opens, and the lost one is sealed anew."""
    list(boot(TpmNode(directory), KEYS))


def next_boot(directory: Path) -> None:
    """Boot once more, and raise unless both keys open their slots, and of those ever sealed the last alone."""
    node = TpmNode(directory)
    list(boot(node, KEYS))
    assert_in_sync(node, KEYS)
    token = header_of(node).token(TPM_SLOT)
    held = {} if token is None else json.loads(token.json)
    if held.get("state") != _AFTER:
        raise AssertionError("the key is not sealed to the machine as it is")
    current = bytes.fromhex(held["sealed"])
    if keys_that_open(node, *node.made(), OLD) != {current: {TPM_SLOT}, OLD: {1}}:
        raise AssertionError("a slot is opened by another key than its config says")
    if [key for key in node.made() if stock_opens(node.state, key)] != [current]:
        raise AssertionError("a key that was lost opens")
