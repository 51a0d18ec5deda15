"""Retries in the background: they notice what changed, wait between attempts, and end when the volume is up."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from luksctl.errors import Degraded, DeviceError, KmsReason, KmsUnavailable, MetaError, ProviderUnavailable
from luksctl.model.config import EPHEMERAL, STATE, ByImage, VolumeSettings
from luksctl.model.observed import Missing
from luksctl.node.apply_config import apply_config
from luksctl.node.node import Node
from luksctl.node.report import VolumeState, failure_report, write_report
from luksctl.node.retry import retry
from luksctl.node.units import mount_unit
from luksctl.value import replace
from tests.node.nodes import Bench, RecordedSystem, bench, config
from tests.reconcile.medium import MetaContent
from tests.reconcile.samples import MAPPING, XFS, header
from tests.reconcile.world import DEVICE


class GaveUpError(Exception):
    """The retries went on for as many rounds as the test gave them."""


@dataclass
class PatientSystem(RecordedSystem):
    """Sleeping is what lets things change: `rounds` are called one by one, then the test ends."""

    rounds: list[object] = field(default_factory=list)
    started: list[str] = field(default_factory=list)
    failing: set[str] = field(default_factory=set)

    def sleep(self, seconds: float) -> None:  # noqa: ARG002
        """Let the next thing happen."""
        if not self.rounds:
            raise GaveUpError
        change = self.rounds.pop(0)
        if callable(change):
            change()

    def start_soon(self, unit: str) -> None:
        """Note it."""
        self.started.append(f"soon {unit}")

    def start_dependants(self, unit: str) -> tuple[str, ...]:
        """Note it, and start one."""
        self.started.append(f"what needs {unit}")
        return ("database.service",)

    def start_unit(self, unit: str) -> None:
        """Note it; mount STATE, or fail."""
        self.started.append(unit)
        if unit in self.failing:
            raise DeviceError(f"{unit} failed")
        if unit == mount_unit(self.state):
            super().start_unit(unit)


@pytest.fixture
def node(tmp_path: Path) -> Bench:
    """Return a node whose STATE is locked: no key of the config opens it."""
    found = bench(tmp_path)
    found.world.medium.first = found.world.medium.second = header()
    Path(found.node.paths.machine_config).write_bytes(config().text)
    return found


def _patient(node: Bench, *rounds: object) -> tuple[Node, PatientSystem]:
    system = PatientSystem(str(node.state), node.system.link, rounds=list(rounds))
    return replace(node.node, system=system), system


def _attempts(node: Bench) -> int:
    return node.world.calls.count("lock volume STATE")


def test_a_rejected_key_is_tried_again_only_when_something_changed(node: Bench) -> None:
    """A locked node does not run a memory-hard KDF once a minute."""
    patient, _ = _patient(node, None, None, None)
    with pytest.raises(GaveUpError):
        retry(patient, STATE)
    assert _attempts(node) == 1


@pytest.mark.parametrize(
    "content",
    [MetaContent(uuid_override="4c4c4544-0042-3510-8052-b7c04f4e3132"), MetaContent(has_tag9=True)],
    ids=["UUID override", "tag 9"],
)
def test_a_change_of_meta_is_a_reason_to_try_again(node: Bench, content: MetaContent) -> None:
    """`luksctl meta write 0x0f UUID` is what the error about a missing UUID says to type."""
    patient, _ = _patient(node, None, lambda: node.world.meta.set_both(content), None)
    with pytest.raises(GaveUpError):
        retry(patient, STATE)
    assert _attempts(node) == 2


def test_a_volume_that_somebody_else_opened_ends_the_retries(node: Bench) -> None:
    """An operator's config opened it, and is kept nowhere: the link and the mounts are made, and that is all."""

    def open_it() -> None:
        node.world.open_mapping = replace(MAPPING, signature=XFS)

    patient, system = _patient(node, None, open_it)
    assert retry(patient, STATE).state is VolumeState.OPEN
    mount = mount_unit(str(node.state))
    assert system.started == [mount, f"what needs {mount}"]


def test_an_error_while_looking_does_not_end_the_retries(node: Bench) -> None:
    """META's disk does not answer for a moment."""
    node.world.fail["meta load"] = MetaError("META does not answer")

    def mend() -> None:
        node.world.fail.clear()
        node.world.open_mapping = replace(MAPPING, signature=XFS)

    patient, _ = _patient(node, None, mend)
    assert retry(patient, STATE).state is VolumeState.OPEN


def test_an_image_that_is_missing_is_waited_for_without_spinning(node: Bench) -> None:
    """Nothing tells of a new file, so the retries sleep."""
    node.world.found = Missing("image file /srv/state.img")
    settings = replace(
        node.node.settings,
        volumes=tuple(
            (name, VolumeSettings(ByImage("/srv/state.img"), volume.mount_point) if name == STATE else volume)
            for name, volume in node.node.settings.volumes
        ),
    )

    def appear() -> None:
        node.world.found = DEVICE
        node.world.open_mapping = replace(MAPPING, signature=XFS)

    patient, system = _patient(node, None, appear)
    assert retry(replace(patient, settings=settings), STATE).state is VolumeState.OPEN
    assert system.rounds == []


def test_an_ephemeral_that_stays_locked_is_not_tried_by_the_unit_of_state(node: Bench, tmp_path: Path) -> None:
    """STATE is up and mounted: its unit ends well, or systemd would start it, and EPHEMERAL's KDF, for ever."""
    told: list[str] = []
    ephemeral = str(tmp_path / "ephemeral")
    settings = replace(
        node.node.settings,
        volumes=tuple(
            (name, replace(volume, mount_point=ephemeral) if name == EPHEMERAL else volume)
            for name, volume in node.node.settings.volumes
        ),
    )
    node.world.open_mapping = replace(MAPPING, signature=XFS)
    patient, system = _patient(node, None)
    system.failing = {mount_unit(ephemeral)}
    report = retry(replace(patient, settings=settings, tell=told.append), STATE)
    assert report.state is VolumeState.OPEN
    state = mount_unit(str(node.state))
    assert system.started == [state, f"what needs {state}", mount_unit(ephemeral)]
    assert told[0] == "started what needs STATE: database.service"
    assert "EPHEMERAL did not come up" in told[1]
    assert len(told) == 2


def test_what_is_mounted_already_starts_nothing(node: Bench) -> None:
    """A service that ended on purpose is not run again."""
    node.world.open_mapping = replace(MAPPING, signature=XFS)
    patient, system = _patient(node, None)
    system.mounts[str(node.state)] = "/dev/mapper/luks2-STATE"
    assert retry(patient, STATE).state is VolumeState.OPEN
    assert system.started == [mount_unit(str(node.state))]


def _needs_network() -> KmsUnavailable:
    return KmsUnavailable("the KMS is asked once the network is up", reason=KmsReason.NETWORK_LATER)


def test_what_waits_for_the_network_is_handed_over(node: Bench) -> None:
    """At once where the hook found that out already, else after one attempt; the other stage does not hand over."""
    node.world.fail["lock volume STATE"] = _needs_network()
    patient, system = _patient(node, None)
    assert retry(patient, STATE).network
    assert _attempts(node) == 1
    write_report(patient, failure_report(STATE, _needs_network()))
    patient, again = _patient(node)
    assert retry(patient, STATE).network
    assert _attempts(node) == 1
    assert system.started == again.started == ["soon luksctl-network@STATE.service"]
    node.world.fail.clear()
    node.world.open_mapping = replace(MAPPING, signature=XFS)
    patient, _ = _patient(node, None)
    assert retry(patient, STATE, network=True).state is VolumeState.OPEN


def test_a_cause_is_told_when_it_changes(node: Bench) -> None:
    """Not once a minute for hours; and who looks finds it in the journal."""
    told: list[str] = []
    node.world.fail["lock volume STATE"] = ProviderUnavailable("the KMS is not reached")

    def another() -> None:
        node.world.fail["lock volume STATE"] = ProviderUnavailable("the KMS does not serve this node")

    patient, _ = _patient(node, None, None, another, None)
    with pytest.raises(GaveUpError):
        retry(replace(patient, tell=told.append), STATE, network=True)
    assert [line.partition(";")[0].partition(": ")[2] for line in told] == [
        "the KMS is not reached",
        "the KMS does not serve this node",
    ]


def test_a_state_that_does_not_mount_is_an_error(node: Bench) -> None:
    """Its unit is started again by systemd, and the next run finds STATE open."""
    node.world.open_mapping = replace(MAPPING, signature=XFS)
    patient, system = _patient(node, None)
    system.failing = {mount_unit(str(node.state))}
    with pytest.raises(DeviceError, match="failed"):
        retry(patient, STATE)


def test_the_config_of_a_formatted_state_is_not_lost_to_a_retry(node: Bench) -> None:
    """Retries beside an operator's first config only find what that one made."""
    node.world.medium.first = node.world.medium.second = None
    Path(node.node.paths.machine_config).unlink()

    def apply_first() -> None:
        with pytest.raises(Degraded):
            apply_config(node.node, config(), insecure=True)

    patient, _ = _patient(node, None, apply_first)
    assert retry(patient, STATE).state is VolumeState.OPEN
    assert node.stored() == config().text
