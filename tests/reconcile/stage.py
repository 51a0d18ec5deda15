"""A node whose images are set back to what they were after a boot with given keys, as often as a test wants."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Final

from luksctl.errors import SlotPassphraseRejected
from luksctl.model.config import STATE, ConfiguredKey, VolumeEncryption
from luksctl.model.header import Copies, LuksHeader
from luksctl.model.meta import MetaState
from luksctl.model.observed import Luks2
from luksctl.reconcile.books import unverified
from luksctl.reconcile.converge import converge
from luksctl.secret import Secret
from tests.reconcile.images import Node, cheap_wish
from tests.reconcile.rotations import boot, following

CRYPTSETUP: Final = shutil.which("cryptsetup") or "/usr/sbin/cryptsetup"
WRONG_KEY: Final = 2


class Stage:
    """One directory, which is part of what META records, and in it the images after a first boot, one for each list."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._kept: list[tuple[VolumeEncryption, Path]] = []

    def node(self, keys: VolumeEncryption) -> Node:
        """Return a node, just rebooted, whose STATE was formatted with `keys` and nothing else happened to it."""
        kept = next((path for other, path in self._kept if other == keys), None)
        if kept is None:
            kept = self._format(keys)
        for name in ("state.img", "meta.img", "inside"):
            shutil.copyfile(kept / name, self.directory / name)
        return Node(self.directory)

    def _format(self, keys: VolumeEncryption) -> Path:
        for name in ("state.img", "meta.img", "inside"):
            (self.directory / name).unlink(missing_ok=True)
        node = Node(self.directory)
        list(converge(cheap_wish(keys), node.volume_settings, node.ports))
        kept = self.directory / f"kept-{len(self._kept)}"
        kept.mkdir()
        for name in ("state.img", "meta.img", "inside"):
            shutil.copyfile(self.directory / name, kept / name)
        self._kept.append((keys, kept))
        return kept


def header_of(node: Node) -> LuksHeader:
    """Return the header of STATE."""
    observed = node.observe()
    if not isinstance(observed, Luks2):
        raise AssertionError(f"not a finished LUKS2 volume: {observed}")
    return observed.header


def secret_of(node: Node, key: ConfiguredKey) -> bytes:
    """Return what the provider of `key` gives, for the stock tool."""
    (candidate, *others) = node.ports.provider(key).recover(STATE, key, None)
    for other in others:
        other.close()
    with candidate, candidate.view() as view:
        return bytes(view)


def keys_that_open(node: Node, *keys: bytes) -> dict[bytes, set[int]]:
    """Return which of `keys` open which slots; those that open none are left out."""
    observed = node.observe()
    if not isinstance(observed, Luks2):
        raise AssertionError(f"not a finished LUKS2 volume: {observed}")
    found: dict[bytes, set[int]] = {}
    for key, slot in itertools.product(keys, observed.header.keyslots):
        with Secret.take(bytes(key)) as secret, suppress(SlotPassphraseRejected):
            node.ports.headers.test_key(observed.device, slot.number, secret)
            found.setdefault(key, set()).add(slot.number)
    return found


def stock_opens(image: Path, key: bytes, slot: int | None = None) -> bool:
    """Tell whether the stock cryptsetup opens the raw image with `key`, in `slot` if one is given."""
    numbered = [] if slot is None else ["--key-slot", str(slot)]
    argv = [CRYPTSETUP, "open", "--test-passphrase", "--batch-mode", "--key-file", "-", *numbered, str(image)]
    ended = subprocess.run(argv, input=key, check=False, capture_output=True)
    if ended.returncode not in {0, WRONG_KEY, 1}:
        raise AssertionError(ended.stderr.decode())
    return ended.returncode == 0


def stock(*arguments: str, key: bytes = b"") -> None:
    """Run the stock cryptsetup in batch mode with `key` at its standard input."""
    ended = subprocess.run([CRYPTSETUP, "--batch-mode", *arguments], input=key, check=False, capture_output=True)
    if ended.returncode != 0:
        raise AssertionError(f"{arguments}: {ended.stderr.decode()}")


def assert_in_sync(node: Node, keys: VolumeEncryption, foreign: frozenset[int] = frozenset()) -> None:
    """Check slots, bookkeeping and META against `keys`; `foreign` are slots of others."""
    observed, facts = node.observe(), node.facts()
    assert isinstance(observed, Luks2)
    assert observed.copies.state is Copies.EQUAL
    slots = {key.slot for key in keys.keys}
    assert {slot.number for slot in observed.header.keyslots} == slots | foreign
    books = unverified(observed.header)
    assert books is not None
    assert books.underway == ()
    assert {note.slot for note in books.notes} == slots
    assert facts.state is MetaState.OK
    assert facts.state_encryption == keys


def assert_next_boot_is_quiet(node: Node, keys: VolumeEncryption) -> None:
    """Boot again: one key derivation where META and config agree, and not one byte is written."""
    before = node.bytes_on_disk()
    node.kdf_runs.clear()
    node.reboot()
    session = converge_once(node, keys)
    assert len(node.kdf_runs) == 1, node.kdf_runs
    assert node.bytes_on_disk() == before, session


def converge_once(node: Node, keys: VolumeEncryption) -> list[str]:
    """Open and sync in one run, as every volume but STATE does at boot; return the names of the steps."""
    run = converge(following(keys), node.volume_settings, node.ports)
    return [type(done.step).__name__ for done in run]


def boot_to_sync(node: Node, keys: VolumeEncryption) -> None:
    """Boot once with the config `keys`, and check that this was enough."""
    list(boot(node, keys))
    assert_in_sync(node, keys)
