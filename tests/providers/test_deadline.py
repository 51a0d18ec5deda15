"""A provider that hangs, fails or answers late: the caller goes on in time, and no key is left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Event

import pytest

from luksctl.errors import KeyRejected, ProviderUnavailable, TokenInvalid, TpmReason, TpmUnavailable
from luksctl.model.config import ConfiguredKey, KmsKey
from luksctl.model.ports import MadeKey
from luksctl.providers.deadline import Deadline, PunctualProvider
from luksctl.secret import Secret
from tests.marker import MARKER

KEY = ConfiguredKey(2, KmsKey("https://kms:4050"))
LONG_S = 60.0  # never waited for: an answer comes first
SHORT_S = 0.02


class Slow:
    """A provider that answers only after `answer` was set; `last` is what it gave, and `asked` how often it was."""

    def __init__(self, error: Exception | None = None) -> None:
        self.answer = Event()
        self.answered = Event()
        self.last: Secret | None = None
        self.asked = 0
        self._error = error

    def make(self, volume: str, key: ConfiguredKey) -> MadeKey:  # noqa: ARG002  # the port
        """Make a key when allowed to."""
        return MadeKey(self._key(), "{}")

    def recover(self, volume: str, key: ConfiguredKey, token: str | None) -> Iterator[Secret]:  # noqa: ARG002
        """Yield two keys, each when allowed to."""
        yield self._key()
        yield self._key()

    def explain_rejection(self, volume: str, key: ConfiguredKey) -> str | None:  # noqa: ARG002
        """Say something."""
        return "explained"

    def _key(self) -> Secret:
        self.asked += 1
        assert self.answer.wait(LONG_S)
        if self._error is not None:
            raise self._error
        self.last = Secret.take(bytes(MARKER))
        self.answered.set()
        return self.last


def make(provider: PunctualProvider) -> Secret:
    return provider.make("EPHEMERAL", KEY).key


def recover(provider: PunctualProvider) -> Secret:
    return next(provider.recover("EPHEMERAL", KEY, "{}"))


BOTH = pytest.mark.parametrize("ask", [make, recover])


@BOTH
def test_an_answer_in_time_is_passed_on(ask: Callable[[PunctualProvider], Secret]) -> None:
    """The key is the caller's, and open."""
    inner = Slow()
    inner.answer.set()
    with ask(PunctualProvider(inner, Deadline("the KMS", LONG_S))) as key, key.view() as view:
        assert bytes(view) == MARKER


@BOTH
@pytest.mark.parametrize("error", [KeyRejected("no"), TokenInvalid("no"), ProviderUnavailable("no"), OSError("no")])
def test_an_error_in_time_is_passed_on(ask: Callable[[PunctualProvider], Secret], error: Exception) -> None:
    """The very error, whatever it is."""
    inner = Slow(error)
    inner.answer.set()
    with pytest.raises(type(error)) as caught:
        ask(PunctualProvider(inner, Deadline("the KMS", LONG_S)))
    assert caught.value is error


@BOTH
def test_who_hangs_is_unavailable(ask: Callable[[PunctualProvider], Secret]) -> None:
    """The message says who, and how long was waited."""
    inner = Slow()
    with pytest.raises(ProviderUnavailable, match=r"^the KMS did not answer in 0\.02 s$"):
        ask(PunctualProvider(inner, Deadline("the KMS", SHORT_S)))
    inner.answer.set()


def test_the_error_for_lateness_can_be_of_ones_own() -> None:
    """A TPM that is slow says so by its reason."""
    inner = Slow()
    deadline = Deadline("the TPM", SHORT_S, late=lambda cause: TpmUnavailable(cause, reason=TpmReason.SLOW))
    with pytest.raises(TpmUnavailable) as caught:
        make(PunctualProvider(inner, deadline))
    assert caught.value.reason is TpmReason.SLOW
    inner.answer.set()


@BOTH
def test_a_key_that_comes_late_is_wiped(ask: Callable[[PunctualProvider], Secret]) -> None:
    """The thread that was left behind closes what it gets."""
    inner = Slow()
    deadline = Deadline("the KMS", SHORT_S)
    with pytest.raises(ProviderUnavailable):
        ask(PunctualProvider(inner, deadline))
    inner.answer.set()
    # Whoever comes next waits for it to end, so what it got is closed by then.
    patient = PunctualProvider(inner, Deadline("the KMS", LONG_S))
    patient._deadline._running = deadline._running
    assert patient.explain_rejection("EPHEMERAL", KEY) == "explained"
    assert inner.last is not None
    assert inner.last.closed


def test_who_hangs_is_not_asked_beside_the_first_time() -> None:
    """A second call asks nothing as long as the first did not end."""
    inner = Slow()
    provider = PunctualProvider(inner, Deadline("the KMS", SHORT_S))
    for told in (r"in 0\.02 s$", ", nor since$", ", nor since$"):
        with pytest.raises(ProviderUnavailable, match=told):
            make(provider)
    assert inner.asked == 1
    inner.answer.set()


def test_who_hung_is_not_waited_for_as_long_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each volume and each slot asks: a boot with another key is not to pay the whole time for every one of them."""
    monkeypatch.setattr("luksctl.providers.deadline._AGAIN_S", SHORT_S)
    inner = Slow()
    deadline = Deadline("the KMS", SHORT_S)
    provider = PunctualProvider(inner, deadline)
    with pytest.raises(ProviderUnavailable):
        make(provider)
    deadline._timeout_s = 100 * LONG_S  # longer than the test may take
    with pytest.raises(ProviderUnavailable, match=r", nor since$"):
        make(provider)
    inner.answer.set()


def test_after_a_late_answer_the_next_call_is_served() -> None:
    """One that was slow once is not given up."""
    inner = Slow()
    deadline = Deadline("the KMS", SHORT_S)
    provider = PunctualProvider(inner, deadline)
    with pytest.raises(ProviderUnavailable):
        make(provider)
    inner.answer.set()
    assert inner.answered.wait(LONG_S)
    deadline._timeout_s = LONG_S
    with make(provider) as key:
        assert not key.closed


def test_an_interrupt_leaves_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C between the answer and its use closes the key."""
    inner = Slow()
    inner.answer.set()
    deadline = Deadline("the KMS", LONG_S)

    def interrupted(call: object, until: float) -> bool:  # noqa: ARG001  # as the method
        assert inner.answered.wait(LONG_S)
        raise KeyboardInterrupt

    monkeypatch.setattr(deadline, "_waited", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make(PunctualProvider(inner, deadline))
    monkeypatch.undo()
    deadline.run(lambda: None, lambda _: None)
    assert inner.last is not None
    assert inner.last.closed


def test_silence_is_told_while_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever watches hears that something is waited for."""
    monkeypatch.setattr("luksctl.providers.deadline._TELL_EVERY_S", SHORT_S / 10)
    told: list[str] = []
    inner = Slow()
    with pytest.raises(ProviderUnavailable):
        make(PunctualProvider(inner, Deadline("the TPM", SHORT_S, tell=told.append)))
    assert told
    assert told[0].startswith("the TPM has not answered for ")
    inner.answer.set()


def test_candidates_are_asked_for_one_at_a_time() -> None:
    """The second is not waited for by who needs only the first."""
    inner = Slow()
    inner.answer.set()
    candidates = PunctualProvider(inner, Deadline("the KMS", LONG_S)).recover("EPHEMERAL", KEY, "{}")
    next(candidates).close()
    assert inner.asked == 1
    assert len(list(candidates)) == 1
    assert inner.asked == 2
