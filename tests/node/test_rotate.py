"""keys rotate on a node: static passphrases through STATE's config, recovery keys by new ones, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from luksctl.errors import Degraded, Refused, UsageError
from luksctl.model.config import EPHEMERAL, STATE
from luksctl.node.apply_config import apply_config
from luksctl.node.boot import follow_state
from luksctl.node.recovery import Place, add_recovery_key, recovery_keys
from luksctl.node.rotate import rotate_all, rotate_slot
from luksctl.node.sources import stored_config
from luksctl.node.sync import adopt
from luksctl.reconcile.converge import converge
from luksctl.secret import Secret
from tests.node.image_node import ImageNode, document, static
from tests.node.nodes import Bench, bench, config
from tests.providers.stock import opens
from tests.reconcile.medium import PowerCut
from tests.reconcile.world import SETTINGS, wish


@pytest.fixture
def image(tmp_path: Path) -> ImageNode:
    """Return a running node whose volumes are ours, with key derivations that cost little."""
    found = ImageNode(tmp_path)
    found.system.memory = 1024
    found.configure(
        document(STATE, static(0, "one")).replace("}}", "}}   # kept"),
        document(EPHEMERAL, static(0, "one")),
    )
    for volume in (STATE, EPHEMERAL):
        found.format(volume, {0: "one"})
        adopt(found.node, volume)
    found.follow_in_meta()
    return found


def ask(passphrase: bytes) -> Callable[[], Secret]:
    """Answer with this passphrase."""
    return lambda: Secret.take(passphrase)


def never() -> Secret:
    """Fail: nobody is to be asked."""
    raise AssertionError


def nothing(place: Place, key: Secret) -> None:
    """Fail: nothing is to be shown."""
    raise AssertionError(place, len(key))


@pytest.mark.parametrize("volume", [STATE, EPHEMERAL])
def test_a_static_passphrase_goes_into_the_config_and_the_slot(image: ImageNode, volume: str) -> None:
    """The old one opens nothing any more; of the config one line is another, and META follows for STATE."""
    before = (image.state / "config.yaml").read_text(encoding="utf-8")
    rotated = rotate_slot(image.node, volume, 0, ask(b'a "new" one'), nothing)
    assert (rotated.slots, rotated.kind, rotated.stored) == ((0,), "static", True)
    after = (image.state / "config.yaml").read_text(encoding="utf-8")
    differing = [(old, new) for old, new in zip(before.splitlines(), after.splitlines(), strict=True) if old != new]
    assert len(differing) == 1
    assert differing[0][1].replace(r'"a \"new\" one"', "one") == differing[0][0]
    assert opens(image.images[volume], b'a "new" one')
    assert not opens(image.images[volume], b"one")
    stored = stored_config(str(image.state))
    assert stored is not None
    assert image.node.ports.meta.load().state_encryption == stored.encryption_of(STATE)
    assert list((image.state / "previous").iterdir()) == []


def test_a_nodeid_key_is_refused(image: ImageNode) -> None:
    """It would be the same again; the hint says what to do instead."""
    image.configure(document(STATE, static(0, "one")), document(EPHEMERAL, static(0, "one"), "slot: 1, nodeID: {}"))
    before = image.bytes_of()
    with pytest.raises(Refused, match="a new one would be the same") as caught:
        rotate_slot(image.node, EPHEMERAL, 1, never, nothing)
    assert "apply-config" in (caught.value.hint or "")
    assert image.bytes_of() == before


def test_what_is_nobodys_is_refused(image: ImageNode) -> None:
    """Neither configured nor a recovery key."""
    with pytest.raises(Refused, match="holds no recovery key"):
        rotate_slot(image.node, EPHEMERAL, 17, never, nothing)


def test_without_a_slot_only_keys_that_providers_make_are_rotated(image: ImageNode) -> None:
    """Static ones need somebody, so they are named one by one."""
    with pytest.raises(Refused, match="no slot of STATE or EPHEMERAL") as caught:
        rotate_all(image.node, (STATE, EPHEMERAL))
    assert "--slot" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("passphrase", "kind", "because"),
    [(b"one", Refused, "has already"), (b"\xff\xfe", UsageError, "not UTF-8")],
    ids=["the same", "no text"],
)
def test_passphrases_that_cannot_be_taken(
    image: ImageNode, passphrase: bytes, kind: type[Exception], because: str
) -> None:
    """Nothing is written, and the error does not show them."""
    before = image.bytes_of(), (image.state / "config.yaml").read_bytes()
    with pytest.raises(kind, match=because) as caught:
        rotate_slot(image.node, EPHEMERAL, 0, ask(passphrase), nothing)
    assert caught.value.__context__ is None
    assert (image.bytes_of(), (image.state / "config.yaml").read_bytes()) == before


def test_a_passphrase_that_the_config_shares_is_left_to_people(image: ImageNode) -> None:
    """Replacing it would change another key; the hint is the way that always works."""
    image.configure(
        document(STATE, "slot: 0, static: {passphrase: &p one}", "slot: 5, static: {passphrase: *p}"),
        document(EPHEMERAL, static(0, "one")),
    )
    before = (image.state / "config.yaml").read_bytes()
    with pytest.raises(Refused, match="more than one place") as caught:
        rotate_slot(image.node, STATE, 0, ask(b"two"), nothing)
    assert "slot 0 of STATE" in (caught.value.hint or "")
    assert "apply-config -f FILE" in (caught.value.hint or "")
    assert (image.state / "config.yaml").read_bytes() == before


def test_a_config_that_is_not_in_state_is_left_to_people(image: ImageNode) -> None:
    """Nobody rewrites what cloud-init or an operator put on the root filesystem."""
    text = (image.state / "config.yaml").read_bytes()
    Path(image.paths.machine_config).write_bytes(text)
    (image.state / "config.yaml").unlink()
    with pytest.raises(Refused, match="STATE does not hold"):
        rotate_slot(image.node, EPHEMERAL, 0, never, nothing)
    assert Path(image.paths.machine_config).read_bytes() == text


def test_a_config_that_was_applied_while_somebody_typed_is_not_undone(image: ImageNode) -> None:
    """The passphrase goes into the config that STATE holds by then; a key that is gone from it is not brought back."""
    fresh = document(STATE, static(0, "one"), "slot: 3, nodeID: {}"), document(EPHEMERAL, static(0, "one"))

    def apply_another_and_type() -> Secret:
        image.configure(*fresh)
        return Secret.take(b"two")

    with suppress(Degraded):  # this machine may have no UUID for the nodeID key
        rotate_slot(image.node, EPHEMERAL, 0, apply_another_and_type, nothing)
    assert "slot: 3, nodeID" in (image.state / "config.yaml").read_text(encoding="utf-8")
    fresh = document(STATE, static(0, "one")), document(EPHEMERAL, static(1, "one"))
    before = image.bytes_of(EPHEMERAL)
    with pytest.raises(Refused, match="no static key there any more"):
        rotate_slot(image.node, EPHEMERAL, 0, apply_another_and_type, nothing)
    assert image.bytes_of(EPHEMERAL) == before


def test_a_recovery_key_is_replaced_by_a_new_one(image: ImageNode) -> None:
    """The new one is shown before the old one is destroyed, and is at another number."""
    sheets: list[bytes] = []

    def write_down(place: Place, key: Secret) -> None:
        assert all(opens(image.images[place.volume], text) for text in sheets)
        with key.view() as view:
            sheets.append(bytes(view))

    old = add_recovery_key(image.node, EPHEMERAL, write_down)
    rotated = rotate_slot(image.node, EPHEMERAL, old.slot, never, write_down)
    assert rotated.place is not None
    assert [entry.slot for entry in recovery_keys(image.node, EPHEMERAL)] == [rotated.place.slot] != [old.slot]
    assert not opens(image.images[EPHEMERAL], sheets[0])
    assert opens(image.images[EPHEMERAL], sheets[1])


def test_a_recovery_key_that_nobody_could_take_keeps_the_old_one(image: ImageNode) -> None:
    """The new one goes again, the old one stays."""
    sheets: list[bytes] = []

    def write_down(place: Place, key: Secret) -> None:
        if sheets:
            raise BrokenPipeError(place.slot)
        with key.view() as view:
            sheets.append(bytes(view))

    old = add_recovery_key(image.node, EPHEMERAL, write_down)
    with pytest.raises(BrokenPipeError):
        rotate_slot(image.node, EPHEMERAL, old.slot, never, write_down)
    assert [entry.slot for entry in recovery_keys(image.node, EPHEMERAL)] == [old.slot]
    assert opens(image.images[EPHEMERAL], sheets[0])


def running(directory: Path) -> Bench:
    """Return a running node in memory, whose STATE has one static key."""
    directory.mkdir()
    found = bench(directory)
    with pytest.raises(Degraded):
        apply_config(found.node, config("one"), insecure=True)
    return found


def test_a_cut_at_any_write_of_the_header_ends_with_one_passphrase(tmp_path: Path) -> None:
    """The next boot opens STATE by META, follows what is stored there, and one of the two opens, not both."""
    whole = running(tmp_path / "whole")
    before = len(whole.world.power.writes)
    rotate_slot(whole.node, STATE, 0, ask(b"two"), nothing)
    assert b'"two"' in (whole.stored() or b"")
    writes = len(whole.world.power.writes) - before
    assert writes > 10
    for cut_at in range(1, writes + 1):
        node = running(tmp_path / str(cut_at))
        node.world.power.writes.clear()
        node.world.power.cut_at = cut_at
        with pytest.raises(PowerCut):
            rotate_slot(node.node, STATE, 0, ask(b"two"), nothing)
        node.world.reboot()
        shutil.rmtree(node.node.paths.run_dir)
        known = node.world.meta.facts().state_encryption
        assert known is not None
        list(converge(wish(known), SETTINGS, node.node.ports))
        stored = stored_config(str(node.state))
        assert stored is not None
        assert follow_state(node.node, stored).findings == ()
        header = node.world.medium.copies().best
        assert header is not None
        assert [slot.number for slot in header.keyslots] == [0]
        assert node.world.medium.areas[0].key in (b"one", b"two")
        assert node.world.medium.areas[0].key in stored.text
