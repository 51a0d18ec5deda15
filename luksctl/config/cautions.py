"""Warnings: what a config may ask for, but should know about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from luksctl.config.report import Report
from luksctl.model.config import EPHEMERAL, STATE, EncryptionPolicy, KeyKind, VolumeEncryption

_ON_ONE_MACHINE = frozenset({KeyKind.NODE_ID, KeyKind.TPM})
_MANAGED = (STATE, EPHEMERAL)
# So many keys fit into the smallest header, whatever they are.
_ALWAYS_FIT = 4


def note_cautions(wanted: Mapping[str, VolumeEncryption], policy: EncryptionPolicy, report: Report) -> None:
    """Note a warning for every key that protects less, or can be lost sooner, than it looks, and for too many."""
    for volume, encryption in wanted.items():
        for text in _of_volume(volume, encryption, state_is_plain=STATE not in wanted):
            report.warn(text)
        if volume in _MANAGED and len(encryption.keys) > _ALWAYS_FIT:
            _note_full_header(volume, encryption, policy, report)


def _of_volume(volume: str, encryption: VolumeEncryption, *, state_is_plain: bool) -> Iterator[str]:
    static_slots = [key.slot for key in encryption.keys if key.kind is KeyKind.STATIC]
    kinds = {key.kind for key in encryption.keys}
    for slot in static_slots:
        if volume == STATE:
            yield f"{volume}, slot {slot}: the passphrase of a static key on STATE lies in clear in META"
        elif state_is_plain:
            yield (
                f"{volume}, slot {slot}: STATE is not encrypted, so the passphrase of this static key lies in clear "
                "in its config.yaml"
            )
    for key in encryption.keys:
        if key.lock_to_state and state_is_plain:
            yield (
                f"{volume}, slot {key.slot}: STATE is not encrypted, so the salt that this key is locked to lies there "
                "in clear, and the lock keeps nobody out who has the disk"
            )
    if encryption.keys and all(key.lock_to_state for key in encryption.keys):
        yield (
            f"{volume}: every key is locked to STATE, so whoever loses STATE, or makes it anew, loses this volume as "
            "well; add a key without lockToState, or enrol a recovery key"
        )
    if kinds and kinds <= _ON_ONE_MACHINE:
        named = " and ".join(sorted(kinds))
        yield (
            f"{volume}: every key ({named}) hangs on this one machine, and the config has no key to recover with; "
            "add a static or kms key, or enrol a recovery key"
        )
    if volume not in _MANAGED:
        yield f"{volume}: its encryption was checked and is carried along, but luksctl does not manage this volume"


def _note_full_header(volume: str, encryption: VolumeEncryption, policy: EncryptionPolicy, report: Report) -> None:
    from luksctl.model.json_budget import budget_of_format  # noqa: PLC0415  # few need it, and a boot's start is timed

    budget = budget_of_format(encryption, policy)
    if not budget.fits:
        way_out = "set talosReadable: false in the EncryptionPolicy" if policy.talos_readable else "take keys out"
        report.warn(
            f"{volume}: {len(encryption.keys)} keys may not fit into a new header, which holds {budget.capacity_bytes} "
            f"bytes of JSON, and then it is not formatted ({way_out})"
        )
