"""Where the files of the signed PCR policy are: what the policy document names, or wherever systemd looks."""

from __future__ import annotations

import os

from luksctl.hints import Final
from luksctl.providers.tpm_eventlog import EVENT_LOG
from luksctl.providers.tpm_signatures import PcrKey, PcrSignature, SignedPolicy, read_public_keys, read_signatures
from luksctl.value import frozen

PUBLIC_KEY: Final = "tpm2-pcr-public-key.pem"
SIGNATURE: Final = "tpm2-pcr-signature.json"
# systemd's order, and last where systemd-stub puts what the image itself holds.
DIRECTORIES: Final = ("/etc/systemd", "/run/systemd", "/usr/lib/systemd", "/.extra")
# An image has a few entries of half a kilobyte each.
_LARGEST_BYTES: Final = 1 << 20


@frozen
class PolicyFiles:
    """Paths given by the operator, else `directories`; every file that is found there counts, in this order."""

    public_keys: tuple[str, ...] = ()
    signatures: tuple[str, ...] = ()
    directories: tuple[str, ...] = DIRECTORIES
    event_log: str = EVENT_LOG

    def read(self) -> SignedPolicy:
        """Return what the files hold; one that is missing counts as a problem only where it was named."""
        problems: list[str] = []
        keys: dict[str, PcrKey] = {}
        for path, content in _contents(self._paths(self.public_keys, PUBLIC_KEY), self.public_keys, problems):
            try:
                for key in read_public_keys(content, path):
                    keys.setdefault(key.fingerprint, key)
            except ValueError as error:
                problems.append(f"{path}: {error}")
        signatures: dict[PcrSignature, None] = {}
        for path, content in _contents(self._paths(self.signatures, SIGNATURE), self.signatures, problems):
            try:
                signatures |= dict.fromkeys(read_signatures(content))
            except ValueError as error:
                problems.append(f"{path}: {error}")
        return SignedPolicy(tuple(keys.values()), tuple(signatures), tuple(problems), self.event_log)

    def places(self) -> str:
        """Return where is looked for public keys, for a message."""
        return ", ".join(self._paths(self.public_keys, PUBLIC_KEY))

    def _paths(self, given: tuple[str, ...], name: str) -> tuple[str, ...]:
        return given or tuple(os.path.join(directory, name) for directory in self.directories)


def _contents(paths: tuple[str, ...], named: tuple[str, ...], problems: list[str]) -> list[tuple[str, bytes]]:
    found = []
    for path in paths:
        try:
            with open(path, "rb") as source:
                content = source.read(_LARGEST_BYTES + 1)
        except FileNotFoundError:
            if path in named:
                problems.append(f"{path}: there is no such file")
            continue
        except OSError as error:
            problems.append(f"{path}: {error.strerror}")
            continue
        if len(content) > _LARGEST_BYTES:
            problems.append(f"{path}: larger than {_LARGEST_BYTES >> 20} MiB")
        else:
            found.append((path, content))
    return found
