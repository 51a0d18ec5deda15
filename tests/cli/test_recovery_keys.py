"""luksctl recovery add, list, verify and remove, over real headers; the stock cryptsetup opens with what was shown."""

from __future__ import annotations

import json
import os
import re
import sys

import pytest

from luksctl.providers.recovery_key import read_recovery_key
from luksctl.secret import Secret
from tests.cli.desk import PASSPHRASE, Answer, Desk, encrypted
from tests.marker import shown_in
from tests.providers.operators import operator
from tests.providers.stock import opens

FORM = re.compile(r"[0-9a-z]{5}(-[0-9a-z]{5}){12}\n")


@pytest.fixture
def adopted(desk: Desk) -> Desk:
    """Return a machine whose EPHEMERAL is ours, with one static key."""
    desk.format("ephemeral", slots={0: PASSPHRASE})
    desk.write_config(encrypted())
    assert desk.run("adopt", "EPHEMERAL").code == 0
    return desk


def given(desk: Desk, text: str, *words: str) -> Answer:
    """Run a command with `text` at the descriptor of --key-fd."""
    reader, writer = os.pipe()
    os.write(writer, text.encode())
    os.close(writer)
    try:
        return desk.run(*words, "--key-fd", str(reader))
    finally:
        os.close(reader)


def add(desk: Desk) -> str:
    """Add a recovery key to EPHEMERAL, and return what was shown."""
    answer = desk.run("recovery", "add", "EPHEMERAL")
    assert answer.code == 0, answer.err
    return answer.out


def test_what_is_shown_opens_with_the_stock_tool(adopted: Desk) -> None:
    """The sheet is enough on any rescue system; the form with the checks is the passphrase itself."""
    shown = add(adopted)
    assert FORM.fullmatch(shown)
    assert opens(adopted.path("ephemeral"), shown.rstrip("\n").encode())
    assert not opens(adopted.path("ephemeral"), shown.upper().rstrip("\n").encode())


def test_it_is_shown_once_and_stored_nowhere(adopted: Desk) -> None:
    """Standard output has it, and no file and no message does; what it is for is on standard error."""
    answer = adopted.run("recovery", "add", "EPHEMERAL")
    text = answer.out.strip()
    with Secret.take(text.encode()) as key, read_recovery_key(key) as canonical, canonical.view() as view:
        assert bytes(view) == text.encode()
    for part in ("volume: EPHEMERAL", "headerUUID: ", "slot: 30", "luksctl recovery verify EPHEMERAL"):
        assert part in answer.err
    assert shown_in(answer.err, text.encode()) == []
    for path in adopted.directory.rglob("*"):
        if path.is_file():
            assert text.encode() not in path.read_bytes(), path


def test_with_json_all_of_it_is_one_object(adopted: Desk) -> None:
    """The key and its place, for who asked for it by --json."""
    answer = adopted.run("--json", "recovery", "add", "EPHEMERAL")
    assert set(answer.json) == {"volume", "headerUUID", "slot", "recoveryKey"}
    assert opens(adopted.path("ephemeral"), answer.json["recoveryKey"].encode())


def test_a_recipient_gets_the_only_copy(adopted: Desk) -> None:
    """Standard output is the JSON document alone; the private key opens it, and what comes out opens the volume."""
    public, private = adopted.directory / "operator.pub", adopted.directory / "operator.pem"
    public.write_bytes(operator("x25519").public_pem())
    private.write_bytes(operator("x25519").private_pem(None))
    answer = adopted.run("recovery", "add", "EPHEMERAL", "--recipient", str(public))
    document = json.loads(answer.out)
    assert (document["node"], document["volume"], document["slot"]) == (os.uname().nodename, "EPHEMERAL", 30)
    sealed = adopted.directory / "sealed.json"
    sealed.write_text(answer.out, encoding="utf-8")
    opened = adopted.run("recovery", "open", "--identity", str(private), str(sealed))
    assert opens(adopted.path("ephemeral"), opened.out.strip().encode())
    assert shown_in(answer.out + answer.err, opened.out.strip().encode()) == []


def test_a_recipient_that_cannot_be_used_stops_it_before_anything_is_written(adopted: Desk) -> None:
    """The public key is read first."""
    before = adopted.bytes_of("ephemeral")
    assert adopted.run("recovery", "add", "EPHEMERAL", "--recipient", str(adopted.config)).code == 13
    assert adopted.run("recovery", "add", "EPHEMERAL", "--recipient", "/nowhere/to/be/found").code == 9
    assert adopted.bytes_of("ephemeral") == before


class FullDisk:
    """A standard output that takes nothing any more."""

    def __init__(self) -> None:
        self.buffer = self

    def write(self, text: object) -> int:
        """Take it into a buffer."""
        return len(str(text))

    def flush(self) -> None:
        """Fail."""
        raise OSError(28, "No space left on device")

    def isatty(self) -> bool:
        """Say no."""
        return False


def test_what_cannot_be_shown_is_removed_again(adopted: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a key would be there that nobody has."""
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", FullDisk())
        answer = adopted.run("recovery", "add", "EPHEMERAL")
    assert answer.code == 9
    listed = adopted.run("--json", "recovery", "list", "EPHEMERAL").json
    assert listed == {"recoveryKeys": []}
    assert opens(adopted.path("ephemeral"), PASSPHRASE.encode())


def test_listed_with_when_it_was_made(adopted: Desk) -> None:
    """Without a key, and so also where no config is at hand."""
    add(adopted)
    adopted.config.unlink()
    answer = adopted.run("recovery", "list")
    assert answer.code == 0
    assert re.search(r"EPHEMERAL +30 +\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ +never", answer.out)


def test_verify_takes_it_as_people_type_it(adopted: Desk) -> None:
    """Capitals, blanks, no hyphens; and it writes nothing to the volume."""
    shown = add(adopted)
    before = adopted.bytes_of("ephemeral")
    answer = given(adopted, shown.upper().replace("-", " "), "--json", "recovery", "verify", "EPHEMERAL")
    assert answer.code == 0
    assert (answer.json["slot"], answer.json["listed"], answer.json["kept"]) == (30, True, None)
    assert "STATE is not mounted" in answer.err
    assert adopted.bytes_of("ephemeral") == before


def test_verify_says_no(adopted: Desk) -> None:
    """Another key, a typing mistake, and a volume without keys each have their own answer."""
    shown = add(adopted)
    adopted.run("recovery", "remove", "EPHEMERAL", "--slot", "30", "--yes")
    gone = given(adopted, shown, "recovery", "verify", "EPHEMERAL")
    assert (gone.code, gone.out) == (4, "")
    assert "opens none of its keyslots" in gone.err
    mistyped = given(
        adopted, shown.replace(shown[0], "0" if shown[0] != "0" else "1", 1), "recovery", "verify", "EPHEMERAL"
    )
    assert mistyped.code == 64
    assert "group 1" in mistyped.err
    assert given(adopted, shown, "recovery", "verify", "STATE").code == 3


def test_removing_says_what_is_lost_and_asks(adopted: Desk) -> None:
    """Without a terminal it needs --yes; afterwards the key opens nothing, and the configured one still does."""
    shown = add(adopted).strip()
    asked = adopted.run("recovery", "remove", "EPHEMERAL", "--slot", "30")
    assert asked.code == 64
    assert "will open nothing any more" in asked.err
    assert opens(adopted.path("ephemeral"), shown.encode())
    done = adopted.run("--json", "recovery", "remove", "EPHEMERAL", "--slot", "30", "--yes")
    assert done.json == {"volume": "EPHEMERAL", "slot": 30, "removed": True}
    assert not opens(adopted.path("ephemeral"), shown.encode())
    assert opens(adopted.path("ephemeral"), PASSPHRASE.encode())
    assert adopted.run("recovery", "remove", "EPHEMERAL", "--slot", "0", "--yes").code == 64


def test_a_volume_that_nobody_adopted_says_what_to_type(desk: Desk) -> None:
    """And is not written to."""
    desk.format("ephemeral", slots={0: PASSPHRASE})
    desk.write_config(encrypted())
    before = desk.bytes_of("ephemeral")
    answer = desk.run("--json", "recovery", "add", "EPHEMERAL")
    assert (answer.code, answer.json["hint"]) == (3, "luksctl adopt EPHEMERAL")
    assert desk.bytes_of("ephemeral") == before


def test_a_sync_keeps_it(adopted: Desk) -> None:
    """It is in no config, and stays."""
    shown = add(adopted).strip()
    before = adopted.bytes_of("ephemeral")
    assert adopted.run("sync", "EPHEMERAL").code == 0
    assert adopted.bytes_of("ephemeral") == before
    assert opens(adopted.path("ephemeral"), shown.encode())


def test_unlock_needs_to_be_told_how(desk: Desk) -> None:
    """There may be other ways one day; and a volume without keys asks nobody to type."""
    assert desk.run("unlock", "STATE").code == 64
    assert desk.run("unlock", "STATE", "--recovery").code == 3
