"""What the PCRs held when tpm keys were sealed: `sealed-pcrs.json` in STATE, so that a mismatch names old and new.

It only explains: nothing is decided by it, and it holds no secret. The first key of STATE itself is sealed before there
is a STATE to note it in; what it was sealed to waits in /run until there is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress

from luksctl.hints import Any, Final, final
from luksctl.node.files import read_file, replace_file
from luksctl.providers.tpm_policy import PcrValues

FILE_NAME: Final = "sealed-pcrs.json"
_VERSION: Final = 1
# Each entry is some hundred bytes; the oldest ones go first.
_REMEMBERED: Final = 64


@final
class StateSealedPcrs:
    """The store for TpmProvider; `directory` returns where STATE is mounted, or None: then the file `waiting` serves.

    What cannot be written is told, and what cannot be read counts as not noted: the key serves without.
    """

    def __init__(self, directory: Callable[[], str | None], waiting: str, tell: Callable[[str], None]) -> None:
        self._directory = directory
        self._waiting = waiting
        self._tell = tell

    def note(self, policy_hash: bytes, values: PcrValues) -> None:
        """Remember that a key was sealed to `policy_hash` while the PCRs held `values`. Cut: noted or not."""
        pcrs = {str(pcr): value.hex() for pcr, value in sorted(values.items())}
        self._add(self._path() or self._waiting, [{"policy": policy_hash.hex(), "pcrs": pcrs}])

    def take_over(self) -> None:
        """Bring what waits into STATE, once that is mounted. Cut: it waits, is in STATE, or both; a reboot loses it."""
        path, waiting = self._path(), self._read(self._waiting)
        if path is not None:
            self._add(path, waiting)
            with suppress(FileNotFoundError):
                os.unlink(self._waiting)

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

    def _add(self, path: str, entries: list[dict[str, Any]]) -> None:
        known = {entry.get("policy") for entry in entries}
        others = [entry for entry in self._read(path) if entry.get("policy") not in known]
        document = {"version": _VERSION, "sealed": [*others, *entries][-_REMEMBERED:]}
        try:
            replace_file(path, json.dumps(document, indent=2).encode() + b"\n")
        except OSError as error:
            self._tell(f"{path} cannot be written ({error.strerror}): a later mismatch will not name the old values")

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
