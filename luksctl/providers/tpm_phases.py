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


Words = tuple[str, ...]


@frozen
class Phase:
    """What is known: `image` is False where none was measured; `passed`: the words so far, None where not known.

    `ahead` are the ways from here to a signed value, and `signed` the phases that are signed for this very image.
    """

    image: bool | None
    passed: Words | None = None
    ahead: tuple[Words, ...] = ()
    signed: tuple[Words, ...] = ()

    @property
    def over(self) -> bool:
        """Tell whether this image was signed, and the boot is past what was: only the next boot comes there again."""
        return self.passed is not None and bool(self.signed) and not self.ahead

    @property
    def place(self) -> str:
        """Return where PCR 11 is, for the end of a sentence; nothing where that is not known."""
        return "" if self.passed is None else f", and PCR {SIGNED_PCR} is {_after(self.passed)}"

    def __str__(self) -> str:
        if self.image is False:
            after = f", only the phases up to {self.passed[-1]}" if self.passed else ""
            return f"no unified kernel image was measured into PCR {SIGNED_PCR}{after}"
        if self.signed and self.passed is not None:
            place = "past" if self.over else "before"
            return (
                f"the boot is {place} what was signed: PCR {SIGNED_PCR} is {_after(self.passed)}, and signed is it "
                + (" or ".join(_after(words) for words in self.signed))
            )
        if self.signed:
            signed = " or ".join(_after(words) for words in self.signed)
            return f"PCR {SIGNED_PCR} was extended with something that is no phase, and signed is it {signed}"
        if self.ahead:
            ways = " or ".join(" and ".join(words) for words in self.ahead)
            return f"PCR {SIGNED_PCR} is before the phase {self.ahead[0][0]}, and what is signed comes after {ways}"
        if self.image:
            return f"the image that was booted is not signed for any phase{self.place}"
        return (
            f"PCR {SIGNED_PCR} is neither at nor before any signed phase: the boot is past them, "
            "or another image was booted"
        )


def find_phase(now: bytes, signed: Iterable[bytes], image: bytes | None = None) -> Phase:
    """Return what PCR 11 holding `now` says about itself.

    `signed` are the policy digests that known keys signed, `image` is what PCR 11 held before the first phase, where
    a log tells.
    """
    for words in _runs():
        if words[0] == _SYSTEMD[0] and extended(_RESET, words) == now:
            return Phase(image=False, passed=words)
    if now == _RESET:
        return Phase(image=False)
    wanted = frozenset(signed)
    ahead = tuple(words for words in _runs() if _policy(now, words) in wanted)
    if image is None:
        return Phase(True if ahead else None, ahead=ahead)
    every = ((), *_runs())
    passed = next((words for words in every if extended(image, words) == now), None)
    return Phase(True, passed, ahead, tuple(words for words in every if _policy(image, words) in wanted))


def _policy(value: bytes, words: Words) -> bytes:
    return pcr_policy({SIGNED_PCR: extended(value, words)}, (SIGNED_PCR,))


def _after(words: Words) -> str:
    return f"after {words[-1]}" if words else "before all phases"


def extended(value: bytes, words: Iterable[str]) -> bytes:
    """Return what a PCR holds after `value` was extended with the SHA-256 of each of `words`."""
    for word in words:
        value = hashlib.sha256(value + hashlib.sha256(word.encode()).digest()).digest()
    return value


def _runs() -> Iterator[Words]:
    """Yield every run of phases that follow one another, each once, shortest first."""
    runs = {
        words[start:end]: None
        for words in (_SYSTEMD, _TALOS)
        for start in range(len(words))
        for end in range(start + 1, len(words) + 1)
    }
    yield from sorted(runs, key=len)
