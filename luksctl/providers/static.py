"""The static provider: the key is the passphrase from the config."""

from __future__ import annotations

from collections.abc import Iterator

from luksctl.hints import Final, final
from luksctl.model.config import ConfiguredKey, StaticKey
from luksctl.model.ports import MadeKey
from luksctl.secret import Secret

_NEWLINE: Final = 0x0A


@final
class StaticProvider:
    """The passphrase's UTF-8 bytes are the key; no token, and nothing that can be unavailable."""

    def make(self, volume: str, key: ConfiguredKey) -> MadeKey:  # noqa: ARG002  # the same for every volume
        """Return a copy of the passphrase."""
        return MadeKey(Secret.join(_passphrase(key)))

    def recover(self, volume: str, key: ConfiguredKey, token: str | None) -> Iterator[Secret]:  # noqa: ARG002
        """Yield the passphrase, then what stands before its first newline.

        Talos before go-blockdevice 2.0.24 read a passphrase that it added as one line, so a slot that was added (not
        formatted) with a newline in its passphrase holds only that part. A token at the slot's number is somebody
        else's and does not matter here.
        """
        passphrase = _passphrase(key)
        yield Secret.join(passphrase)
        with passphrase.view() as view:
            # toreadonly: taking from writable memory would zero the passphrase itself.
            line_bytes = next((index for index, byte in enumerate(view) if byte == _NEWLINE), 0)
            line = Secret.take(view[:line_bytes].toreadonly()) if line_bytes else None
        if line is not None:
            yield line

    def explain_rejection(self, volume: str, key: ConfiguredKey) -> str | None:  # noqa: ARG002
        """Return None: a passphrase that does not fit says nothing about why."""
        return None


def _passphrase(key: ConfiguredKey) -> Secret:
    if not isinstance(key.source, StaticKey):
        raise TypeError(f"the static provider was given a {key.kind} key")
    return key.source.passphrase
