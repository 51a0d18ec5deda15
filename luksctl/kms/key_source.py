"""Where the master key of a server comes from: read at the start, and again when somebody has rotated it."""

from __future__ import annotations

import os
from collections.abc import Callable

from luksctl.errors import SealError, UsageError
from luksctl.hints import Final, final
from luksctl.kms.keyfile import read_key
from luksctl.kms.keyring import Keyring
from luksctl.model.kms import KEY_CREDENTIAL, ServeOptions
from luksctl.secret import Secret

KEY_NAME: Final = "master.key"


@final
class KeySource:
    """The key file that was named; else the credential of the service, and master.key beside the list of nodes.

    The passphrase is kept as the key itself is, in a Secret of the first process: nobody is there to ask again.
    """

    def __init__(self, options: ServeOptions, ask: Callable[[], Secret]) -> None:
        self._options = options
        self._ask = ask
        self._passphrase: Secret | None = None

    def read(self) -> Secret:
        """Return the key as workers take it; UsageError, SealError or DeviceError where there is none that opens."""
        options = self._options
        if options.compat:
            return _reference_key(options)
        with read_key(self._paths()[0], self._given) as keyring:
            return keyring.text()

    def renewed(self, key: Secret) -> Secret | None:
        """Return a key that opens all that `key` does and was rotated since, or has more imported keys; else None.

        SealError where a file now holds another master key, or opens with another passphrase. Where no passphrase was
        needed at the start, there is none to look by.
        """
        if self._options.compat or self._passphrase is None:
            return None
        with Keyring(Secret.join(key)) as old:
            for path in self._paths():
                with read_key(path, self._given) as read:
                    if not read.extends(old) and not old.extends(read):
                        raise SealError(f"{path} holds another master key; only a restart takes that")
                    if read.extends(old) and not old.extends(read):
                        return read.text()
        return None

    def close(self) -> None:
        """Wipe the passphrase."""
        if self._passphrase is not None:
            self._passphrase.close()

    def _paths(self) -> list[str]:
        """Return where a key is, the credential first, which is a copy that systemd made at the start."""
        if self._options.key is not None:
            return [self._options.key]
        credential = os.path.join(os.environ.get("CREDENTIALS_DIRECTORY", ""), KEY_CREDENTIAL)
        places = [credential] if os.path.isabs(credential) else []
        own = os.path.join(self._options.directory, KEY_NAME)
        return [path for path in places if os.path.exists(path)] + ([own] if os.path.exists(own) or not places else [])

    def _given(self) -> Secret:
        if self._passphrase is None:
            self._passphrase = self._ask()
        return Secret.join(self._passphrase)


def _reference_key(options: ServeOptions) -> Secret:
    if options.key is None:
        raise UsageError("--compat needs --key FILE, the key file of the reference server")
    with open(options.key, "rb") as stream:
        return Secret.take(bytearray(stream.read()))
