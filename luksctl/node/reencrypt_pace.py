"""How fast a re-encryption goes: held to a rate, and told in a file that status reads, as is what stopped it."""

from __future__ import annotations

import json
import os
from contextlib import suppress

from luksctl.errors import LuksctlError, NeedsReboot
from luksctl.hints import Final
from luksctl.node.files import read_file, replace_file
from luksctl.node.node import Node
from luksctl.value import frozen

_TOLD_EVERY_S: Final = 1.0
# The rate is that of the last half minute: what ran before says little about what other work leaves to it now.
_WINDOW_S: Final = 30.0
# A stop is noticed between two of these.
_SLEEP_S: Final = 0.25


@frozen
class Rate:
    """How fast it went of late; `told_s` is when that was, on the clock of this boot."""

    bytes_per_s: float
    told_s: float


@frozen
class Stop:
    """Why the last run of this boot ended before its time, in words; `for_good`: no run in this boot can go on."""

    why: str
    for_good: bool


class Pace:
    """Called after every hot zone: waits where it is ahead of `max_rate_bytes_s` (0: never), and tells the rate.

    `say` is called as often as the file is written, with bytes done, bytes in all and the rate.
    """

    def __init__(self, node: Node, volume: str, max_rate_bytes_s: int) -> None:
        self._node = node
        self._path = rate_path(node, volume)
        self._max_rate_bytes_s = max_rate_bytes_s
        self._begun: tuple[float, int] | None = None
        self._seen: list[tuple[float, int]] = []
        self._told_s = float("-inf")

    def __call__(self, done_bytes: int, total_bytes: int) -> None:
        """Wait as long as it is too fast, and take note of how far it is."""
        if self._begun is None:
            self._begun = self._now_s, done_bytes
        begun_s, begun_bytes = self._begun
        if self._max_rate_bytes_s:
            ends_s = begun_s + (done_bytes - begun_bytes) / self._max_rate_bytes_s
            while (left_s := ends_s - self._now_s) > 0:
                self._node.system.sleep(min(left_s, _SLEEP_S))
        # After the wait, which is part of the time that these bytes took.
        self._note(done_bytes, total_bytes)

    def close(self) -> None:
        """Take the file away: nothing runs any more."""
        with suppress(FileNotFoundError):
            os.unlink(self._path)

    @property
    def _now_s(self) -> float:
        return self._node.system.monotonic_s()

    def _note(self, done_bytes: int, total_bytes: int) -> None:
        now_s = self._now_s
        self._seen = [(at_s, done) for at_s, done in self._seen if at_s > now_s - _WINDOW_S]
        self._seen.append((now_s, done_bytes))
        if now_s - self._told_s >= _TOLD_EVERY_S or done_bytes == total_bytes:
            self._told_s = now_s
            self._tell(now_s)

    def _tell(self, now_s: float) -> None:
        first_s, first_bytes = self._seen[0] if len(self._seen) > 1 else self._begun or (now_s, 0)
        took_s = now_s - first_s
        rate = (self._seen[-1][1] - first_bytes) / took_s if took_s > 0 else 0.0
        content = json.dumps({"bytesPerSecond": rate, "toldSeconds": now_s}).encode() + b"\n"
        try:
            os.makedirs(os.path.dirname(self._path), mode=0o755, exist_ok=True)
            replace_file(self._path, content, mode=0o644)
        except OSError as error:
            # It only tells: a full /run stops no re-encryption.
            self._node.tell(f"{self._path} cannot be written: {error.strerror}")


def rate_path(node: Node, volume: str) -> str:
    """Return the file in which the run of `volume` tells its rate."""
    return f"{node.paths.run_dir}/reencrypt/{volume}.json"


def read_rate(node: Node, volume: str) -> Rate | None:
    """Return how fast the run of `volume` goes, or None where none told."""
    try:
        text = read_file(rate_path(node, volume))
        if text is None:
            return None
        fields = json.loads(text)
        return Rate(float(fields["bytesPerSecond"]), float(fields["toldSeconds"]))
    except (OSError, ValueError, TypeError, LookupError):
        return None


def note_stop(node: Node, volume: str, error: LuksctlError | None) -> None:
    """Keep what ended the run of `volume` for those who ask later in this boot; None takes that away."""
    path = _stop_path(node, volume)
    if error is None:
        with suppress(FileNotFoundError):
            os.unlink(path)
        return
    hint = "" if error.hint is None else f" ({error.hint})"
    why = str(error).removeprefix(f"{volume}: ")
    content = json.dumps({"why": f"{why}{hint}", "forGood": isinstance(error, NeedsReboot)}).encode() + b"\n"
    try:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        replace_file(path, content, mode=0o644)
    except OSError as problem:
        node.tell(f"{path} cannot be written: {problem.strerror}")


def read_stop(node: Node, volume: str) -> Stop | None:
    """Return what ended the last run of `volume` in this boot, or None where nothing did."""
    try:
        text = read_file(_stop_path(node, volume))
        if text is None:
            return None
        fields = json.loads(text)
        return Stop(str(fields["why"]), bool(fields["forGood"]))
    except (OSError, ValueError, TypeError, LookupError):
        return None


def _stop_path(node: Node, volume: str) -> str:
    return f"{node.paths.run_dir}/reencrypt/{volume}.stopped.json"
