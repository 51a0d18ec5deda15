"""luksctl reencrypt over real headers: what it refuses before the first write, what it asks for, and what it says."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from luksctl.cli import reencrypt as verb
from luksctl.cli.context import Context
from luksctl.cryptsetup.device import Device
from luksctl.model.config import EPHEMERAL
from luksctl.model.intent import ResetIntent
from luksctl.node.node import Node
from luksctl.node.reencrypt import Options, begin
from luksctl.secret import Secret
from luksctl.units import MIB
from tests.cli.desk import PASSPHRASE, PLAIN, Answer, Desk, encrypted
from tests.cli.terminals import Typist
from tests.cryptsetup.other_version import library_that_says, run_with_library
from tests.marker import shown_in
from tests.providers.operators import operator
from tests.providers.stock import opens

UNMANAGED = "somebody else's passphrase"
FORM = re.compile(r"[0-9a-z]{5}(-[0-9a-z]{5}){12}\n")
IMAGE_BYTES = 20 * MIB
REFUSED, LOCKED, USAGE, BUSY, DEVICE = 3, 4, 64, 11, 9

_VERB = """
import os
from pathlib import Path
from luksctl.cli.main import main
from tests.cli.desk import paths_in

directory = Path(sys.argv.pop(1))
sys.exit(main(("--settings", str(directory / "luksctl.yaml"), *sys.argv[1:]), paths_in(directory)))
"""


@pytest.fixture
def alone(desk: Desk) -> Desk:
    """Return a machine whose EPHEMERAL is ours, and small: one static key."""
    desk.image("ephemeral", IMAGE_BYTES)
    desk.format("ephemeral", slots={0: PASSPHRASE})
    desk.write_config(encrypted())
    assert desk.run("adopt", EPHEMERAL).code == 0
    return desk


@pytest.fixture
def shared(desk: Desk) -> Desk:
    """Return such a machine with a second keyslot that luksctl does not manage."""
    desk.image("ephemeral", IMAGE_BYTES)
    desk.format("ephemeral", slots={0: PASSPHRASE, 9: UNMANAGED})
    desk.write_config(encrypted())
    assert desk.run("adopt", EPHEMERAL).code == 0
    return desk


@contextmanager
def descriptor_of(text: str) -> Iterator[int]:
    """Return where `text` can be read."""
    reader, writer = os.pipe()
    os.write(writer, text.encode())
    os.close(writer)
    try:
        yield reader
    finally:
        os.close(reader)


def reencrypt(desk: Desk, *words: str, keys: dict[int, str] | None = None) -> Answer:
    """Run the verb with `keys`, each at a descriptor of its own."""
    with ExitStack() as opened:
        given = [
            word
            for slot, key in (keys or {}).items()
            for word in ("--key-fd", f"{slot}:{opened.enter_context(descriptor_of(key))}")
        ]
        return desk.run("reencrypt", EPHEMERAL, *given, *words)


def node_of(desk: Desk) -> Node:
    """Return the node that the verb works on."""
    return Context(settings_path=str(desk.settings), paths=desk.paths).node()


def begun(desk: Desk) -> Desk:
    """Have it started, and nothing re-encrypted yet, as a power cut in the right moment leaves it."""
    begin(node_of(desk), EPHEMERAL, Options(), lambda _: None, lambda *_: None)
    return desk


def volume_key(desk: Desk) -> bytes:
    """Return the volume key that the configured key gives."""
    with (
        Secret.take(PASSPHRASE.encode()) as key,
        Device.open(str(desk.path("ephemeral"))) as device,
        device.volume_key(key) as found,
        found.view() as view,
    ):
        return bytes(view)


def slots(desk: Desk) -> dict[int, str]:
    """Return the kinds of EPHEMERAL's keyslots."""
    (volume,) = desk.run("--json", "status", EPHEMERAL).json["volumes"]
    return {slot["slot"]: slot["kind"] for slot in volume["slots"]}


# ---- to the end -----------------------------------------------------------------------------------------------------


def test_a_closed_volume_has_another_volume_key_when_it_returns(alone: Desk) -> None:
    """Code 0, the key at its number, the old volume key gone; that old backups are worthless is said."""
    before = volume_key(alone)
    answer = reencrypt(alone, "--json")
    assert (answer.code, answer.json) == (0, {"volume": EPHEMERAL, "ended": True})
    assert "backups of its header are of the old volume key" in answer.err
    assert slots(alone) == {0: "static"}
    assert volume_key(alone) != before
    assert alone.run("sync", "--dry-run", EPHEMERAL).code == 0
    assert alone.run("--json", "status", EPHEMERAL).json["meta"]["intents"] == []


def test_a_slot_of_others_is_carried_over_with_its_key(shared: Desk) -> None:
    """Its number is another one afterwards, and its key opens the new volume key."""
    answer = reencrypt(shared, keys={9: UNMANAGED})
    assert answer.code == 0, answer.err
    assert "it has a new volume key, and every key is back in its slot" in answer.out
    kinds = slots(shared)
    assert sorted(kinds.values()) == ["static", "unmanaged"]
    assert kinds[0] == "static"
    assert opens(shared.path("ephemeral"), UNMANAGED.encode())
    assert shown_in(answer.out + answer.err, UNMANAGED.encode()) == []


def test_a_slot_that_is_given_up_opens_nothing_any_more(shared: Desk) -> None:
    """Asked for by name, and confirmed; the others stay."""
    asked = reencrypt(shared, "--drop-slot", "9")
    assert asked.code == USAGE
    assert "keyslots 9 of EPHEMERAL will open nothing any more" in asked.err
    assert opens(shared.path("ephemeral"), UNMANAGED.encode())
    assert reencrypt(shared, "--drop-slot", "9", "--yes").code == 0
    assert not opens(shared.path("ephemeral"), UNMANAGED.encode())
    assert slots(shared) == {0: "static"}


def test_a_recovery_key_is_carried_over_as_people_type_it(alone: Desk) -> None:
    """From its descriptor, in capitals and with blanks."""
    text = alone.run("recovery", "add", EPHEMERAL).out
    answer = reencrypt(alone, keys={30: text.upper().replace("-", " ")})
    assert answer.code == 0, answer.err
    assert sorted(slots(alone).values()) == ["recovery", "static"]
    assert opens(alone.path("ephemeral"), text.strip().encode())


def test_a_lost_recovery_key_is_replaced_by_one_that_is_shown_once(alone: Desk) -> None:
    """Standard output is the new key and nothing else; the old one opens nothing."""
    old = alone.run("recovery", "add", EPHEMERAL).out
    answer = reencrypt(alone, "--drop-slot", "30", "--yes")
    assert answer.code == 0, answer.err
    assert FORM.fullmatch(answer.out)
    assert answer.out != old
    (slot,) = (number for number, kind in slots(alone).items() if kind == "recovery")
    assert f"slot: {slot}" in answer.err
    assert opens(alone.path("ephemeral"), answer.out.strip().encode())
    assert not opens(alone.path("ephemeral"), old.strip().encode())


def test_with_json_a_new_recovery_key_is_the_one_object(alone: Desk) -> None:
    """Whoever reads one object from standard output gets the key, and not half of what was printed."""
    alone.run("recovery", "add", EPHEMERAL)
    answer = reencrypt(alone, "--json", "--drop-slot", "30", "--yes")
    assert answer.code == 0, answer.err
    assert set(answer.json) == {"volume", "headerUUID", "slot", "recoveryKey"}
    assert "every key is back in its slot" in answer.err
    assert "next: luksctl recovery verify EPHEMERAL" in answer.err


def test_a_recipient_gets_the_only_copy_of_a_new_recovery_key(alone: Desk) -> None:
    """Standard output is the document alone, which the private key opens."""
    alone.run("recovery", "add", EPHEMERAL)
    public, private = alone.directory / "operator.pub", alone.directory / "operator.pem"
    public.write_bytes(operator("x25519").public_pem())
    private.write_bytes(operator("x25519").private_pem(None))
    answer = reencrypt(alone, "--drop-slot", "30", "--yes", "--recipient", str(public))
    assert answer.code == 0, answer.err
    document = json.loads(answer.out)
    assert slots(alone)[document["slot"]] == "recovery"
    sealed = alone.directory / "sealed.json"
    sealed.write_text(answer.out, encoding="utf-8")
    opened = alone.run("recovery", "open", "--identity", str(private), str(sealed))
    assert opens(alone.path("ephemeral"), opened.out.strip().encode())
    assert shown_in(answer.out + answer.err, opened.out.strip().encode()) == []


def test_what_was_begun_is_ended_by_resume(alone: Desk) -> None:
    """Without any question: the config's own key is enough; once more, and there is nothing to do."""
    before = volume_key(alone)
    answer = begun(alone).run("reencrypt", EPHEMERAL, "--resume")
    assert answer.code == 0, answer.err
    assert volume_key(alone) != before
    again = alone.run("reencrypt", EPHEMERAL, "--resume", "--json")
    assert (again.code, again.json) == (0, {"volume": EPHEMERAL, "ended": True})
    assert "nothing is left to do" in alone.run("reencrypt", EPHEMERAL, "--resume").out


def test_a_recovery_key_resumes_where_no_configured_one_can_be_recovered(alone: Desk) -> None:
    """The config was replaced by one with another passphrase: without the recovery key it is locked, as a boot is."""
    text = alone.run("recovery", "add", EPHEMERAL).out
    with Secret.take(text.strip().encode()) as key:
        begin(node_of(alone), EPHEMERAL, Options(), lambda _: Secret.join(key), lambda *_: None)
    alone.write_config(encrypted(passphrase="another one"))
    assert alone.run("reencrypt", EPHEMERAL, "--resume").code == LOCKED
    with descriptor_of(text) as descriptor:
        answer = alone.run("reencrypt", EPHEMERAL, "--resume", "--recovery-fd", str(descriptor))
    assert answer.code == 0, answer.err
    assert opens(alone.path("ephemeral"), b"another one")
    assert not opens(alone.path("ephemeral"), PASSPHRASE.encode())


def test_keys_are_asked_for_at_the_terminal(
    shared: Desk, terminal: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each by its slot, without an echo."""
    person, path = terminal
    monkeypatch.setattr(verb, "TERMINAL", path)
    typist = Typist(person, [f"{UNMANAGED}\n".encode()])
    typist.start()
    answer = reencrypt(shared)
    screen = typist.whole_screen()
    assert answer.code == 0, answer.err
    assert b"Passphrase of slot 9 of EPHEMERAL: " in screen
    assert shown_in(screen.decode() + answer.out + answer.err, UNMANAGED.encode()) == []
    assert opens(shared.path("ephemeral"), UNMANAGED.encode())


# ---- refused before the first write ---------------------------------------------------------------------------------


def assert_refused(desk: Desk, said: str, *words: str, code: int = REFUSED, keys: dict[int, str] | None = None) -> None:
    """Run the verb, and check that it says so, ends with `code` and leaves every image as it was."""
    before = desk.bytes_of("meta", "state", "ephemeral")
    answer = reencrypt(desk, *words, keys=keys)
    assert answer.code == code, answer.err
    assert said in answer.err
    assert desk.bytes_of("meta", "state", "ephemeral") == before


def test_every_key_has_to_be_known(shared: Desk) -> None:
    """One that nobody gives, or gives wrongly, is named, and how to give it up."""
    assert_refused(shared, "slot 9: its unmanaged key was not given; nothing was written")
    assert_refused(shared, "luksctl reencrypt EPHEMERAL --drop-slot 9")
    assert_refused(shared, "slot 9: the unmanaged key that was given does not open it", keys={9: "wrong"})
    answer = reencrypt(shared, "--json")
    assert (answer.json["error"], answer.json["exitCode"]) == ("Refused", REFUSED)


def test_a_recovery_key_of_another_volume_is_refused(alone: Desk) -> None:
    """It reads as a recovery key, and opens nothing here; one that was mistyped is wrong use."""
    text = alone.run("recovery", "add", EPHEMERAL).out
    assert alone.run("recovery", "remove", EPHEMERAL, "--slot", "30", "--yes").code == 0
    assert alone.run("recovery", "add", EPHEMERAL).code == 0
    assert_refused(alone, "slot 30: the recovery key that was given does not open it", keys={30: text})
    mistyped = text.replace(text[0], "0" if text[0] != "0" else "1", 1)
    assert_refused(alone, "group 1", code=USAGE, keys={30: mistyped})


def test_no_configured_key_would_be_left(alone: Desk) -> None:
    """The last one cannot be given up: nothing could go on with it."""
    assert_refused(alone, "no configured key would be carried over", "--drop-slot", "0", "--yes")


def test_what_is_not_there_is_refused(alone: Desk) -> None:
    """A keyslot to give up; a file with the public key of who is to get a new recovery key."""
    assert_refused(alone, "there is no keyslot 7 to give up", "--drop-slot", "7", "--yes")
    assert_refused(alone, "No such file", "--recipient", "/nowhere/to/be/found", code=DEVICE)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("--drop-slot x", ("--drop-slot", "x")),
        ("too slow", ("--max-rate", "1KiB")),
        ("not a size", ("--max-rate", "fast")),
        ("a keyslot and a descriptor are expected", ("--key-fd", "9")),
        ("invalid choice: 'none'", ("--resilience", "none")),
        ("--recovery is for --resume", ("--recovery",)),
        ("--recovery is for --resume", ("--recovery-fd", "0")),
    ],
)
def test_wrong_use_says_what_is_wrong(said: str, words: tuple[str, ...], alone: Desk) -> None:
    """Before anything is looked at."""
    assert_refused(alone, said, *words, code=USAGE)


def test_a_descriptor_that_is_not_open_is_wrong_use(shared: Desk) -> None:
    """Named with the slot whose key it should have given."""
    assert_refused(shared, "slot 9 of EPHEMERAL: descriptor 4000", "--key-fd", "9:4000", code=USAGE)


def test_a_volume_that_is_not_encrypted_has_no_volume_key(desk: Desk) -> None:
    """Blank, or plain: there is nothing to renew."""
    desk.write_config(encrypted())
    assert_refused(desk, "it is not an encrypted volume")
    desk.write_config(PLAIN)
    assert desk.run("boot", "STATE").code == 0
    answer = desk.run("--json", "reencrypt", "STATE")
    assert (answer.code, answer.json["cause"]) == (REFUSED, "it is not an encrypted volume")


def test_a_volume_that_nobody_adopted_says_what_to_type(desk: Desk) -> None:
    """Without our bookkeeping nobody knows whose its keyslots are."""
    desk.format("ephemeral", slots={0: PASSPHRASE})
    desk.write_config(encrypted())
    assert_refused(desk, "luksctl adopt EPHEMERAL")


def test_a_volume_that_is_being_erased_is_left_to_that(alone: Desk) -> None:
    """META announces it."""
    node_of(alone).ports.meta.update_record(
        lambda record: record.with_intent(ResetIntent(EPHEMERAL, str(alone.path("ephemeral")), head_bytes=MIB))
    )
    assert_refused(alone, "it is being erased")


def test_a_config_without_a_key_that_opens_it_is_locked(alone: Desk) -> None:
    """As for a boot, with the reason for the slot."""
    alone.write_config(encrypted(passphrase="another one"))
    assert_refused(alone, "slot 0", code=LOCKED)


@pytest.mark.parametrize("told", ["2.7.0", "2.7.4"])
def test_a_library_that_corrupts_data_is_not_asked(told: str, alone: Desk, tmp_path: Path) -> None:
    """What is mounted may be corrupted by these versions: the verb refuses, and names one that does not."""
    before = alone.bytes_of("meta", "ephemeral")
    (tmp_path / "lib").mkdir()
    library = library_that_says(told, tmp_path / "lib")
    answer = run_with_library(library, _VERB, str(alone.directory), "reencrypt", EPHEMERAL)
    assert answer.returncode == REFUSED, answer.stderr
    assert f"libcryptsetup {told} can corrupt data" in answer.stderr
    assert "install libcryptsetup 2.7.5 or newer" in answer.stderr
    assert alone.bytes_of("meta", "ephemeral") == before


# ---- while it is under way ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("sync", EPHEMERAL),
        ("recovery", "add", EPHEMERAL),
        ("adopt", EPHEMERAL),
    ],
)
def test_whatever_changes_keyslots_is_told_to_wait(words: tuple[str, ...], alone: Desk) -> None:
    """Code 11, by its name, and no byte written."""
    before = begun(alone).bytes_of("meta", "ephemeral")
    answer = alone.run("--json", *words)
    assert (answer.code, answer.json["error"]) == (BUSY, "ReencryptionRunning"), answer.err
    assert alone.bytes_of("meta", "ephemeral") == before
