"""What the PCRs held when tpm keys were sealed: `sealed-pcrs.json` in STATE, so that a mismatch names old and new.

It only explains: nothing is decided by it, and it holds no secret. The first key of STATE itself is sealed before there
is a STATE to note it in.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable

from luksctl.hints import Any, Final, final
from luksctl.node.files import read_file, replace_file
from luksctl.providers.tpm_policy import PcrValues

FILE_NAME: Final = "sealed-pcrs.json"
_VERSION: Final = 1
# Each entry is some hundred bytes; the oldest ones go first.
_REMEMBERED: Final = 64


@final
class StateSealedPcrs:
    """The store for TpmProvider; `directory` returns where STATE is mounted, or None.

    What cannot be written is told, and what cannot be read counts as not noted: the key serves without.
    """

    def __init__(self, directory: Callable[[], str | None], tell: Callable[[str], None]) -> None:
        self._directory = directory
        self._tell = tell

    def note(self, policy_hash: bytes, values: PcrValues) -> None:
        """Remember that a key was sealed to `policy_hash` while the PCRs held `values`. Cut: noted or not."""
        path = self._path()
        if path is None:
            return
        policy = policy_hash.hex()
        others = [entry for entry in self._read(path) if entry.get("policy") != policy]
        entry = {"policy": policy, "pcrs": {str(pcr): value.hex() for pcr, value in sorted(values.items())}}
        document = {"version": _VERSION, "sealed": [*others, entry][-_REMEMBERED:]}
        try:
            replace_file(path, json.dumps(document, indent=2).encode() + b"\n")
        except OSError as error:
            self._tell(f"{path} cannot be written ({error.strerror}): a later mismatch will not name the old values")

    def recall(self, policy_hash: bytes) -> PcrValues | None:
        """Return the values that were noted for `policy_hash`, or None."""
        path, policy = self._path(), policy_hash.hex()
        if path is None:
            return None
        found = next((entry for entry in self._read(path) if entry.get("policy") == policy), None)
        try:
            return None if found is None else {int(pcr): bytes.fromhex(value) for pcr, value in found["pcrs"].items()}
        except (ValueError, TypeError, LookupError, AttributeError):
            return None

    def _path(self) -> str | None:
        directory = self._directory()
        return None if directory is None else os.path.join(directory, FILE_NAME)

    def _read(self, path: str) -> list[dict[str, Any]]:
        try:
            text = read_file(path)
            document = None if text is None else json.loads(text)
            if not isinstance(document, dict) or document.get("version") != _VERSION:
                return []
            return [entry for entry in document["sealed"] if isinstance(entry, dict)]
        except (OSError, ValueError, TypeError, LookupError, RecursionError):
            return []
