"""Which provider serves a configured key; the one table that every further kind of key is added to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from luksctl.errors import KeyRejected
from luksctl.hints import TYPE_CHECKING, Final, NoReturn, final
from luksctl.model.config import ConfiguredKey, KeyKind
from luksctl.model.ports import KeyProvider, MadeKey
from luksctl.secret import Secret
from luksctl.value import frozen

if TYPE_CHECKING:
    from luksctl.providers.salted import Salts

_NO_SALTS: Final = "there is no STATE here that the key could be locked to"


@final
@frozen
class Unavailable:
    """Stands where no provider is: both methods raise KeyRejected, so that other keys go on and nobody waits for it."""

    reason: str

    def make(self, volume: str, key: ConfiguredKey) -> MadeKey:
        """Raise KeyRejected."""
        self._refuse(volume, key)

    def recover(self, volume: str, key: ConfiguredKey, token: str | None) -> Iterator[Secret]:  # noqa: ARG002
        """Raise KeyRejected."""
        self._refuse(volume, key)

    def explain_rejection(self, volume: str, key: ConfiguredKey) -> str | None:  # noqa: ARG002
        """Return the reason."""
        return self.reason

    def _refuse(self, volume: str, key: ConfiguredKey) -> NoReturn:
        raise KeyRejected(self.reason, volume=volume, slot=key.slot, hint="another key of the volume has to serve")


@final
class Registry:
    """Find the provider of a key; a kind without one gets `Unavailable`, never an error of its own."""

    def __init__(self, providers: Mapping[KeyKind, KeyProvider], salts: Callable[[], Salts] | None = None) -> None:
        """Serve keys by `providers`; `salts` gives the salts of keys that are locked to STATE."""
        self._providers = dict(providers)
        self._salts = salts

    def __call__(self, key: ConfiguredKey) -> KeyProvider:
        """Return who makes and recovers `key`."""
        provider = self._providers.get(key.kind)
        if provider is None:
            return Unavailable(f"this release brings no provider for {key.kind} keys")
        return self._salted(provider) if key.lock_to_state else provider

    def _salted(self, provider: KeyProvider) -> KeyProvider:
        if self._salts is None:
            # The key of such a slot ends with a salt from STATE: the plain one would open nothing, or be too weak.
            return Unavailable(_NO_SALTS)
        # Not at the top: most nodes lock nothing to STATE, and the start of a boot is timed.
        from luksctl.providers.salted import SaltedProvider  # noqa: PLC0415

        return SaltedProvider(provider, self._salts())
