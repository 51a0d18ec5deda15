"""Where the boot is and what was signed: by the value of PCR 11 alone, and with the log of the firmware."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luksctl.errors import TpmReason, TpmRejected
from luksctl.providers.tpm_eventlog import read_measured, replay
from luksctl.providers.tpm_files import SIGNATURE
from luksctl.providers.tpm_phases import Phase, extended, find_phase
from luksctl.providers.tpm_policy import pcr_policy
from tests.providers.measured_boot import IMAGE, IPL, KEY, Machine, boot, event_log, image_value
from tests.providers.swtpm import Swtpm

BASE = image_value(b"image", ())
INITRD = ("enter-initrd",)
LEFT = ("enter-initrd", "leave-initrd")
MACHINED = (*LEFT, "enter-machined")
LOG = event_log((0, 8, b"firmware"), (11, 3, b"no action"), (11, IPL, b"image"), (7, IPL, b"else"))


def signed(*words: str) -> bytes:
    """Return the policy that is signed for the image after these phases."""
    return pcr_policy({11: extended(BASE, words)}, (11,))


@pytest.mark.parametrize(
    ("now", "digests", "phase", "told"),
    [
        (BASE, [signed(*INITRD)], Phase(image=True, ahead=(INITRD,)), "before the phase enter-initrd"),
        (
            extended(BASE, LEFT),
            [signed(*LEFT, "sysinit", "ready")],
            Phase(image=True, ahead=(("sysinit", "ready"),)),
            "before the phase sysinit, and what is signed comes after sysinit and ready",
        ),
        (
            BASE,
            [signed("sysinit"), signed("sysinit", "ready")],
            Phase(image=True, ahead=(("sysinit",), ("sysinit", "ready"))),
            "comes after sysinit or sysinit and ready",
        ),
        (extended(BASE, LEFT), [signed(*INITRD)], Phase(image=None), "the boot is past them"),
        (BASE, [], Phase(image=None), "neither at nor before any signed phase"),
        (bytes(32), [signed(*INITRD)], Phase(image=False), "no unified kernel image was measured into PCR 11"),
        (
            extended(bytes(32), LEFT),
            [signed(*INITRD)],
            Phase(image=False, passed=LEFT),
            "only the phases up to leave-initrd",
        ),
    ],
)
def test_the_phase_by_the_value_alone(now: bytes, digests: list[bytes], phase: Phase, told: str) -> None:
    """What lies ahead is found by going on, and a boot without an image by starting from nothing."""
    assert find_phase(now, digests) == phase
    assert told in str(phase)
    assert not phase.over


@pytest.mark.parametrize(
    ("now", "digests", "phase", "told", "over"),
    [
        (
            extended(BASE, LEFT),
            [signed(*INITRD)],
            Phase(image=True, passed=LEFT, signed=(INITRD,)),
            "the boot is past what was signed: PCR 11 is after leave-initrd, and signed is it after enter-initrd",
            True,
        ),
        (
            extended(BASE, (*MACHINED, "start-the-world")),
            [signed(*MACHINED)],
            Phase(image=True, passed=(*MACHINED, "start-the-world"), signed=(MACHINED,)),
            "PCR 11 is after start-the-world, and signed is it after enter-machined",
            True,
        ),
        (
            BASE,
            [signed(*INITRD), signed(*LEFT)],
            Phase(image=True, passed=(), ahead=(INITRD, LEFT), signed=(INITRD, LEFT)),
            "the boot is before what was signed: PCR 11 is before all phases",
            False,
        ),
        (
            extended(BASE, ("something else",)),
            [signed(*INITRD)],
            Phase(image=True, signed=(INITRD,)),
            "PCR 11 was extended with something that is no phase",
            False,
        ),
        (
            extended(BASE, LEFT),
            [pcr_policy({11: b"\1" * 32}, (11,))],
            Phase(image=True, passed=LEFT),
            "the image that was booted is not signed for any phase, and PCR 11 is after leave-initrd",
            False,
        ),
    ],
)
def test_the_phase_with_the_log(now: bytes, digests: list[bytes], phase: Phase, told: str, over: bool) -> None:  # noqa: FBT001
    """What PCR 11 held before the first phase tells both where it is and what was signed."""
    assert find_phase(now, digests, BASE) == phase
    assert told in str(phase)
    assert phase.over == over


def test_a_log_is_replayed() -> None:
    """Events of other PCRs, and those that extend nothing, do not count."""
    assert replay(LOG, 11) == image_value(b"image", ())
    assert replay(LOG, 12) is None


def test_a_log_that_is_not_there_says_nothing(tmp_path: Path) -> None:
    """Most virtual machines have none."""
    assert read_measured(11, str(tmp_path / "none")) is None
    (tmp_path / "log").write_bytes(LOG)
    assert read_measured(11, str(tmp_path / "log")) == BASE


@given(content=st.binary(max_size=200), start=st.integers(0, len(LOG)), end=st.integers(0, len(LOG)))
def test_any_log_is_replayed_or_passed_over(content: bytes, start: int, end: int) -> None:
    """Nothing is raised, whatever firmware wrote."""
    for log in (content, LOG[:start], LOG[:start] + content + LOG[end:]):
        assert replay(log, 11) is None or len(replay(log, 11) or b"") == 32


def test_a_node_that_is_up_is_past_what_was_signed(tmp_path: Path) -> None:
    """Making and opening both say so, and that nothing is wrong; an image that was not signed is something else."""
    with Swtpm() as tpm:
        machine = Machine(tpm, tmp_path)
        machine.files.sign(image_value(IMAGE))
        boot(tpm)
        _, token = machine.make()
        machine.event_log.write_bytes(event_log((11, IPL, IMAGE)))
        boot(tpm, phases=LEFT)
        for act in (lambda: machine.recover(token, KEY), machine.make):
            with pytest.raises(TpmRejected, match="the boot is past what was signed") as caught:
                act()
            assert caught.value.reason is TpmReason.PHASE_OVER
        boot(tpm, image=b"another image")
        machine.event_log.write_bytes(event_log((11, IPL, b"another image")))
        with pytest.raises(TpmRejected, match="not signed for any phase, and PCR 11 is after enter-initrd") as caught:
            machine.make()
        assert caught.value.reason is TpmReason.NO_SIGNATURE


def test_without_any_signature_the_phase_is_named_all_the_same(tmp_path: Path) -> None:
    """Whoever forgot to sign an image learns at which moment of the boot its signature was needed."""
    with Swtpm() as tpm:
        machine = Machine(tpm, tmp_path)
        machine.files.sign(image_value(IMAGE))
        (machine.files.directory / SIGNATURE).write_text('{"sha256": []}')
        boot(tpm, phases=LEFT)
        machine.event_log.write_bytes(event_log((11, IPL, IMAGE)))
        with pytest.raises(TpmRejected, match="no signature was found at all, and PCR 11 is after leave-initrd"):
            machine.make()
