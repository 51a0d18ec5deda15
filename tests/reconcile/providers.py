"""Providers that fail on command, and remember every Secret they handed out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from luksctl.errors import KeyRejected, ProviderUnavailable, TokenInvalid
from luksctl.model.config import ConfiguredKey, KeyKind, KmsKey, NodeIdKey, StaticKey, VolumeEncryption
from luksctl.model.ports import KeyProvider, MadeKey
from luksctl.secret import Secret

DOWN = "dial kms.example:4050: connection refused"


def static(slot: int, passphrase: bytes = b"correct horse") -> ConfiguredKey:
    """Return a static key."""
    return ConfiguredKey(slot, StaticKey(Secret.take(passphrase)))


def node_id(slot: int) -> ConfiguredKey:
    """Return a nodeID key."""
    return ConfiguredKey(slot, NodeIdKey())


def kms(slot: int) -> ConfiguredKey:
    """Return a kms key."""
    return ConfiguredKey(slot, KmsKey("kms.example:4050"))


def encrypted(*keys: ConfiguredKey) -> VolumeEncryption:
    """Return an encryption block."""
    return VolumeEncryption(keys)


@dataclass
class FakeProviders:
    """All kinds in one. Slots named in the sets fail; `recovers_before_down` counts successful recoveries down."""

    make_down: set[int] = field(default_factory=set)
    make_rejected: set[int] = field(default_factory=set)
    recovers_before_down: dict[int, int] = field(default_factory=dict)
    wrong_after: dict[int, int] = field(default_factory=dict)
    explain: dict[int, str] = field(default_factory=dict)
    handed_out: list[Secret] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    _sealed: dict[int, bytes] = field(default_factory=dict)
    _recovered: Counter[int] = field(default_factory=Counter)

    def provider(self, key: ConfiguredKey) -> KeyProvider:
        """Return who serves `key`: this object, whatever the kind."""
        self.asked.append(f"{key.kind} {key.slot}")
        return self

    def track(self, secret: Secret) -> Secret:
        """Remember a secret that somebody must close."""
        self.handed_out.append(secret)
        return secret

    def left_open(self) -> int:
        """Count the handed out secrets that nobody closed."""
        return sum(not secret.closed for secret in self.handed_out)

    def make(self, volume: str, key: ConfiguredKey) -> MadeKey:
        """Make the key of a slot."""
        if key.slot in self.make_down:
            raise ProviderUnavailable(DOWN, hint="is the KMS up?")
        if key.slot in self.make_rejected:
            raise KeyRejected("this machine has no SMBIOS UUID, so it has no nodeID key")
        if key.kind is not KeyKind.KMS:
            return MadeKey(self._fixed(volume, key))
        made = self.track(Secret.random(32))
        with made.view() as view:
            self._sealed[len(self._sealed)] = bytes(view)
        token = {"type": "sideroKMS", "keyslots": [str(key.slot)], "sealed": len(self._sealed) - 1}
        return MadeKey(made, json.dumps(token))

    def recover(self, volume: str, key: ConfiguredKey, token: str | None) -> Iterator[Secret]:
        """Yield a key that never fits and then the right one, so that every caller has to go on after the first."""
        if self._recovered[key.slot] >= self.recovers_before_down.get(key.slot, 1 << 30):
            raise ProviderUnavailable(DOWN, hint="is the KMS up?")
        right = self._right(volume, key, token)
        wrong = self._recovered[key.slot] >= self.wrong_after.get(key.slot, 1 << 30)
        self._recovered[key.slot] += 1
        yield self.track(Secret.take(b"a candidate that does not fit"))
        if not wrong:
            yield self.track(right)

    def explain_rejection(self, volume: str, key: ConfiguredKey) -> str | None:  # noqa: ARG002
        """Say what the test wants said."""
        return self.explain.get(key.slot)

    def _right(self, volume: str, key: ConfiguredKey, token: str | None) -> Secret:
        if key.kind is not KeyKind.KMS:
            return self._fixed(volume, key)
        if token is None:
            raise TokenInvalid("the slot has no token")
        return Secret.take(self._sealed[json.loads(token)["sealed"]])

    def _fixed(self, volume: str, key: ConfiguredKey) -> Secret:
        if isinstance(key.source, StaticKey):
            return self.track(Secret.join(key.source.passphrase))
        return self.track(Secret.take(f"uuid of this machine {volume}".encode()))
