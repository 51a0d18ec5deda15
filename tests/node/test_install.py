"""After install META names the partitions, and forgets what an earlier layout left."""

from __future__ import annotations

import os
from pathlib import Path

from luksctl.meta.store import AdvStore
from luksctl.model.config import EPHEMERAL, META, META_SIZE_BYTES, STATE, ByLabel, Settings
from luksctl.model.intent import FormatIntent
from luksctl.model.meta import MetaState, NodeRecord
from luksctl.model.probe import PartitionEntry
from luksctl.node.install import record_partitions, settings_on

_ENTRIES = tuple(
    PartitionEntry(number, name, f"0000000{number}-1111-4222-8333-444444444444", "", 0, 0)
    for number, name in enumerate((META, STATE, EPHEMERAL), start=1)
)


def test_a_blank_meta_is_initialised(tmp_path: Path) -> None:
    """META is in order afterwards and names all three partitions."""
    path = tmp_path / "meta.img"
    path.touch()
    os.truncate(path, META_SIZE_BYTES)
    store = AdvStore(str(path), f"{path}.lock")
    record_partitions(store, _ENTRIES)
    facts = store.load()
    assert facts.state is MetaState.OK
    assert facts.record.partitions == tuple((entry.name, entry.uuid) for entry in _ENTRIES)


def test_a_new_layout_forgets_the_old_one() -> None:
    """Intents and encryption of the volumes that were laid out anew are gone; those of others stay."""
    before = NodeRecord(
        intents=(FormatIntent(STATE, "old", "u"), FormatIntent("other", "p", "u")),
        partitions=((STATE, "old"), ("other", "p")),
        encrypted=(STATE, "other"),
    )
    after = before.with_partitions(((STATE, "new"),))
    assert after == NodeRecord(
        intents=(FormatIntent("other", "p", "u"),), partitions=(("other", "p"), (STATE, "new")), encrypted=("other",)
    )


def test_meta_is_sought_on_the_new_disk_alone() -> None:
    """A META on another disk is not written, whatever the settings say of this machine."""
    settings = settings_on(Settings(), "/dev/vdb")
    assert settings.volume(META).location == ByLabel(META, "/dev/vdb")
    assert settings.volume(STATE) == Settings().volume(STATE)
