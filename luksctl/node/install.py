"""After a disk was laid out: initialise its META and record which partitions belong to this node."""

from __future__ import annotations

from collections.abc import Sequence

from luksctl.model.config import META, ByLabel, Settings, VolumeSettings
from luksctl.model.ports import MetaStore
from luksctl.model.probe import PartitionEntry
from luksctl.value import replace


def settings_on(settings: Settings, disk: str) -> Settings:
    """Return the settings with META on `disk`, and no other, so that a second META elsewhere does not matter."""
    volumes = tuple(
        (name, VolumeSettings(ByLabel(META, disk)) if name == META else volume) for name, volume in settings.volumes
    )
    return replace(settings, volumes=volumes)


def record_partitions(meta: MetaStore, partitions: Sequence[PartitionEntry]) -> None:
    """Write the GPT UUIDs into META, by which another partition of the same label is refused from now on.

    Cut: META is blank, or holds the record; without it the first format of each volume records its own partition.
    """
    entries = tuple((entry.name, entry.uuid) for entry in partitions)
    meta.update_record(lambda record: record.with_partitions(entries))
