"""The stage of a boot that opens STATE: which keys it tries, and what it says when there was nothing to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from luksctl.config.documents import parse_machine_config
from luksctl.errors import Degraded, Locked
from luksctl.model.config import STATE
from luksctl.node.apply_config import apply_config
from luksctl.node.boot import open_volume
from luksctl.node.report import read_report
from tests.node.nodes import Bench, bench, config
from tests.reconcile.medium import MetaContent
from tests.reconcile.samples import header


@pytest.fixture
def node(tmp_path: Path) -> Bench:
    """Return a node that was never set up."""
    return bench(tmp_path)


def test_keys_that_meta_lists_too_are_tried_once(node: Bench) -> None:
    """Where the config and META say the same, a rejected key costs its key derivation once and not twice."""
    Path(node.node.paths.machine_config).write_bytes(config().text)
    same = parse_machine_config(config().text, "META").encryption_of(STATE)
    node.world.meta.set_both(MetaContent(same, has_tag9=True))
    node.world.medium.first = node.world.medium.second = header()
    with pytest.raises(Locked, match="does not open this slot"):
        open_volume(node.node, STATE, node.now)
    candidates = 2  # of the fake provider
    assert node.world.calls.count("volume_key 0") == candidates


def test_how_a_volume_was_opened_is_kept_when_the_stage_runs_again(node: Bench) -> None:
    """The report goes on to say which slot opened the volume after a second run that found it open."""
    with pytest.raises(Degraded):
        apply_config(node.node, config(), insecure=True)
    before = read_report(node.node, STATE)
    assert before is not None
    assert before.opened_by == "with the volume key of this run"
    again = open_volume(node.node, STATE, node.now)
    assert again.opened_by == before.opened_by
