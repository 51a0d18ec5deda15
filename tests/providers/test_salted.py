"""Keys that are locked to STATE: the form Talos gives them, what old Talos cut off, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luksctl.errors import KeyRejected, ProviderUnavailable, TokenInvalid
from luksctl.model.config import STATE, ConfiguredKey, KeyKind, KmsKey, NodeIdKey, StaticKey
from luksctl.model.ports import MadeKey
from luksctl.providers.node_id import NodeIdProvider
from luksctl.providers.registry import Registry, Unavailable
from luksctl.providers.salted import SaltedProvider
from luksctl.providers.static import StaticProvider
from luksctl.secret import Secret

UUID = "12345678-1234-5678-1234-567812345678"
SALT = bytes(range(100, 132))
SALT_WITH_NEWLINE = bytes(range(32))


class FixedSalts:
    """A STATE that holds `salt`, or none; counts what was asked to make one."""

    def __init__(self, salt: bytes | None = SALT) -> None:
        self.salt = salt
        self.made = 0

    def existing(self) -> Secret:
        """Return the salt, or raise."""
        if self.salt is None:
            raise TokenInvalid("the salt is gone")
        return Secret.take(self.salt)

    def existing_or_new(self) -> Secret:
        """Return the salt, making it where there is none."""
        if self.salt is None:
            self.salt = SALT
            self.made += 1
        return self.existing()


class Failing:
    """A provider that cannot do anything now."""

    def make(self, volume: str, key: ConfiguredKey) -> MadeKey:
        """Raise."""
        raise ProviderUnavailable("no answer", volume=volume, slot=key.slot)

    def recover(self, volume: str, key: ConfiguredKey, token: str | None) -> Iterator[Secret]:  # noqa: ARG002
        """Raise."""
        raise ProviderUnavailable("no answer", volume=volume, slot=key.slot)

    def explain_rejection(self, volume: str, key: ConfiguredKey) -> str | None:
        """Know why."""
        return f"{volume} slot {key.slot}: down"


def static(passphrase: bytes) -> ConfiguredKey:
    """Return a static key that is locked to STATE."""
    return ConfiguredKey(1, StaticKey(Secret.take(passphrase)), lock_to_state=True)


def candidates(provider: SaltedProvider, key: ConfiguredKey, volume: str = "EPHEMERAL") -> list[bytes]:
    """Return what would be tried, in order."""
    found = []
    for candidate in provider.recover(volume, key, None):
        with candidate, candidate.view() as view:
            found.append(bytes(view))
    return found


def test_the_key_is_the_inner_one_and_the_raw_salt() -> None:
    """A nodeID key has 45 bytes for EPHEMERAL, and 32 more behind them."""
    provider = SaltedProvider(NodeIdProvider(lambda: UUID), FixedSalts())
    key = ConfiguredKey(0, NodeIdKey(), lock_to_state=True)
    made = provider.make("EPHEMERAL", key)
    with made.key.view() as view:
        assert bytes(view) == UUID.encode() + b"EPHEMERAL" + SALT
        assert len(view) == 77
    assert made.token is None


def test_every_inner_candidate_gets_the_salt() -> None:
    """The UUID in the other byte order may have been the one the slot was made with."""
    provider = SaltedProvider(NodeIdProvider(lambda: UUID), FixedSalts())
    key = ConfiguredKey(0, NodeIdKey(), lock_to_state=True)
    other = "78563412-3412-7856-1234-567812345678"
    assert candidates(provider, key) == [uuid.encode() + b"EPHEMERAL" + SALT for uuid in (UUID, other)]


def test_what_old_talos_cut_off_at_a_newline_in_the_salt_is_tried_behind_the_whole_key() -> None:
    """The slot then holds the key and the ten bytes of the salt before the newline."""
    provider = SaltedProvider(StaticProvider(), FixedSalts(SALT_WITH_NEWLINE))
    assert candidates(provider, static(b"pw")) == [b"pw" + SALT_WITH_NEWLINE, b"pw" + SALT_WITH_NEWLINE[:10]]


def test_a_newline_in_the_passphrase_cut_off_the_salt_as_well() -> None:
    """The first line of the passphrase alone is tried; never the first line with the salt, which nobody ever made."""
    provider = SaltedProvider(StaticProvider(), FixedSalts())
    assert candidates(provider, static(b"first\nsecond")) == [b"first\nsecond" + SALT, b"first"]


def test_a_newline_in_front_leaves_nothing_to_try() -> None:
    """An empty key opens no slot, so it is no candidate."""
    provider = SaltedProvider(StaticProvider(), FixedSalts(b"\n" * 32))
    assert candidates(provider, static(b"\nsecond")) == [b"\nsecond" + b"\n" * 32]


@given(st.binary(min_size=1, max_size=8), st.binary(min_size=32, max_size=32))
def test_candidates_begin_with_the_made_key_and_are_what_talos_may_have_stored(passphrase: bytes, salt: bytes) -> None:
    """The whole key, and its first line where it has one: never more than two key derivations for a static key."""
    provider = SaltedProvider(StaticProvider(), FixedSalts(salt))
    key = static(passphrase)
    with provider.make("EPHEMERAL", key).key as made, made.view() as view:
        assert bytes(view) == passphrase + salt
    line = (passphrase + salt).partition(b"\n")[0]
    expected = [passphrase + salt] + ([line] if line and line != passphrase + salt else [])
    assert candidates(provider, key) == expected


def test_only_making_a_key_makes_a_salt() -> None:
    """A salt that is gone is an error for who recovers: a new one would look as if it could open something."""
    salts = FixedSalts(None)
    provider = SaltedProvider(StaticProvider(), salts)
    with pytest.raises(TokenInvalid, match="the salt is gone"):
        candidates(provider, static(b"pw"))
    assert salts.made == 0
    provider.make("EPHEMERAL", static(b"pw"))
    assert salts.made == 1
    assert candidates(provider, static(b"pw")) == [b"pw" + SALT]


def test_no_salt_is_made_for_a_key_that_cannot_be_made() -> None:
    """The inner provider is asked first; what it raises comes through."""
    salts = FixedSalts(None)
    provider = SaltedProvider(Failing(), salts)
    with pytest.raises(ProviderUnavailable, match="no answer"):
        provider.make("EPHEMERAL", static(b"pw"))
    assert salts.made == 0


def test_a_salt_that_cannot_be_had_closes_the_inner_key() -> None:
    """Nobody is left to wipe it."""

    class Gone(FixedSalts):
        def existing_or_new(self) -> Secret:
            raise ProviderUnavailable("STATE is not mounted")

    class Recorded:
        def __init__(self) -> None:
            self.key = Secret.take(b"inner")

        def make(self, volume: str, key: ConfiguredKey) -> MadeKey:  # noqa: ARG002  # the port
            return MadeKey(self.key)

        def recover(self, volume: str, key: ConfiguredKey, token: str | None) -> Iterator[Secret]:  # noqa: ARG002
            return iter([self.key])

        def explain_rejection(self, volume: str, key: ConfiguredKey) -> str | None:  # noqa: ARG002  # the port
            return None

    inner = Recorded()
    with pytest.raises(ProviderUnavailable, match="not mounted"):
        SaltedProvider(inner, Gone()).make("EPHEMERAL", static(b"pw"))
    assert inner.key.closed


def test_state_itself_is_refused_at_once() -> None:
    """META may say so whatever validate thinks of it; waiting for STATE to be mounted would never end."""
    provider = SaltedProvider(StaticProvider(), FixedSalts())
    for attempt in (lambda: provider.make(STATE, static(b"pw")), lambda: candidates(provider, static(b"pw"), STATE)):
        with pytest.raises(KeyRejected, match="cannot be locked to STATE") as caught:
            attempt()
        assert (caught.value.volume, caught.value.slot) == (STATE, 1)


def test_a_rejection_is_explained_by_the_inner_provider_or_by_the_salt() -> None:
    """Who knows more speaks."""
    key = static(b"pw")
    assert SaltedProvider(Failing(), FixedSalts()).explain_rejection("EPHEMERAL", key) == "EPHEMERAL slot 1: down"
    assert "STATE's salt" in (SaltedProvider(StaticProvider(), FixedSalts()).explain_rejection("EPHEMERAL", key) or "")


def test_the_registry_wraps_what_is_locked() -> None:
    """Only keys that ask for it, and only where there is a provider to wrap."""
    registry = Registry({KeyKind.STATIC: StaticProvider()}, FixedSalts)
    assert isinstance(registry(static(b"pw")), SaltedProvider)
    assert isinstance(registry(ConfiguredKey(1, StaticKey(Secret.take(b"pw")))), StaticProvider)
    assert isinstance(registry(ConfiguredKey(1, KmsKey("h"), lock_to_state=True)), Unavailable)
