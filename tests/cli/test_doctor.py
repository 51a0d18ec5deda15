"""doctor on the command line: one page for people, one object for programs, and codes that mean something."""

from __future__ import annotations

from luksctl.cryptsetup.device import Device
from tests.cli.desk import PASSPHRASE, PLAIN, Desk, encrypted


def test_each_finding_has_its_fix_on_the_next_line(desk: Desk) -> None:
    """The most urgent first; nothing on any image changed."""
    desk.write_config(encrypted(slot=1))
    desk.format("state", slots={0: PASSPHRASE})
    before = desk.bytes_of("meta", "state")
    answer = desk.run("doctor", "STATE")
    lines = answer.out.splitlines()
    assert answer.code == 4
    assert lines[0] == "broken: STATE: slot 1 (static) is configured, and the header has no such keyslot"
    assert lines[1] == "  fix: luksctl sync STATE"
    weights = [line.partition(":")[0] for line in lines if not line.startswith(" ")]
    assert weights == sorted(weights, key=["broken", "risk", "note"].index)
    assert desk.bytes_of("meta", "state") == before


def test_json_has_each_finding_as_data(desk: Desk) -> None:
    """Weight, volume, slot, what and fix; no check where none was asked for."""
    desk.write_config(encrypted())
    desk.format("state", slots={0: PASSPHRASE, 7: "by hand"})
    answer = desk.run("doctor", "--json", "STATE")
    assert answer.code == answer.json["exitCode"] == 4
    assert answer.json["check"] is None
    assert {
        "weight": "note",
        "volume": "STATE",
        "slot": 7,
        "what": "slot 7 is no configured key's; whoever holds its key opens the volume",
        "fix": "luksctl status STATE",
    } in answer.json["findings"]


def test_check_tries_the_keys_as_well(desk: Desk) -> None:
    """The result is in the object, and a wrong passphrase among the findings."""
    desk.write_config(encrypted(passphrase="wrong"))
    desk.format("state", slots={0: PASSPHRASE})
    answer = desk.run("doctor", "--check", "--json", "STATE")
    assert answer.json["check"]["volumes"][0]["keys"][0]["outcome"] == "rejected"
    assert any("slot 0 (static) was tried: rejected" in found["what"] for found in answer.json["findings"])
    assert "STATE, slot 0 (static): trying the key" in answer.err


def test_a_failed_boot_is_explained(desk: Desk) -> None:
    """What the last attempt of this boot ended with is the first thing to know."""
    desk.write_config(encrypted(passphrase="wrong"))
    desk.format("state", slots={0: PASSPHRASE})
    assert desk.run("boot", "STATE").code == 4
    answer = desk.run("doctor", "STATE")
    assert answer.code == 4
    assert "the last attempt ended with: STATE: no configured key" in answer.out


def test_a_new_node_waits_for_its_config(desk: Desk) -> None:
    """Code 12, and the command that leads out of it first."""
    answer = desk.run("doctor")
    assert answer.code == 12
    assert answer.out.splitlines()[1] == "  fix: luksctl apply-config --insecure -f FILE"


def test_a_plain_node_has_nothing_broken(desk: Desk) -> None:
    """Formatted as configured; whatever surrounds these tests, nothing keeps the volume from coming up."""
    desk.write_config(PLAIN)
    assert desk.run("boot", "STATE").code == 0
    answer = desk.run("doctor", "STATE")
    assert answer.code in (0, 5)
    assert "broken" not in answer.out
    assert (answer.code == 0) == ("nothing is wrong" in answer.out)


def test_labels_from_a_disk_obey_no_terminal(desk: Desk) -> None:
    """A token type is anybody's text."""
    desk.write_config(encrypted())
    desk.format("state", slots={0: PASSPHRASE})
    with Device.open(str(desk.path("state"))) as device:
        device.tokens.set(3, '{"type": "a strange type", "keyslots": []}')
    answer = desk.run("doctor", "STATE")
    assert "token 3 (a strange type) belongs to no keyslot" in answer.out
    assert "\x1b" not in answer.out
