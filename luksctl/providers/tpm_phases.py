"""In which phase of the boot PCR 11 is, as far as its value and the signed policies tell.

systemd-stub measures the image into PCR 11; each phase extends it with a word (systemd-pcrphase; Talos has words of
its own). A hash cannot be turned back, so what can be found is what lies ahead: the words after which the PCR would
have a signed value, or that it holds phases and no image at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from luksctl.hints import Final
from luksctl.providers.tpm_policy import SIGNED_PCR, pcr_policy
from luksctl.value import frozen

_SYSTEMD: Final = ("enter-initrd", "leave-initrd", "sysinit", "ready")
_TALOS: Final = ("enter-initrd", "leave-initrd", "enter-machined", "start-the-world")
_RESET: Final = bytes(32)


@frozen
class Phase:
    """What is known: `image` is False where none was measured, `ahead` has the words that lead to a signed value."""

    image: bool | None
    passed: tuple[str, ...] = ()
    ahead: tuple[tuple[str, ...], ...] = ()

    def __str__(self) -> str:
        if self.image is False:
            after = f", only the phases up to {self.passed[-1]}" if self.passed else ""
            return f"no unified kernel image was measured into PCR {SIGNED_PCR}{after}"
        if self.ahead:
            ways = " or ".join(" and ".join(words) for words in self.ahead)
            return f"PCR {SIGNED_PCR} is before the phase {self.ahead[0][0]}, and what is signed comes after {ways}"
        return (
            f"PCR {SIGNED_PCR} is neither at nor before any signed phase: the boot is past them, "
            "or another image was booted"
        )


def find_phase(now: bytes, signed: Iterable[bytes]) -> Phase:
    """Return what PCR 11 holding `now` says about itself; `signed` are the policy digests that known keys signed."""
    for words in _runs():
        if words[0] == _SYSTEMD[0] and extended(_RESET, words) == now:
            return Phase(image=False, passed=words)
    if now == _RESET:
        return Phase(image=False)
    wanted = frozenset(signed)
    ahead = [words for words in _runs() if pcr_policy({SIGNED_PCR: extended(now, words)}, (SIGNED_PCR,)) in wanted]
    return Phase(True if ahead else None, ahead=tuple(ahead))


def extended(value: bytes, words: Iterable[str]) -> bytes:
    """Return what a PCR holds after `value` was extended with the SHA-256 of each of `words`."""
    for word in words:
        value = hashlib.sha256(value + hashlib.sha256(word.encode()).digest()).digest()
    return value


def _runs() -> Iterator[tuple[str, ...]]:
    """Yield every run of phases that follow one another, each once, shortest first."""
    runs = {
        words[start:end]: None
        for words in (_SYSTEMD, _TALOS)
        for start in range(len(words))
        for end in range(start + 1, len(words) + 1)
    }
    yield from sorted(runs, key=len)
