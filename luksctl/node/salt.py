"""STATE's salt for keys that are locked to it: made once, as Talos makes it, and never replaced."""

from __future__ import annotations

import os
from collections.abc import Callable

from luksctl.config.salt import SALT_BYTES, parse_salt, salt_text
from luksctl.errors import ConfigError, KeyRejected, ProviderUnavailable, TokenInvalid
from luksctl.hints import Final, final
from luksctl.node.files import create_file, read_file
from luksctl.secret import Secret

FILE_NAME: Final = "encryption-salt.yaml"


@final
class StateSalt:
    """The salt in the root of STATE, for providers.salted; `directory` returns where STATE is mounted, or None.

    `tell` is called when a salt is made: where slots were locked to an older one, that is worth a line.
    """

    def __init__(self, directory: Callable[[], str | None], tell: Callable[[str], None]) -> None:
        self._directory = directory
        self._tell = tell

    def existing(self) -> Secret:
        """Return the salt; TokenInvalid where there is none, KeyRejected for a damaged one. Writes nothing."""
        path = self._path()
        try:
            text = read_file(path)
        except OSError as error:
            raise ProviderUnavailable(f"the salt {path} cannot be read: {error.strerror}") from error
        if text is None:
            raise TokenInvalid(
                f"there is no salt in STATE ({path}), and a slot that is locked to STATE opens with nothing else",
                hint=f"restore {FILE_NAME} from a backup of STATE",
            )
        try:
            return parse_salt(text, path)
        except ConfigError as damage:
            raise KeyRejected(
                f"the salt that the key is locked to is damaged: {damage.problems[0]}",
                hint=f"restore {FILE_NAME} from a backup of STATE; if no slot was ever locked with it, remove it",
            ) from damage

    def existing_or_new(self) -> Secret:
        """Return the salt, and make it first where there is none.

        Cut: no salt, or the whole one; no slot was locked with it yet. It is read back from the file in any case.
        """
        path = self._path()
        try:
            with Secret.random(SALT_BYTES) as salt:
                if create_file(path, salt_text(salt)):
                    self._tell(f"STATE: made the salt for keys that are locked to it ({path})")
        except OSError as error:
            raise ProviderUnavailable(f"the salt {path} cannot be written: {error.strerror}") from error
        return self.existing()

    def _path(self) -> str:
        directory = self._directory()
        if directory is None:
            raise ProviderUnavailable(
                "STATE is not mounted, and the key is locked to the salt in it",
                hint="the key serves once STATE is open and mounted: luksctl status",
            )
        return os.path.join(directory, FILE_NAME)
