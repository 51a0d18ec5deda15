"""A KMS that is away or lies, at each moment: what opened a volume before opens it after. Real headers, real TLS."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import grpc
import pytest

from luksctl.errors import KmsReason, KmsUnavailable, LuksctlError
from luksctl.model.config import EPHEMERAL, STATE
from luksctl.model.kms_wire import UNSEAL, encode_response
from luksctl.node.rotate import rotate_slot
from luksctl.node.sync import sync
from luksctl.providers.kms_errors import translate
from tests.node.kms_node import PASSPHRASE, UUID, VOLUMES, KmsNode
from tests.providers.authorities import Authority
from tests.providers.kms_server import KmsServer, free_port
from tests.providers.stock import opens
from tests.sampling import sampled

Fault = Callable[[KmsServer], None]


def spoiling(answer: Callable[[bytes], bytes]) -> Fault:
    """Return a fault that changes every answer."""

    def spoil(server: KmsServer) -> None:
        server.spoil = lambda _, right: answer(right)

    return spoil


def late(server: KmsServer) -> None:
    server.late_s = 30


def revoked(server: KmsServer) -> None:
    server.allowed = set()


def random_unseals(server: KmsServer) -> None:
    server.spoil = lambda method, right: encode_response(os.urandom(32)) if method == UNSEAL else right


def failing(server: KmsServer) -> None:
    server.refuse_with = (grpc.StatusCode.INTERNAL, "out of order")


def refusing(server: KmsServer) -> None:
    server.refuse_with = (grpc.StatusCode.INVALID_ARGUMENT, "cannot unseal this")


def go_away(server: KmsServer) -> None:
    server._server.stop(0)


FAULTS: dict[str, Fault] = {
    "late": late,
    "garbage": spoiling(lambda _: b"\xff\xff\xff\xff"),
    "truncated": spoiling(lambda right: right[: len(right) // 2]),
    "wrong length": spoiling(lambda right: encode_response(right + b"more")),
    "nothing": spoiling(lambda _: b""),
    "random bytes": random_unseals,
    "revoked": revoked,
    "failing": failing,
    "refusing": refusing,
}


def heal(server: KmsServer) -> None:
    """Have the server behave again."""
    server.late_s, server.spoil, server.refuse_with, server.allowed = 0.0, None, None, None


class FromCall:
    """Spoils a server from its `number`-th call (from 0) on."""

    def __init__(self, server: KmsServer, fault: Fault, number: int) -> None:
        self._server, self._fault = server, fault
        self._left = number
        self._whole = server.answer
        server.answer = self._answer  # type: ignore[method-assign]  # this very server, for a while

    def _answer(self, method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        if self._left == 0:
            self._fault(self._server)
        self._left -= 1
        return self._whole(method, request, context)

    def end(self) -> bool:
        """Have the server behave again, and tell whether the fault came."""
        self._server.answer = self._whole  # type: ignore[method-assign]  # as above
        heal(self._server)
        return self._left < 0


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KmsNode:
    """Return a node whose config has a static key only."""
    return KmsNode(tmp_path, monkeypatch, late_s=0.7)


def assert_static_opens(node: KmsNode) -> None:
    for volume in VOLUMES:
        assert opens(node.images[volume], PASSPHRASE.encode())


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_while_a_key_is_made_costs_nothing(node: KmsNode, name: str) -> None:
    """The slot is not written, or left out; with the KMS healthy again the next sync has it."""
    with KmsServer(node.authority) as server:
        node.use(server)
        FAULTS[name](server)
        assert node.problems() != ""
        assert_static_opens(node)
        heal(server)
        assert node.in_sync()
        for volume in VOLUMES:
            node.works(volume)
        assert_static_opens(node)


@pytest.mark.parametrize("name", sampled(tuple(FAULTS), 4))
def test_a_fault_in_the_middle_of_a_rotation_leaves_a_key_that_works(node: KmsNode, name: str) -> None:
    """From each call on: the old key or the new one opens when the KMS is healthy again, and a sync ends the change."""
    with KmsServer(node.authority) as server:
        node.use(server)
        assert node.in_sync()
        number, came = 0, True
        while came:
            fault = FromCall(server, FAULTS[name], number)
            with suppress(LuksctlError):
                rotate_slot(node.node, EPHEMERAL, 1, lambda: pytest.fail("asked"), lambda *_: None)
            came = fault.end()
            assert_static_opens(node)
            assert node.in_sync(), (number, node.problems())
            node.works(EPHEMERAL)
            number += 1
        assert number > 2


def test_a_kms_that_goes_away_in_the_middle_of_a_rotation(node: KmsNode) -> None:
    """The same port, and the same master key when it is back."""
    port = free_port()
    with KmsServer(node.authority, port=port) as server:
        node.use(server)
        assert node.in_sync()
        fault = FromCall(server, go_away, 1)
        with suppress(LuksctlError):
            rotate_slot(node.node, STATE, 1, lambda: pytest.fail("asked"), lambda *_: None)
        fault.end()
        master_key = server.master_key
    assert_static_opens(node)
    with KmsServer(node.authority, port=port, master_key=master_key):
        assert node.in_sync()
        node.works(STATE)


def test_what_is_in_sync_asks_nobody(node: KmsNode) -> None:
    """The fingerprint over token and slot says so, while another key opens."""
    with KmsServer(node.authority) as server:
        node.use(server)
        assert node.in_sync()
    asked = len(server.calls)
    assert node.in_sync()
    assert len(server.calls) == asked


@pytest.mark.parametrize("random_bytes", [True, False])
def test_a_kms_with_another_master_key_costs_no_slot(node: KmsNode, random_bytes: bool) -> None:  # noqa: FBT001
    """It answers, and wrongly: that is told, and the slot stays until somebody says that the old key is gone."""
    with KmsServer(node.authority) as right, KmsServer(node.authority) as wrong:
        wrong.random_on_mismatch = random_bytes
        node.use(right)
        assert node.in_sync()
        before = node.bytes_of(EPHEMERAL)
        node.use(wrong)
        problems = node.problems()
        assert "luksctl keys rotate EPHEMERAL --slot 1" in problems
        assert ("does not open the keyslot" in problems) == random_bytes
        assert node.bytes_of(EPHEMERAL) == before
        node.use(right)
        assert node.in_sync()
        node.works(EPHEMERAL)
        node.use(wrong)
        rotate_slot(node.node, EPHEMERAL, 1, lambda: pytest.fail("asked"), lambda *_: None)
        node.works(EPHEMERAL)


@pytest.mark.parametrize("days", [(-10, -1), (2, 10)])
def test_a_certificate_that_is_not_valid_costs_nothing(node: KmsNode, days: tuple[int, int]) -> None:
    """Neither one that expired nor one that is not valid yet; nor one from somebody else."""
    with KmsServer(node.authority) as server:
        node.use(server)
        assert node.in_sync()
    pairs = (node.authority.issue(days=days), Authority("a stranger").issue(), node.authority.issue("elsewhere"))
    for pair in pairs:
        with KmsServer(node.authority, pair=pair, port=server.port, master_key=server.master_key):
            with pytest.raises(KmsUnavailable):
                node.works(STATE)
            with suppress(LuksctlError):
                rotate_slot(node.node, STATE, 1, lambda: pytest.fail("asked"), lambda *_: None)
        assert_static_opens(node)
    with KmsServer(node.authority, port=server.port, master_key=server.master_key):
        node.works(STATE)


def test_a_clock_that_is_plainly_wrong_is_named_and_costs_nothing(
    node: KmsNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine without a battery shows 1970, and takes every certificate for one that is not valid yet."""
    with KmsServer(node.authority) as server:
        node.use(server)
        assert node.in_sync()
    later = node.authority.issue(days=(2, 10))
    with KmsServer(node.authority, pair=later, port=server.port, master_key=server.master_key):
        monkeypatch.setattr("luksctl.providers.kms_connection.translate", partial(translate, now=lambda: 0.0))
        with pytest.raises(KmsUnavailable, match=r"clock of this node is wrong \(1970-01-01\)") as caught:
            node.works(STATE)
        assert caught.value.reason is KmsReason.CLOCK
        with pytest.raises(LuksctlError):
            rotate_slot(node.node, STATE, 1, lambda: pytest.fail("asked"), lambda *_: None)
        assert_static_opens(node)
        monkeypatch.undo()
    with KmsServer(node.authority, port=server.port, master_key=server.master_key):
        assert node.in_sync()


def test_nothing_shows_the_uuid(node: KmsNode) -> None:
    """Not in what is told, nor in what a stubborn server repeats."""
    with KmsServer(node.authority) as server:
        node.use(server)
        server.allowed = set()
        shown = [str(synced) for synced in sync(node.node, VOLUMES)]
    assert "unknown, pending or revoked" in "".join(shown)
    assert UUID not in "".join((*shown, *node.told))
