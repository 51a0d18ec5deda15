"""The power goes at any write, sync or rename while STATE gets a new config: the old one or the new one is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from luksctl.config.documents import parse_machine_config
from luksctl.node.sources import forget_previous, previous_configs, previous_names, store_config, stored_config
from tests.faults.operations import CONFIGS
from tests.faults.recording import Kind, build_recorder, record
from tests.faults.tree import Tree, after, lay_out

OLD, NEW = CONFIGS


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the compiled recorder."""
    return build_recorder(tmp_path_factory.mktemp("recorder"))


def test_a_cut_leaves_the_old_config_or_the_new_one_with_the_old_one_kept(recorder: Path, tmp_path: Path) -> None:
    """Whole and valid each time; where the new one rules, the keys of the old one are there to fall back to."""
    directory = tmp_path / "state"
    directory.mkdir()
    (directory / "config.yaml").write_bytes(OLD)
    events = record(recorder, directory, "config store")
    assert [event.kind for event in events].count(Kind.RENAME) == 2
    initial = Tree({"config.yaml": 1}, {1: OLD})
    seen = set()
    for boundary in range(len(events) + 1):
        for tree in after(events, boundary, initial):
            lay_out(tree.contents(), directory)
            stored = stored_config(str(directory))
            assert stored is not None, boundary
            assert stored.text in (OLD, NEW), boundary
            seen.add(stored.text)
            if stored.text == NEW:
                assert [config.text for config in previous_configs(str(directory))] == [OLD], boundary
            if boundary == len(events):
                assert stored.text == NEW
            store_config(str(directory), parse_machine_config(NEW, "again"))
            forget_previous(str(directory), previous_names(str(directory)))
            after_all = stored_config(str(directory))
            assert after_all is not None
            assert after_all.text == NEW
    assert seen == {OLD, NEW}
