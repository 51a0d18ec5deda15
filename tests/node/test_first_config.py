"""A first config that was cut short is taken again; a config given by hand to a locked node only opens it."""

from __future__ import annotations

from pathlib import Path

import pytest

from luksctl.config.documents import parse_machine_config
from luksctl.errors import Degraded, Locked, Maintenance, MetaError, Refused
from luksctl.model.config import STATE
from luksctl.model.meta import NodeRecord
from luksctl.node.apply_config import Condition, apply_config, condition
from luksctl.node.boot import open_state, open_volume
from luksctl.node.report import VolumeState, read_report
from luksctl.node.status import node_status
from luksctl.value import replace
from tests.node.nodes import Bench, bench, config
from tests.reconcile.medium import TORN, MetaContent
from tests.reconcile.providers import encrypted, static
from tests.reconcile.samples import INTENT, MAPPING, XFS, header, marked


@pytest.fixture
def node(tmp_path: Path) -> Bench:
    """Return a node that was never set up."""
    return bench(tmp_path)


def _set_up(node: Bench) -> None:
    """Give the node its first config; EPHEMERAL is not there, so that is told, and STATE holds the config."""
    with pytest.raises(Degraded, match="STATE holds the config, but it did not come up: no EPHEMERAL here") as degraded:
        apply_config(node.node, config(), insecure=True)
    assert (degraded.value.volume, degraded.value.hint) == ("EPHEMERAL", "luksctl install")
    assert node.stored() == config().text


def test_the_first_config_is_stored_before_ephemeral_is_looked_at(node: Bench) -> None:
    """What fails after STATE holds the config does not take it back, and the node runs."""
    assert condition(node.node) is Condition.MAINTENANCE
    _set_up(node)
    assert condition(node.node) is Condition.RUNNING
    with pytest.raises(Refused, match="this one is running"):
        apply_config(node.node, config(), insecure=True)


def test_a_state_that_is_open_and_holds_no_config_is_maintenance(node: Bench) -> None:
    """The cut came between the format and the config: the same config is taken again."""
    _set_up(node)
    (node.state / "config.yaml").unlink()
    assert condition(node.node) is Condition.MAINTENANCE
    status = node_status(node.node, (STATE,))
    assert (status.condition.value, status.exit_code) == ("maintenance", Maintenance.exit_code)
    assert status.next_commands[0] == "luksctl apply-config --insecure -f FILE"
    _set_up(node)


def test_another_config_after_a_cut_changes_the_keys_of_the_first(node: Bench) -> None:
    """STATE opens by the keys in META; its slots and META follow the other config, which is stored then."""
    _set_up(node)
    (node.state / "config.yaml").unlink()
    another = config("another passphrase", slot=3)
    with pytest.raises(Degraded, match="STATE holds the config"):
        apply_config(node.node, another, insecure=True)
    assert node.stored() == another.text
    kept = node.world.meta.facts().state_encryption
    assert kept == another.encryption_of(STATE)
    found = node.world.medium.copies().best
    assert found is not None
    assert [slot.number for slot in found.keyslots] == [3]


def test_another_config_after_a_cut_must_be_able_to_open(node: Bench) -> None:
    """Where META does not open STATE either, nothing is stored, and META keeps what it has."""
    _set_up(node)
    (node.state / "config.yaml").unlink()
    node.world.medium.areas.clear()
    with pytest.raises(Refused, match="the config was not stored: STATE does not follow the config"):
        apply_config(node.node, config("another passphrase", slot=3), insecure=True)
    assert node.stored() is None
    kept = node.world.meta.facts().state_encryption
    assert kept is not None
    assert [key.slot for key in kept.keys] == [0]


def test_a_first_format_cut_after_tag_9_is_maintenance(node: Bench) -> None:
    """META lists the keys of a volume that nobody finished: there is nothing to open with them."""
    node.world.meta.set_both(MetaContent(encrypted(static(0)), has_tag9=True, record=NodeRecord((INTENT,))))
    node.world.medium.first = node.world.medium.second = marked()
    with pytest.raises(Maintenance, match="the first format of STATE did not finish"):
        open_state(node.node, node.now)
    assert condition(node.node) is Condition.MAINTENANCE
    assert node_status(node.node, (STATE,)).condition.value == "maintenance"


def _open_without_meta(node: Bench) -> None:
    node.world.meta.first = node.world.meta.second = TORN
    node.world.medium.first = node.world.medium.second = header()
    node.world.open_mapping = replace(MAPPING, signature=XFS)


def test_a_state_opened_by_hand_is_recognised_without_a_key(node: Bench) -> None:
    """The stage runs again before systemd mounts: no config and no META, but STATE is open already."""
    _open_without_meta(node)
    report = open_volume(node.node, STATE, node.now)
    assert (report.state, report.device) == (VolumeState.OPEN, MAPPING.path)
    assert Path(node.system.link).readlink() == Path(MAPPING.path)
    assert node.world.power.writes == []


def test_a_state_opened_by_hand_with_unequal_header_copies_is_not_offered_for_mounting(node: Bench) -> None:
    """No mount before both copies are valid and equal, whoever opened it."""
    _open_without_meta(node)
    node.world.medium.second = TORN
    with pytest.raises(Locked, match="no machine config is at hand"):
        open_volume(node.node, STATE, node.now)


def test_without_meta_no_config_counts_as_the_first(node: Bench) -> None:
    """META could not be read: it may have said anything, so --insecure is refused and nothing is stored."""
    _open_without_meta(node)
    node.mount_state()
    assert condition(node.node) is Condition.RUNNING
    with pytest.raises(Refused, match="--insecure"):
        apply_config(node.node, config(), insecure=True)
    with pytest.raises(MetaError, match="META could not follow it"):
        apply_config(node.node, config(), insecure=False)
    assert node.stored() is None
    assert node.world.power.writes == []


def test_a_first_config_with_one_key_that_cannot_be_made_is_taken(node: Bench) -> None:
    """One key that opens is enough; the other one is a failed sync, which is told and tried again."""
    node.world.keys.make_down.add(1)
    text = config().text.decode()
    entry = next(line for line in text.splitlines() if "correct horse" in line)
    number = next(line for line in text.splitlines() if "slot: 0" in line)
    more = "\n".join((number.replace("0", "1"), entry.replace("correct horse", "more")))
    given = parse_machine_config(text.replace(entry, f"{entry}\n{more}", 1).encode(), "given by hand")
    with pytest.raises(Degraded, match="STATE holds the config, but it did not come up: no EPHEMERAL here"):
        apply_config(node.node, given, insecure=True)
    assert node.stored() == given.text
    report = read_report(node.node, STATE)
    assert report is not None
    assert report.in_sync is False
