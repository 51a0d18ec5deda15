"""luksctl reencrypt: a key for a keyslot that asks for none is wrong use, and nothing is written."""

from __future__ import annotations

import pytest

from luksctl.cli.secret_input import read_passphrase
from luksctl.model.config import EPHEMERAL
from luksctl.node.reencrypt import Options, begin
from tests.cli.desk import PASSPHRASE, Desk, encrypted
from tests.cli.test_reencrypt import IMAGE_BYTES, UNMANAGED, USAGE, assert_refused, descriptor_of, node_of


@pytest.fixture(autouse=True)
def shared(desk: Desk) -> None:
    """Have EPHEMERAL be ours, with a second keyslot that luksctl does not manage."""
    desk.image("ephemeral", IMAGE_BYTES)
    desk.format("ephemeral", slots={0: PASSPHRASE, 9: UNMANAGED})
    desk.write_config(encrypted())
    assert desk.run("adopt", EPHEMERAL).code == 0


def test_a_key_for_a_slot_that_asks_for_none_is_wrong_use(desk: Desk) -> None:
    """Of a configured slot, of one that is not there, of one that is given up: named, with the slots that do ask."""
    said = "keyslot {} of EPHEMERAL, which asks for none (those that do: 9)"
    assert_refused(desk, said.format(0), code=USAGE, keys={0: PASSPHRASE, 9: UNMANAGED})
    assert_refused(desk, said.format("8, 17"), code=USAGE, keys={17: "x", 8: "x", 9: UNMANAGED})
    none = "keyslot 9 of EPHEMERAL, which asks for none (none of this volume does)"
    assert_refused(desk, none, "--drop-slot", "9", "--yes", code=USAGE, keys={9: UNMANAGED})


@pytest.mark.parametrize("words", [(), ("--resume",)])
def test_what_has_begun_goes_on_as_it_was_begun(desk: Desk, words: tuple[str, ...]) -> None:
    """Its keys are in the header by then, and what is asked for beside that is refused, not passed over."""
    with descriptor_of(UNMANAGED) as descriptor:
        given = Options(given=(9,))
        begin(node_of(desk), EPHEMERAL, given, lambda _: read_passphrase("it", descriptor), lambda *_: None)
    said = "only to begin with; EPHEMERAL goes on as it was begun"
    assert_refused(desk, f"--key-fd: {said}", *words, code=USAGE, keys={9: UNMANAGED})
    assert_refused(desk, f"--drop-slot, --max-rate: {said}", *words, "--drop-slot=9", "--max-rate=1MiB", code=USAGE)


def test_one_slot_takes_one_key(desk: Desk) -> None:
    """Of two descriptors nobody could tell which counts."""
    assert_refused(desk, "keyslot 9 has one already", "--key-fd", "9:3,9:4", code=USAGE)
