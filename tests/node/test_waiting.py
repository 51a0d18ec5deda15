"""What a boot waits for, and what it leaves to another stage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from luksctl.errors import KmsReason, KmsUnavailable, Locked, LuksctlError, ProviderUnavailable
from luksctl.node.node import Node
from luksctl.node.waiting import Deadline, until
from luksctl.reconcile.keys import Failures
from luksctl.value import replace
from tests.node.nodes import RecordedSystem, bench
from tests.reconcile.providers import kms, node_id, static


@dataclass
class PassingTime(RecordedSystem):
    """A clock that sleeping sets forward."""

    now_s: float = 0.0

    def monotonic_s(self) -> float:
        """Return the time."""
        return self.now_s

    def sleep(self, seconds: float) -> None:
        """Let it pass."""
        self.now_s += seconds


def failing(error: LuksctlError, asked: list[int]) -> Callable[[], None]:
    """Return an attempt that fails, and counts."""

    def attempt() -> None:
        asked.append(1)
        raise error

    return attempt


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """Return a node whose clock goes on."""
    found = bench(tmp_path)
    return replace(found.node, system=PassingTime(str(found.state), found.system.link))


def test_what_may_mend_itself_is_tried_until_the_deadline(node: Node) -> None:
    """And not longer."""
    asked: list[int] = []
    with pytest.raises(ProviderUnavailable):
        until(node, Deadline(node, 30.0), failing(ProviderUnavailable("the TPM is busy"), asked))
    assert len(asked) > 3
    assert node.system.monotonic_s() == 30.0


def test_what_needs_the_network_is_not_waited_for_here(node: Node) -> None:
    """The boot goes on at once, and with it the network comes."""
    asked: list[int] = []
    error = KmsUnavailable("the KMS is asked once the network is up", reason=KmsReason.NETWORK_LATER)
    with pytest.raises(KmsUnavailable):
        until(node, Deadline(node, 30.0), failing(error, asked))
    assert asked == [1]
    assert node.system.monotonic_s() == 0


def later() -> KmsUnavailable:
    return KmsUnavailable("the KMS is asked once the network is up", reason=KmsReason.NETWORK_LATER)


@pytest.mark.parametrize(
    ("other", "combined"),
    [(Locked("a wrong key"), KmsUnavailable), (ProviderUnavailable("the TPM is busy"), KmsUnavailable)],
)
def test_one_key_of_a_kms_is_enough_to_go_on_there(other: LuksctlError, combined: type[LuksctlError]) -> None:
    """What else may come is waited for in that stage as well; without a kms key nothing changes."""
    failures = Failures("STATE")
    failures.add(kms(0), later())
    failures.add(node_id(1), other)
    error = failures.combined("opens the volume")
    assert type(error) is combined
    assert error.volume == "STATE"
    alone = Failures("STATE")
    alone.add(static(1), other)
    assert not isinstance(alone.combined("opens the volume"), KmsUnavailable)
