"""A reset on a node that is up, and what its next boots make of it: in use, interrupted, slow, failing."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest

from luksctl.devices.medium import is_zero
from luksctl.errors import AttemptsExhausted, Busy, Degraded, DeviceError, LuksctlError, Maintenance, NeedsReboot
from luksctl.model.config import EPHEMERAL, META, STATE
from luksctl.model.intent import EraseMethod, ResetIntent
from luksctl.model.meta import MetaFacts, MetaState
from luksctl.model.observed import Erasing
from luksctl.model.probe import Device
from luksctl.node.attempts import allow_again, drop_intent
from luksctl.node.boot import open_volume
from luksctl.node.reset import Outcome, announce, erase_announced, look_at
from luksctl.node.sync import sync
from luksctl.node.waiting import Deadline
from luksctl.reconcile import erase_steps
from luksctl.units import MIB
from luksctl.value import replace
from tests.node.image_node import ImageNode, document, static

PASSPHRASE = "a passphrase for tests"


@pytest.fixture
def images(tmp_path: Path) -> ImageNode:
    """Return a node whose two volumes are encrypted, and neither open nor mounted."""
    found = ImageNode(tmp_path, mounted=False)
    for volume in (STATE, EPHEMERAL):
        found.format(volume, {0: PASSPHRASE})
        identity = os.path.realpath(found.images[volume])

        def finished(record: object, volume: str = volume, identity: str = identity) -> object:
            return record.with_finished(volume, identity, encrypted=True)  # type: ignore[attr-defined]

        found.node.ports.meta.update_record(finished)  # type: ignore[arg-type]
    return found


def blank(images: ImageNode, volume: str) -> bool:
    """Tell whether the image is blank."""
    path = images.images[volume]
    return is_zero(str(path), path.stat().st_size)


def facts(images: ImageNode) -> MetaFacts:
    """Return what META says."""
    return images.node.ports.meta.load()


def announced(images: ImageNode, *volumes: str, method: EraseMethod = EraseMethod.FAST) -> None:
    """Announce a reset, as the verb does before its first byte."""
    announce(images.node, look_at(images.node, volumes, method, named=True))


def in_use(images: ImageNode, volume: str) -> None:
    """Let the volume be open, and something mounted from it."""
    images.open(volume)
    vars(images.node.ports.disks)["in_use"] = lambda device: (
        f"the mount of {device.path}" if device.path.startswith("/dev/mapper/") else None
    )


def let_go(images: ImageNode) -> None:
    """Reboot: mappings and mounts are gone."""
    images.mappings.clear()
    images.system.mounts.clear()
    vars(images.node.ports.disks).pop("in_use", None)


def boot(images: ImageNode, volume: str, left_s: float = 0.0) -> LuksctlError:
    """Run a stage of the boot, which cannot open anything without device-mapper, and return how it ended."""
    with pytest.raises(LuksctlError) as caught:
        open_volume(images.node, volume, Deadline(images.node, images.system.monotonic_s() + left_s))
    return caught.value


def test_a_volume_in_use_loses_its_header_and_waits_for_the_boot(images: ImageNode) -> None:
    """Keys and copies are zero below the open mapping, its data is as it was, and the intent stands until the boot."""
    content = images.images[EPHEMERAL].read_bytes()
    in_use(images, EPHEMERAL)
    announced(images, EPHEMERAL)
    (outcome,) = erase_announced(images.node)
    assert isinstance(outcome.waits, NeedsReboot)
    assert outcome.erasure is not None
    assert not outcome.erasure.complete
    left = images.images[EPHEMERAL].read_bytes()
    assert left[: 16 * MIB].count(0) == 16 * MIB
    assert left[16 * MIB :] == content[16 * MIB :]
    assert facts(images).record.resets[0].volume == EPHEMERAL
    (again,) = erase_announced(images.node)
    assert again.erasure is None

    let_go(images)
    # What was mounted wrote to it until the end.
    with images.images[EPHEMERAL].open("r+b") as target:
        target.seek(16 * MIB)
        target.write(b"a superblock")
    boot(images, EPHEMERAL)
    assert blank(images, EPHEMERAL)
    assert facts(images).record.intents == ()


def test_the_keys_of_state_leave_meta_also_while_it_is_in_use(images: ImageNode) -> None:
    """Tag 9 may hold a passphrase in clear, so it does not wait for the reboot."""
    images.node.ports.meta.write_state_encryption(None)
    images.node.ports.meta.store().write_tag(9, b"null")  # type: ignore[attr-defined]
    in_use(images, STATE)
    announced(images, STATE)
    (outcome,) = erase_announced(images.node)
    assert outcome.waits is not None
    assert not facts(images).has_tag9


def test_an_idle_mapping_is_closed_on_the_way(images: ImageNode) -> None:
    """Nobody uses it: the volume is blank without a reboot."""
    images.open(EPHEMERAL)
    closed: list[str] = []

    def close(name: str) -> None:
        closed.append(name)
        images.mappings.clear()

    with mock.patch.object(images.node.ports.headers, "deactivate", close):
        announced(images, EPHEMERAL)
        (outcome,) = erase_announced(images.node)
    assert outcome.waits is None
    assert closed == ["luks2-EPHEMERAL"]
    assert blank(images, EPHEMERAL)


def test_the_first_stage_of_a_boot_finishes_all_that_was_announced(images: ImageNode) -> None:
    """Before anything is opened: STATE, EPHEMERAL, and META after them. Then the node waits for a config."""
    announced(images, META, STATE, EPHEMERAL)
    error = boot(images, STATE)
    assert isinstance(error, Maintenance)
    assert blank(images, STATE)
    assert blank(images, EPHEMERAL)
    assert facts(images) == MetaFacts(MetaState.OK)
    assert len(list(Path(images.paths.erasures).iterdir())) == 3


def test_nothing_is_opened_while_a_reset_is_not_finished(images: ImageNode) -> None:
    """A config that would open STATE does not, as long as its reset fails; no header copy is mended."""
    Path(images.paths.machine_config).write_text(document(STATE, static(0, PASSPHRASE)), encoding="utf-8")
    announced(images, STATE)
    with images.images[STATE].open("r+b") as target:
        target.seek(16384 + 5000)
        target.write(b"?")  # the second copy is torn, as a cut may leave it
    before = images.bytes_of(STATE)
    with mock.patch.object(images.node.ports.disks, "erase", side_effect=DeviceError("the disk is failing")):
        for _ in range(3):
            assert "the disk is failing" in str(boot(images, STATE))
        assert isinstance(boot(images, STATE), AttemptsExhausted)
    assert images.bytes_of(STATE) == before
    (intent,) = facts(images).record.resets
    assert (intent.attempt, intent.last_error) == (3, "the disk is failing")
    allow_again(images.node, STATE)
    boot(images, STATE)
    assert facts(images).record.resets == ()


def test_a_reset_that_was_taken_back_erases_nothing(images: ImageNode) -> None:
    """Dropping the announcement leaves the volume as it is."""
    announced(images, EPHEMERAL)
    before = images.bytes_of(EPHEMERAL)
    assert isinstance(drop_intent(images.node, EPHEMERAL), ResetIntent)
    assert erase_announced(images.node) == ()
    assert images.bytes_of(EPHEMERAL) == before


def sections(images: ImageNode, stop_after: int) -> Callable[[Device, int], Iterator[int]]:
    """Return an overwriting whose sections are 4 MiB each and which loses its power after some of them."""

    def overwrite(device: Device, position_bytes: int) -> Iterator[int]:
        for number in range(position_bytes // (4 * MIB), device.size_bytes // (4 * MIB)):
            if number == stop_after:
                raise KeyboardInterrupt
            images.told.append(f"section {number}")
            yield (number + 1) * 4 * MIB

    return overwrite


def test_overwriting_goes_on_where_the_power_went(images: ImageNode) -> None:
    """The position is noted in the intent; what was overwritten before is not overwritten again."""
    announced(images, EPHEMERAL, method=EraseMethod.ZEROES)
    with (
        mock.patch.object(erase_steps, "_NOTED_EVERY_BYTES", 4 * MIB),
        mock.patch.object(images.node.ports.disks, "overwrite", sections(images, 3)),
        pytest.raises(KeyboardInterrupt),
    ):
        erase_announced(images.node)
    (intent,) = facts(images).record.resets
    assert (intent.position_bytes, intent.attempt) == (12 * MIB, 0)
    images.told.clear()
    with mock.patch.object(images.node.ports.disks, "overwrite", sections(images, 99)):
        (outcome,) = erase_announced(images.node)
    assert [line for line in images.told if line.startswith("section")] == ["section 3", "section 4"]
    assert outcome.erasure is not None
    assert outcome.erasure.complete
    assert facts(images).record.intents == ()


def test_a_boot_does_not_wait_for_hours_of_overwriting(images: ImageNode) -> None:
    """At its deadline the stage ends as Busy, and what it did is noted: no failed attempt. The retry goes on."""
    announced(images, EPHEMERAL, method=EraseMethod.ZEROES)
    with mock.patch.object(images.node.ports.disks, "overwrite", sections(images, 99)):
        for boots in (1, 2, 3, 4):
            error = boot(images, EPHEMERAL)
            assert isinstance(error, Busy)
            assert "% so far" in str(error)
            (intent,) = facts(images).record.resets
            assert (intent.position_bytes, intent.attempt) == (boots * 4 * MIB, 0)
        boot(images, EPHEMERAL, math.inf)
    assert facts(images).record.intents == ()


def test_a_failure_of_one_volume_does_not_keep_the_others(images: ImageNode) -> None:
    """The other volume is erased, META waits, and the failure is raised."""
    announced(images, META, STATE, EPHEMERAL)
    real = images.node.ports.disks.erase

    def erase(device: Device, passes: object, *, exclusive: bool) -> str:
        if device.path == os.path.realpath(images.images[EPHEMERAL]):
            raise DeviceError("a bad sector")
        return real(device, passes, exclusive=exclusive)  # type: ignore[arg-type]

    with mock.patch.object(images.node.ports.disks, "erase", erase), pytest.raises(DeviceError, match="a bad sector"):
        erase_announced(images.node)
    assert blank(images, STATE)
    assert {intent.volume for intent in facts(images).record.resets} == {META, EPHEMERAL}
    outcomes: tuple[Outcome, ...] = erase_announced(images.node)
    assert [outcome.volume for outcome in outcomes] == [EPHEMERAL, META]
    assert facts(images) == MetaFacts(MetaState.OK)


def test_a_device_that_vanished_is_no_finished_reset(images: ImageNode) -> None:
    """The intent stays for when it comes back."""
    announced(images, EPHEMERAL)
    hidden = images.images[EPHEMERAL].rename(images.directory / "hidden")
    with pytest.raises(LuksctlError):
        erase_announced(images.node)
    assert facts(images).record.resets
    hidden.rename(images.images[EPHEMERAL])
    erase_announced(images.node)
    assert blank(images, EPHEMERAL)


def test_an_announcement_is_of_one_partition(images: ImageNode) -> None:
    """Another device in its place is not erased."""
    announced(images, EPHEMERAL)
    images.node.ports.meta.update_record(
        lambda record: replace(
            record, partitions=(), intents=tuple(replace(intent, partition="another") for intent in record.intents)
        )
    )
    before = images.bytes_of(EPHEMERAL)
    with pytest.raises(LuksctlError, match="not this one"):
        erase_announced(images.node)
    assert images.bytes_of(EPHEMERAL) == before


def test_what_is_looked_at_shows_who_uses_it(images: ImageNode) -> None:
    """Nothing is written by looking."""
    in_use(images, EPHEMERAL)
    before = images.bytes_of()
    (target,) = look_at(images.node, (EPHEMERAL,), EraseMethod.FAST, named=True)
    assert isinstance(target.found, Erasing)
    assert target.found.holder == "the mount of /dev/mapper/luks2-EPHEMERAL"
    assert images.bytes_of() == before


def test_a_sync_of_a_volume_that_is_being_erased_says_so(images: ImageNode) -> None:
    """It does not end as if the keyslots followed the config."""
    images.mount(STATE)
    images.configure(document(EPHEMERAL, static(0, PASSPHRASE), static(1, "another passphrase")))
    announced(images, EPHEMERAL)
    before = images.bytes_of(EPHEMERAL)
    with pytest.raises(Degraded, match="EPHEMERAL: it is being erased"):
        sync(images.node, (EPHEMERAL,))
    assert images.bytes_of(EPHEMERAL) == before


def test_header_backups_that_state_kept_go_with_the_volume(images: ImageNode) -> None:
    """Whoever has one and a passphrase of then opens what a reset leaves; those of the other volume stay."""
    images.mount(STATE)
    kept = images.state / "header-backups"
    kept.mkdir()
    for volume in (STATE, EPHEMERAL):
        (kept / f"{volume}-00000000-0000-4000-8000-0000000000a1.json").write_text("{}")
    announced(images, EPHEMERAL)
    erase_announced(images.node)
    assert [path.name.partition("-")[0] for path in kept.iterdir()] == [STATE]
