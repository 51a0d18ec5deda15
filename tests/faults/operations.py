"""The operations whose every write may be the last before the power goes, and what must be true at the next boot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from luksctl.config.documents import parse_machine_config
from luksctl.model.config import STATE, VolumeEncryption
from luksctl.model.meta import MetaState
from luksctl.node.rotate import rotate_slot
from luksctl.node.sources import store_config
from luksctl.reconcile.converge import converge
from luksctl.secret import Secret
from tests.faults import (
    in_place,
    kms_accesses,
    modes,
    recoveries,
    reencryptions,
    resets,
    restores,
    shrinkings,
    tpm_sealings,
)
from tests.faults.running import Running, config, encryption, prepare
from tests.faults.sealings import ONE, TYPED, following_to, formatted, next_boot_to, rotated
from tests.reconcile.images import Node, cheap_wish
from tests.reconcile.providers import encrypted, node_id, static
from tests.reconcile.rotations import CHANGES, NEW, OLD, boot
from tests.reconcile.stage import Stage, assert_in_sync, keys_that_open

CONFIGS: Final = tuple(
    b"apiVersion: v1alpha1\nkind: VolumeConfig\nname: EPHEMERAL\nencryption:\n  provider: luks2\n  keys:\n"
    b"    - {slot: 0, static: {passphrase: %s}}\n" % passphrase
    for passphrase in (b"the old one", b"a new one that is longer than the old one")
)
FIRST: Final = encrypted(static(0, OLD), node_id(4))
ROTATED: Final = ("the old one", "a new one")


@dataclass(frozen=True)
class Operation:
    """`perform` is recorded on the node in a directory that `prepare` made.

    `next_boot` does what a boot does, and raises unless it ends as it must.
    """

    prepare: Callable[[Path], None]
    perform: Callable[[Path], None]
    next_boot: Callable[[Path], None]
    # Checksums tell whole sectors apart, which of an image file have 4096 bytes.
    tears_sectors: bool = True


def _formatted(keys: VolumeEncryption) -> Callable[[Path], None]:
    def make(directory: Path) -> None:
        Stage(directory).node(keys)

    return make


def _format() -> Operation:
    def make(directory: Path) -> None:
        Node(directory)

    def perform(directory: Path) -> None:
        node = Node(directory)
        list(converge(cheap_wish(FIRST), node.volume_settings, node.ports))

    def next_boot(directory: Path) -> None:
        perform(directory)
        node = Node(directory)
        assert_in_sync(node, FIRST)
        if node.facts().record.intents:
            raise AssertionError("an intent is left")

    return Operation(make, perform, next_boot)


def _change(name: str) -> Operation:
    old, new = CHANGES[name]

    def perform(directory: Path) -> None:
        list(boot(Node(directory), new))

    def next_boot(directory: Path) -> None:
        perform(directory)
        assert_in_sync(Node(directory), new)

    return Operation(_formatted(old), perform, next_boot)


def _write_meta() -> Operation:
    old, new = encrypted(static(0, OLD), static(1, NEW)), encrypted(static(1, NEW))

    def perform(directory: Path) -> None:
        Node(directory).ports.meta.write_state_encryption(new)

    def next_boot(directory: Path) -> None:
        node = Node(directory)
        facts = node.facts()
        if facts.state is MetaState.UNREADABLE or facts.state_encryption not in (old, new):
            raise AssertionError(f"META is {facts.state} and names {facts.state_encryption}")
        list(boot(node, new))
        assert_in_sync(node, new)

    return Operation(_formatted(old), perform, next_boot)


def _rotate() -> Operation:
    """Return what puts a static passphrase into STATE's config, from there into its slot, and then into META."""
    old, new = ROTATED

    def make(directory: Path) -> None:
        prepare(directory, config(old))

    def perform(directory: Path) -> None:
        running = Running(directory)
        running.open()
        rotate_slot(running.node, STATE, 0, lambda: Secret.take(new.encode()), lambda *_: None)

    def next_boot(directory: Path) -> None:
        running = Running(directory)
        keys = encryption(running.boot())
        assert_in_sync(running.images, keys)
        (wanted,) = [text for text in ROTATED if keys == encryption(config(text))]
        found = keys_that_open(running.images, *(text.encode() for text in ROTATED))
        if found != {wanted.encode(): {0}}:
            raise AssertionError(f"the config says {wanted}, and slots are opened by {found}")

    return Operation(make, perform, next_boot)


def _sealed(old: VolumeEncryption, new: VolumeEncryption) -> Operation:
    return Operation(formatted(old), following_to(new), next_boot_to(new))


# The longest last.
OPERATIONS: Final = {
    "META write": _write_meta(),
    "META keeps another way to the KMS": Operation(kms_accesses.kept, kms_accesses.follow, kms_accesses.next_boot),
    "META forgets the way to the KMS": Operation(
        kms_accesses.kept, kms_accesses.forget, kms_accesses.next_boot_without
    ),
    "remove": _change("remove"),
    "add": _change("add"),
    "recovery add": Operation(recoveries.without, recoveries.add, recoveries.next_boot),
    "recovery remove": Operation(recoveries.with_one, recoveries.remove, recoveries.next_boot),
    "recovery key replaced": Operation(recoveries.with_one, recoveries.change, recoveries.next_boot_with_one),
    "header restore": Operation(restores.changed, restores.restore, restores.next_boot),
    "reset": Operation(resets.formatted, resets.state, resets.next_boot),
    "reset, META as well": Operation(resets.formatted, resets.state_and_meta, resets.next_boot_without_meta),
    "encryption in place, its filesystem shrunk": Operation(shrinkings.full, shrinkings.shrink, shrinkings.next_boot),
    "encryption in place, until the header is placed": Operation(in_place.plain, in_place.begin, in_place.next_boot),
    "encryption in place, its hot zones": Operation(in_place.placed, in_place.encrypt, in_place.next_boot),
    "decryption in place, its header saved": Operation(in_place.beside_files, in_place.detach, in_place.next_boot_back),
    "decryption in place, begun": Operation(
        in_place.detached_volume, in_place.begin_back, in_place.next_boot_back, tears_sectors=False
    ),
    "decryption in place, its hot zones": Operation(
        in_place.begun_back, in_place.decrypt, in_place.next_boot_back, tears_sectors=False
    ),
    "header restore, both copies lost": Operation(restores.lost, restores.restore, restores.next_boot_of_lost),
    "apply-config, staged": Operation(modes.with_old, modes.staged, modes.next_boot),
    "a boot that follows a staged config": Operation(modes.with_staged, modes.by_a_boot, modes.next_boot_by_new),
    "apply-config, on trial": Operation(modes.with_old, modes.tried, modes.next_boot_by_old),
    "a trial taken back": Operation(modes.with_trial, modes.taken_back, modes.next_boot_by_old),
    "a trial confirmed": Operation(modes.with_trial, modes.confirmed, modes.next_boot),
    "apply-config, at once": Operation(modes.with_old, modes.at_once, modes.next_boot),
    "apply-config, over a staged one": Operation(modes.with_staged, modes.over_staged, modes.next_boot_of_two),
    "re-encryption": Operation(reencryptions.formatted, reencryptions.renew, reencryptions.next_boot),
    "re-encryption, begun": Operation(reencryptions.started, reencryptions.go_on, reencryptions.next_boot),
    "change in place": _change("change in place"),
    "one-step replacement": _change("replace the only key"),
    "one-step replacement by another slot": _change("replace the only key by another slot"),
    "keys rotate, static": _rotate(),
    "a lost tpm key sealed anew": Operation(tpm_sealings.lost, tpm_sealings.sealed_anew, tpm_sealings.next_boot),
    "keys rotate, by a provider": Operation(formatted(ONE), rotated, next_boot_to(ONE)),
    "a key with a token in place of a passphrase": _sealed(TYPED, ONE),
    "a passphrase in place of a key with a token": _sealed(ONE, TYPED),
    "first format": _format(),
}


def perform(directory: Path, name: str) -> None:
    """Perform the operation `name` on the node in `directory`, which is a mounted STATE for "config store"."""
    if name == "config store":
        store_config(str(directory), parse_machine_config(CONFIGS[1], "a test"))
        return
    OPERATIONS[name].perform(directory)
