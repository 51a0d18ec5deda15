"""A plain EPHEMERAL is encrypted where it stands because somebody asked for it, and made plain again the same way."""

from __future__ import annotations

import math
import os
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from luksctl.errors import Locked, LuksctlError, Refused
from luksctl.model.announced_step import BeginDecryption
from luksctl.model.config import EPHEMERAL, STATE
from luksctl.model.intent import (
    DecryptIntent,
    EraseMethod,
    InPlaceIntent,
    InPlacePhase,
    Intent,
    ReencryptIntent,
    ReencryptKind,
)
from luksctl.model.meta import Trial
from luksctl.node import reset
from luksctl.node.attempts import allow_again, drop_intent
from luksctl.node.boot import open_volume
from luksctl.node.in_place import announce, announce_decryption, look_at, look_at_encrypted
from luksctl.node.node import Node
from luksctl.node.reencrypt import go_on
from luksctl.node.sources import parse_config, store_config
from luksctl.node.sync import ruling_config, wish
from luksctl.node.waiting import Deadline
from luksctl.reconcile.converge import session
from luksctl.units import MIB
from luksctl.value import replace
from tests.node.image_node import ImageNode, document, static

PASSPHRASE = "a passphrase for tests"
CHEAP = "apiVersion: luksctl/v1alpha1\nkind: EncryptionPolicy\nkdf: {time: 4, memory: 32KiB, threads: 1}\n"
STATE_KEYS = document(STATE, static(0, PASSPHRASE))
KEYS = document(EPHEMERAL, static(3, PASSPHRASE))
DATA_BYTES = 48 * MIB


def configure(images: ImageNode, *documents: str, policy: str = CHEAP) -> None:
    """Make these STATE's own config, with keys that cost next to nothing."""
    store_config(str(images.state), parse_config("---\n".join((*documents, policy)).encode(), "a test", "config.yaml"))


@pytest.fixture
def images(tmp_path: Path) -> ImageNode:
    """Return a node with STATE mounted, and a plain EPHEMERAL of which META knows, that is to be encrypted."""
    found = ImageNode(tmp_path)
    found.format(STATE, {0: PASSPHRASE})
    image = found.images[EPHEMERAL]
    with image.open("r+b") as target:
        target.truncate(DATA_BYTES + 48 * MIB)
    content = tmp_path / "content"
    content.mkdir()
    (content / "file").write_bytes(bytes(range(256)) * 4096)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", content, image, f"{DATA_BYTES // 1024}k"], check=True)
    identity = str(image.resolve())
    found.node.ports.meta.update_record(lambda record: record.with_finished(EPHEMERAL, identity, encrypted=False))
    configure(found, STATE_KEYS, KEYS)
    return found


def intents(images: ImageNode) -> tuple[Intent, ...]:
    """Return what META announces."""
    return images.node.ports.meta.load().record.intents


def boot(images: ImageNode) -> None:
    """Do what the hook does about EPHEMERAL, as far as a machine without device-mapper can."""
    with suppress(Locked):
        open_volume(images.node, EPHEMERAL, Deadline(images.node, math.inf), booting=True)


def test_looking_says_what_would_be_done_and_touches_nothing(images: ImageNode) -> None:
    """The filesystem, its size, the steps."""
    before = images.bytes_of()
    target = look_at(images.node, EPHEMERAL)
    assert (target.extent.kind, target.extent.size_bytes, target.shrinks) == ("ext4", DATA_BYTES, False)
    assert [type(step).__name__ for step in target.plan.steps][:2] == ["CheckInPlace", "MakeKey"]
    assert images.bytes_of() == before


def test_what_was_asked_for_is_done_by_the_boot_and_undone_the_same_way(images: ImageNode) -> None:
    """Encrypted and plain again, each time begun by a boot and ended by the service: the same bytes as at first."""
    image = images.images[EPHEMERAL]
    before = image.read_bytes()[:DATA_BYTES]
    announce(images.node, look_at(images.node, EPHEMERAL))
    boot(images)
    (begun,) = intents(images)
    assert isinstance(begun, ReencryptIntent)
    assert begun.kind is ReencryptKind.ENCRYPT
    assert go_on(images.node, EPHEMERAL)
    assert intents(images) == ()
    assert before[: 4 * MIB] not in image.read_bytes()
    configure(images, STATE_KEYS)
    announce_decryption(images.node, look_at_encrypted(images.node, EPHEMERAL))
    boot(images)
    (back,) = intents(images)
    assert isinstance(back, ReencryptIntent)
    assert back.kind is ReencryptKind.DECRYPT
    assert go_on(images.node, EPHEMERAL)
    assert intents(images) == ()
    assert image.read_bytes()[:DATA_BYTES] == before
    assert not list(images.state.glob("*.header"))


def test_the_config_alone_is_enough_there_and_back(images: ImageNode) -> None:
    """With inPlace in the policy nobody asks: keys that come or go are followed by the next boot, the bytes stay."""
    image, in_place = images.images[EPHEMERAL], CHEAP + "inPlace: true\n"
    before = image.read_bytes()[:DATA_BYTES]
    for documents, kind in (((STATE_KEYS, KEYS), ReencryptKind.ENCRYPT), ((STATE_KEYS,), ReencryptKind.DECRYPT)):
        configure(images, *documents, policy=in_place)
        boot(images)
        assert go_on(images.node, EPHEMERAL) is kind
        assert intents(images) == ()
    boot(images)
    assert image.read_bytes()[:DATA_BYTES] == before
    assert not list(images.state.glob("*.header"))


def test_an_announcement_stands_once(images: ImageNode) -> None:
    """Asked twice, it is the first one that counts; where something else is announced, it is refused."""
    announce(images.node, look_at(images.node, EPHEMERAL))
    first = intents(images)
    announce(images.node, look_at(images.node, EPHEMERAL))
    assert intents(images) == first
    assert isinstance(first[0], InPlaceIntent)
    other = DecryptIntent(EPHEMERAL, first[0].partition, first[0].header_uuid, "file")
    images.node.ports.meta.update_record(lambda record: record.with_intent(other))
    with pytest.raises(LuksctlError):
        announce(images.node, look_at(images.node, EPHEMERAL))


def _state_away(images: ImageNode) -> None:
    images.system.mounts.clear()


def _on_trial(images: ImageNode) -> None:
    trial = Trial(images.system.boot_id(), 60.0, "")
    images.node.ports.meta.update_record(lambda record: record.with_trial(trial))


def _no_keys(images: ImageNode) -> None:
    configure(images, STATE_KEYS)


@pytest.mark.parametrize(
    ("cause", "why"),
    [(_state_away, "STATE is not mounted"), (_on_trial, "on trial"), (_no_keys, "asks for no encryption")],
)
def test_what_the_boot_would_not_do_is_not_announced(
    images: ImageNode, cause: Callable[[ImageNode], None], why: str
) -> None:
    """From the announcement on the volume is not mounted, so it comes only where the boot will go on."""
    cause(images)
    before = images.bytes_of()
    with pytest.raises(Refused, match=why):
        announce(images.node, look_at(images.node, EPHEMERAL))
    assert images.bytes_of() == before


def test_no_decryption_is_begun_on_trial(images: ImageNode) -> None:
    """A config that is taken back soon decides nothing that takes hours."""
    os.truncate(images.images[EPHEMERAL], 0)
    os.truncate(images.images[EPHEMERAL], 32 * MIB)
    images.format(EPHEMERAL, {3: PASSPHRASE})
    configure(images, STATE_KEYS)
    _on_trial(images)
    with pytest.raises(Refused, match="on trial"):
        look_at_encrypted(images.node, EPHEMERAL)


@pytest.mark.parametrize("look", [look_at, look_at_encrypted])
def test_state_is_left_alone(images: ImageNode, look: Callable[[Node, str], object]) -> None:
    """What is on it comes back from its config."""
    with pytest.raises(Refused, match="only EPHEMERAL"):
        look(images.node, STATE)


def test_the_announcement_of_a_decryption_that_began_is_never_dropped(images: ImageNode) -> None:
    """It alone says where the header is, also where a retry counts the attempts anew; before, it may go."""
    announce(images.node, look_at(images.node, EPHEMERAL))
    boot(images)
    go_on(images.node, EPHEMERAL)
    configure(images, STATE_KEYS)
    announce_decryption(images.node, look_at_encrypted(images.node, EPHEMERAL))
    assert isinstance(drop_intent(images.node, EPHEMERAL), DecryptIntent)
    announce_decryption(images.node, look_at_encrypted(images.node, EPHEMERAL))
    wanted = wish(images.node, ruling_config(images.node), EPHEMERAL)
    with session(wanted, images.node.settings.volume(EPHEMERAL), images.node.ports) as running:
        for done in running.work_in_place():
            if isinstance(done.step, BeginDecryption):
                break
    allow_again(images.node, EPHEMERAL)
    (begun,) = intents(images)
    assert begun.attempt == 0
    before = images.bytes_of()
    with pytest.raises(Refused, match="may be in a file already"):
        drop_intent(images.node, EPHEMERAL)
    assert images.bytes_of() == before
    boot(images)
    assert go_on(images.node, EPHEMERAL)
    assert intents(images) == ()


def test_state_is_not_reset_from_under_the_only_header(images: ImageNode) -> None:
    """While EPHEMERAL is decrypted, all of its data hangs on a file in STATE; both together may go."""
    announce(images.node, look_at(images.node, EPHEMERAL))
    boot(images)
    go_on(images.node, EPHEMERAL)
    configure(images, STATE_KEYS)
    announce_decryption(images.node, look_at_encrypted(images.node, EPHEMERAL))
    before = images.bytes_of()
    for _stage in ("announced", "begun"):
        with pytest.raises(Refused, match="the only header of EPHEMERAL"):
            reset.look_at(images.node, (STATE,), EraseMethod.FAST, named=True)
        boot(images)
    both = reset.look_at(images.node, (EPHEMERAL, STATE), EraseMethod.FAST, named=True)
    assert [target.volume for target in both] == [EPHEMERAL, STATE]
    assert images.bytes_of(STATE) == before[1:2]


def test_what_takes_a_shrinking_back_is_kept_as_long_as_it_is_needed(images: ImageNode, tmp_path: Path) -> None:
    """Neither the announcement is dropped nor STATE erased; once it is gone all the same, a person may go on."""
    announce(images.node, look_at(images.node, EPHEMERAL))
    (announced,) = intents(images)
    assert isinstance(announced, InPlaceIntent)
    saved = tmp_path / "saved"
    saved.write_bytes(b"x")
    shrinking = replace(announced, phase=InPlacePhase.SHRINKING, saved=str(saved), saved_sha256="00" * 32)
    images.node.ports.meta.update_record(lambda record: record.with_intent(shrinking))
    before = images.bytes_of()
    with pytest.raises(Refused, match="takes that back"):
        drop_intent(images.node, EPHEMERAL)
    with pytest.raises(Refused, match="what shrinking the filesystem of EPHEMERAL overwrites"):
        reset.look_at(images.node, (STATE,), EraseMethod.FAST, named=True)
    assert images.bytes_of() == before
    saved.unlink()
    assert drop_intent(images.node, EPHEMERAL) == shrinking
