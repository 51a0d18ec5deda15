"""The stage of a boot that has a network: it opens what only a KMS can, and does what was left to do for keyslots."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from luksctl.model.config import STATE
from luksctl.node.clock import await_clock
from luksctl.node.network import with_network
from luksctl.node.report import Report, VolumeState, read_report, write_report
from luksctl.value import replace
from tests.node.image_node import MadeUpSystem
from tests.node.kms_node import VOLUMES, KmsNode
from tests.providers.kms_server import KmsServer


@dataclass
class PatientSystem(MadeUpSystem):
    """Sleeping is what lets things change; no unit fails."""

    slept: int = 0
    clock_looks: int = 0
    synchronised_after: int = 0
    change: dict[int, Callable[[], None]] = field(default_factory=dict)

    def sleep(self, seconds: float) -> None:  # noqa: ARG002
        """Let what is due happen."""
        self.slept += 1
        self.change.get(self.slept, lambda: None)()

    def clock_awaited(self) -> bool:
        """Be synchronised after some looks."""
        self.clock_looks += 1
        return self.clock_looks <= self.synchronised_after

    def monotonic_s(self) -> float:
        """Let each sleep be a minute."""
        return 60.0 * self.slept

    def start_unit(self, unit: str) -> None:
        """Start it."""

    def reset_failed(self, unit: str) -> None:
        """Forget that it failed."""


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KmsNode:
    """Return a node whose volumes are open, each by its static key; a kms key is configured, and in no slot yet."""
    found = KmsNode(tmp_path, monkeypatch)
    found.system = PatientSystem(found.system.mounts, found.system.memory)
    found.node = replace(found.node, system=found.system)
    for volume in VOLUMES:
        found.open(volume)
        write_report(found.node, opened(volume))
    return found


def opened(volume: str) -> Report:
    """Return what the stage before reported."""
    return Report(volume, VolumeState.OPEN, device=f"/dev/mapper/luks2-{volume}", in_sync=False)


def test_kms_keys_that_were_left_are_made_once_there_is_a_network(node: KmsNode) -> None:
    """Both volumes, META, and what is reported."""
    with KmsServer(node.authority) as server:
        node.use(server)
        assert with_network(node.node, STATE).state is VolumeState.OPEN
        for volume in VOLUMES:
            node.works(volume)
            report = read_report(node.node, volume)
            assert report is not None
            assert report.in_sync
    assert node.node.ports.meta.load().kms_access is not None


def test_it_goes_on_for_a_while_where_the_kms_is_late(node: KmsNode) -> None:
    """The keyslots are tried again, and no more than a few times: each costs a key derivation."""
    with KmsServer(node.authority) as server:
        node.use(server)
        server.allowed = set()
        assert isinstance(node.system, PatientSystem)

        def allow() -> None:
            server.allowed = None

        node.system.change[4] = allow
        with_network(node.node, STATE)
        node.works(STATE)
        assert 4 <= node.system.slept <= 6
        server.allowed = set()
        write_report(node.node, opened(STATE))
        node.configure_with(f"slot: 2, kms: {{endpoint: '{server.endpoint}'}}")
        before = node.system.slept
        with_network(node.node, STATE)
        assert node.system.slept - before < 15
        assert "luksctl sync tries again" in node.told[-1]


def test_the_clock_is_waited_for_before_a_certificate_is_judged(node: KmsNode) -> None:
    """The KMS is asked once it is synchronised; how long it may take is the config's to say."""
    system = node.system
    assert isinstance(system, PatientSystem)
    system.synchronised_after = 2
    with KmsServer(node.authority) as server:
        node.use(server)
        with_network(node.node, STATE)
        node.works(STATE)
    assert system.clock_looks == 3
    assert any("the clock is not synchronised yet; waiting 120 s" in line for line in node.told)


def test_a_clock_that_nobody_sets_in_time_keeps_no_volume_closed(node: KmsNode) -> None:
    """After two minutes, which are two looks here, the KMS is asked all the same."""
    system = node.system
    assert isinstance(system, PatientSystem)
    system.synchronised_after = 1000
    with KmsServer(node.authority) as server:
        node.use(server)
        await_clock(node.node, STATE)
    assert system.slept == 2
    assert "asked all the same" in node.told[-1]


@pytest.mark.parametrize(
    ("key", "more"),
    [
        ("kms: {endpoint: 'grpc://127.0.0.1:1'}", ""),
        ("kms: {endpoint: 'https://127.0.0.1:1'}", "---\nmachine: {time: {disabled: true}}\n"),
        ("nodeID: {}", ""),
    ],
)
def test_nobody_else_waits_for_the_clock(node: KmsNode, key: str, more: str) -> None:
    """Not without TLS, not where time synchronisation is disabled, not without a kms key: nobody even looks."""
    system = node.system
    assert isinstance(system, PatientSystem)
    system.synchronised_after = 1000
    node.configure_with(f"slot: 1, {key}")
    stored = node.state / "config.yaml"
    stored.write_text(stored.read_text(encoding="utf-8") + more, encoding="utf-8")
    await_clock(node.node, STATE)
    assert (system.slept, system.clock_looks) == (0, 0)


def test_before_state_is_open_meta_says_how_long(node: KmsNode) -> None:
    """What META keeps of the KMS has the wait as well, and whether there is one."""
    system = node.system
    assert isinstance(system, PatientSystem)
    system.synchronised_after = 1000
    with KmsServer(node.authority) as server:
        node.use(server)
        stored = node.state / "config.yaml"
        wait = "---\nmachine: {time: {bootTimeout: 4m}}\n"
        stored.write_text(stored.read_text(encoding="utf-8") + wait, encoding="utf-8")
        system.synchronised_after = 0
        with_network(node.node, STATE)
        system.synchronised_after = 1000
        kept = node.node.ports.meta.load().kms_access
        assert kept is not None
        assert kept.access.clock_wait_s == 240.0
        system.mounts.clear()
        before = system.slept
        await_clock(node.node, STATE)
    assert system.slept - before == 4
