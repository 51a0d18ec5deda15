"""Keys that a provider makes anew and recovers by a token, as kms and tpm do: what was rotated out must open nothing.

The provider here keeps nothing: its token holds the key. Every key that it ever made is in a file beside the images,
so that a spare whose token was never written can be tried, too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from luksctl.errors import TokenInvalid
from luksctl.model.config import ConfiguredKey, KeyKind, VolumeEncryption
from luksctl.model.ports import KeyProvider, MadeKey, Ports
from luksctl.reconcile.converge import converge
from luksctl.reconcile.rotation import rotate
from luksctl.secret import Secret
from luksctl.value import replace
from tests.reconcile.images import Node, cheap_wish
from tests.reconcile.providers import encrypted, kms, static
from tests.reconcile.rotations import OLD, boot, following
from tests.reconcile.stage import assert_in_sync, header_of, keys_that_open, stock_opens

ONE: Final = encrypted(kms(0))
TYPED: Final = encrypted(static(0, OLD))
_MADE: Final = "made"


class Sealing:
    """The provider."""

    def __init__(self, made: Path) -> None:
        self._made = made

    def make(self, volume: str, key: ConfiguredKey) -> MadeKey:  # noqa: ARG002  # any slot of any volume
        """Make a key and note it."""
        secret = Secret.random(32)
        with secret.view() as view:
            text = bytes(view).hex()
        with self._made.open("a", encoding="ascii") as file:
            file.write(f"{text}\n")
        return MadeKey(secret, json.dumps({"type": "sideroKMS", "keyslots": [], "sealed": text}))

    def recover(self, volume: str, key: ConfiguredKey, token: str | None) -> Iterator[Secret]:  # noqa: ARG002
        """Yield what the token holds."""
        if token is None:
            raise TokenInvalid("the slot has no token")
        yield Secret.take(bytes.fromhex(json.loads(token)["sealed"]))

    def explain_rejection(self, volume: str, key: ConfiguredKey) -> str | None:  # noqa: ARG002
        """Have nothing to say."""
        return None


class SealingNode(Node):
    """A node that has the provider for its kms keys."""

    @property
    def ports(self) -> Ports:
        """Return the ports with that provider."""
        ports = super().ports
        sealing = Sealing(self.state.with_name(_MADE))

        def provider(key: ConfiguredKey) -> KeyProvider:
            return sealing if key.kind is KeyKind.KMS else ports.provider(key)

        return replace(ports, provider=provider)

    def made(self) -> list[bytes]:
        """Return every key that was made, oldest first."""
        noted = self.state.with_name(_MADE)
        return [bytes.fromhex(line) for line in noted.read_text(encoding="ascii").split()] if noted.exists() else []


def formatted(keys: VolumeEncryption) -> Callable[[Path], None]:
    """Return what makes a node with these keys."""

    def make(directory: Path) -> None:
        node = SealingNode(directory)
        list(converge(cheap_wish(keys), node.volume_settings, node.ports))

    return make


def rotated(directory: Path) -> None:
    """Give the only slot a fresh key, as `keys rotate` does."""
    node = SealingNode(directory)
    list(converge(cheap_wish(ONE), node.volume_settings, node.ports))
    list(rotate(replace(following(ONE), rotate=(0,)), node.volume_settings, node.ports))


def following_to(keys: VolumeEncryption) -> Callable[[Path], None]:
    """Return what boots with these keys in the config."""

    def perform(directory: Path) -> None:
        list(boot(SealingNode(directory), keys))

    return perform


def next_boot_to(keys: VolumeEncryption) -> Callable[[Path], None]:
    """Return what boots with these keys in the config, and raises unless one key opens one slot.

    Neither what was there before nor a spare that a cut left without its token opens the raw image any more, which the
    stock tool is asked.
    """

    def check(directory: Path) -> None:
        node = SealingNode(directory)
        list(boot(node, keys))
        assert_in_sync(node, keys)
        every = [*node.made(), OLD]
        ((current, slots),) = keys_that_open(node, *every).items()
        token = header_of(node).token(0)
        recovered = None if token is None else bytes.fromhex(json.loads(token.json).get("sealed", ""))
        if slots != {0} or current != (OLD if keys == TYPED else recovered):
            raise AssertionError("slot 0 is not opened by the key that its config says")
        if [key for key in every if stock_opens(node.state, key)] != [current]:
            raise AssertionError("a key that was rotated out opens")

    return check
