"""lockToState: any provider's key and behind it a salt from STATE, so that beside another STATE it opens nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from luksctl.errors import KeyRejected
from luksctl.hints import Final, Protocol, final
from luksctl.model.config import STATE, ConfiguredKey
from luksctl.model.ports import KeyProvider, MadeKey
from luksctl.secret import Secret

_NEWLINE: Final = 0x0A


class Salts(Protocol):
    """Where the salt comes from. Both raise ProviderUnavailable while STATE is not mounted or cannot be read."""

    def existing(self) -> Secret:
        """Return the salt; TokenInvalid where STATE holds none, KeyRejected for a damaged one. Writes nothing."""

    def existing_or_new(self) -> Secret:
        """Return the salt, on the medium, and make it first where STATE holds none; KeyRejected for a damaged one."""


@final
class SaltedProvider:
    """The keys of `inner`, each with the salt behind it; tokens are those of `inner`.

    Both methods raise what `inner` and `salts` raise, and KeyRejected for a key of STATE itself, whose salt would lie
    behind the very key that needs it. To `recover`, a salt that is not there is what a missing token is; only `make`
    ever makes one, so nothing that opens no slot any more looks as if it could.
    """

    def __init__(self, inner: KeyProvider, salts: Salts) -> None:
        self._inner = inner
        self._salts = salts

    def make(self, volume: str, key: ConfiguredKey) -> MadeKey:
        """Make the inner key, and a salt where this is the first key that needs one."""
        _refuse_state(volume, key)
        made = self._inner.make(volume, key)
        with made.key, self._salts.existing_or_new() as salt:
            return MadeKey(Secret.join(made.key, salt), made.token)

    def recover(self, volume: str, key: ConfiguredKey, token: str | None) -> Iterator[Secret]:
        """Yield each inner candidate with the salt, and behind it what stands before its first newline.

        Talos before go-blockdevice 2.0.24 read a key that it added (not formatted with) as one line. One salt in eight
        has a newline in it; the slot then holds what stands before it.
        """
        _refuse_state(volume, key)
        with ExitStack() as kept, self._salts.existing() as salt:
            lines: list[Secret] = []
            for candidate in self._inner.recover(volume, key, token):
                with candidate:
                    # What an inner key was cut off to: no slot holds it with a salt behind.
                    if candidate in lines:
                        continue
                    whole = Secret.join(candidate, salt)
                line = _first_line(whole)
                yield whole
                if line is None:
                    continue
                if line not in lines:
                    yield Secret.join(line)
                lines.append(kept.enter_context(line))

    def explain_rejection(self, volume: str, key: ConfiguredKey) -> str | None:
        """Say what `inner` knows, else that STATE may be another one now."""
        return self._inner.explain_rejection(volume, key) or (
            "the key, followed by the salt that STATE holds now, does not open this slot: "
            "the key or STATE's salt is not the one that the slot was made with"
        )


def _first_line(key: Secret) -> Secret | None:
    """Return what stands before the first newline; None where there is none, or nothing before it."""
    with key.view() as view:
        length = next((index for index, byte in enumerate(view) if byte == _NEWLINE), 0)
        # toreadonly: taking from writable memory would zero the key itself.
        return Secret.take(view[:length].toreadonly()) if length else None


def _refuse_state(volume: str, key: ConfiguredKey) -> None:
    if volume == STATE:
        raise KeyRejected(
            "STATE cannot be locked to STATE",
            volume=volume,
            slot=key.slot,
            hint="take lockToState out of the keys of STATE",
        )
