"""check on the command line: what it prints, where, and how it ends."""

from __future__ import annotations

from tests.cli.desk import PASSPHRASE, Desk, encrypted
from tests.marker import MARKER, shown_in


def test_every_key_that_works_ends_with_0(desk: Desk) -> None:
    """A table on standard output, a line for each key as it is tried on standard error, and no byte changed."""
    desk.write_config(encrypted())
    desk.format("state", slots={0: PASSPHRASE})
    desk.format("ephemeral", slots={0: PASSPHRASE})
    before = desk.bytes_of("meta", "state", "ephemeral")
    answer = desk.run("check")
    assert answer.code == 0
    assert answer.out.splitlines()[1].split() == ["STATE", "0", "static", "works"]
    assert answer.err.splitlines()[:2] == [
        "STATE, slot 0 (static): trying the key",
        "EPHEMERAL, slot 0 (static): trying the key",
    ]
    assert "not noted anywhere: STATE is not mounted" in answer.err
    assert desk.bytes_of("meta", "state", "ephemeral") == before


def test_json_says_it_per_key(desk: Desk) -> None:
    """One object; the volume that is asked for and no other; the exit code is in it."""
    desk.write_config(encrypted(passphrase="wrong"))
    desk.format("state", slots={0: PASSPHRASE})
    answer = desk.run("check", "--json", "STATE")
    assert answer.code == answer.json["exitCode"] == 4
    (volume,) = answer.json["volumes"]
    assert (volume["volume"], volume["problem"], volume["exitCode"]) == ("STATE", None, 4)
    assert volume["keys"] == [
        {"slot": 0, "kind": "static", "outcome": "rejected", "cause": "the key does not open this slot", "hint": None}
    ]


def test_a_missing_slot_names_the_next_command(desk: Desk) -> None:
    """What adds it."""
    desk.write_config(encrypted(slot=3))
    desk.format("state", slots={0: PASSPHRASE})
    answer = desk.run("check", "STATE")
    assert answer.code == 4
    assert "slot missing" in answer.out
    assert "next: luksctl sync STATE" in answer.out


def test_a_node_without_config_ends_with_12(desk: Desk) -> None:
    """The timer's service takes that for no failure."""
    answer = desk.run("check")
    assert answer.code == 12
    assert "next: luksctl apply-config --insecure -f FILE" in answer.out


def test_no_key_is_shown(desk: Desk) -> None:
    """Neither one that works nor one that does not, in text, JSON or with --debug."""
    desk.write_config(encrypted(passphrase=MARKER.decode()))
    desk.format("state", slots={0: MARKER.decode()})
    desk.format("ephemeral", slots={0: "another"})
    for words in (("check",), ("check", "--json"), ("--debug", "check"), ("doctor", "--check"), ("doctor", "--json")):
        answer = desk.run(*words)
        assert answer.code in (4, 5)
        assert shown_in(answer.out + answer.err) == []
