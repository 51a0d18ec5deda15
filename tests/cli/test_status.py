"""status says how everything is, ends with a code that means it, and touches nothing."""

from __future__ import annotations

from luksctl.cryptsetup.kdf import Pbkdf2Cost
from luksctl.units import KIB
from tests.cli.desk import PASSPHRASE, PLAIN, Desk, encrypted
from tests.marker import MARKER, forms_of

_IMAGES = ("meta", "state", "ephemeral")


def test_a_new_node_is_in_maintenance(desk: Desk) -> None:
    """Code 12, both volumes blank, and the command that leads out of it."""
    answer = desk.run("status")
    assert answer.code == 12
    assert "node: maintenance" in answer.out
    assert answer.out.count("blank") >= 2
    assert "next: luksctl apply-config --insecure -f FILE" in answer.out


def test_a_closed_volume_is_locked_and_shows_its_slots(desk: Desk) -> None:
    """Slots have number, kind, KDF with cost; one that the config does not list is unmanaged; no byte changed."""
    desk.write_config(encrypted(slot=1))
    desk.format("state", slots={1: PASSPHRASE, 7: "by hand"})
    before = desk.bytes_of(*_IMAGES)
    answer = desk.run("status", "--json", "STATE")
    assert answer.code == 4
    (volume,) = answer.json["volumes"]
    assert volume["state"] == "closed"
    assert [(slot["slot"], slot["kind"]) for slot in volume["slots"]] == [(1, "static"), (7, "unmanaged")]
    assert volume["slots"][0]["kdf"] == {
        "type": "argon2id",
        "time": 4,
        "memoryKiB": 32,
        "threads": 1,
        "iterations": None,
    }
    assert volume["headerCopies"]["state"] == "equal"
    assert volume["talos"] == {"readable": True, "objections": [], "removesSlots": [7]}
    assert desk.bytes_of(*_IMAGES) == before
    text = desk.run("status", "STATE").out
    assert "unmanaged" in text
    assert "Talos would remove slot 7" in text
    assert "next: luksctl boot STATE" in text


def test_without_a_config_slots_are_of_unknown_kind(desk: Desk) -> None:
    """A STATE that nobody has keys for is locked, and its slots are shown all the same."""
    desk.format("state", slots={0: PASSPHRASE})
    answer = desk.run("status", "--json", "STATE")
    assert (answer.code, answer.json["condition"]) == (4, "locked")
    assert answer.json["volumes"][0]["slots"][0]["kind"] == "unknown"


def test_a_damaged_copy_is_named(desk: Desk) -> None:
    """Both header copies are shown, and the damaged one says why; the medium is not repaired by looking."""
    desk.write_config(encrypted())
    desk.format("ephemeral", slots={0: PASSPHRASE})
    with desk.path("ephemeral").open("r+b") as image:
        image.seek(16 * KIB + 4096)
        image.write(b"\x00")
    before = desk.bytes_of("ephemeral")
    answer = desk.run("status", "EPHEMERAL")
    assert answer.code == 4
    assert "header copies: first only" in answer.out
    assert "checksum" in answer.out
    assert desk.bytes_of("ephemeral") == before


def test_what_talos_could_not_read_is_said(desk: Desk) -> None:
    """A pbkdf2 slot, and metadata larger than Talos reads."""
    desk.write_config(encrypted())
    desk.format("state", slots={0: PASSPHRASE}, kdf=Pbkdf2Cost(1000), metadata_size_bytes=64 * KIB)
    answer = desk.run("status", "--json", "STATE")
    talos = answer.json["volumes"][0]["talos"]
    assert talos["readable"] is False
    assert any("pbkdf2" in objection for objection in talos["objections"])
    assert any("64 KiB" in objection for objection in talos["objections"])
    assert answer.json["volumes"][0]["slots"][0]["kdf"]["iterations"] == 1000


def test_a_configured_key_without_a_keyslot_is_a_finding(desk: Desk) -> None:
    """The slot and its kind are named."""
    desk.write_config(encrypted(slot=2))
    desk.format("state", slots={0: PASSPHRASE})
    findings = desk.run("status", "--json", "STATE").json["volumes"][0]["findings"]
    assert "slot 2 (static) is configured, and the header has no such keyslot" in findings


def test_a_plain_volume_that_is_as_configured_is_fine(desk: Desk) -> None:
    """Code 0 once nothing is left to do."""
    desk.write_config(PLAIN)
    desk.run("boot", "STATE")
    answer = desk.run("status", "--json", "STATE")
    assert answer.code == 0
    volume = answer.json["volumes"][0]
    assert (volume["state"], volume["filesystem"]) == ("plain", "ext4")


def test_work_to_do_is_degraded(desk: Desk) -> None:
    """A blank volume that the config wants formatted is not as configured: code 5, and plan is the next command."""
    desk.write_config(PLAIN)
    answer = desk.run("status", "--json", "STATE")
    assert answer.code == 5
    assert answer.json["condition"] == "not started"
    assert answer.json["next"] == ["luksctl plan STATE"]


def test_torn_meta_is_a_finding(desk: Desk) -> None:
    """META with one bad copy, and with none that is good."""
    desk.write_config(PLAIN)
    desk.run("boot", "STATE")
    with desk.path("meta").open("r+b") as image:
        image.seek(100)
        image.write(b"\xff")
    answer = desk.run("status", "--json", "STATE")
    assert answer.code == 5
    assert answer.json["meta"]["state"] == "second copy only"
    assert any(finding.startswith("META is second copy only") for finding in answer.json["findings"])
    with desk.path("meta").open("r+b") as image:
        image.seek(256 * KIB + 100)
        image.write(b"\xff")
    answer = desk.run("status", "--json", "STATE")
    assert (answer.code, answer.json["condition"]) == (4, "locked")


def test_a_wrong_config_is_a_finding_and_no_obstacle(desk: Desk) -> None:
    """Volumes are shown all the same."""
    desk.write_config("kind: VolumeConfig\nname: STATE\n")
    desk.format("state", slots={0: PASSPHRASE})
    answer = desk.run("status", "--json", "STATE")
    assert answer.code == 4
    assert any("the machine config is wrong" in finding for finding in answer.json["findings"])
    assert answer.json["volumes"][0]["slots"]


def test_a_failed_attempt_is_remembered(desk: Desk) -> None:
    """What stopped the last boot of the volume is shown with it."""
    desk.write_config(encrypted(passphrase="wrong"))
    desk.format("state", slots={0: PASSPHRASE})
    assert desk.run("boot", "STATE").code == 4
    answer = desk.run("status", "STATE")
    assert answer.code == 4
    assert "last attempt: STATE" in answer.out
    assert desk.run("status", "--json", "STATE").json["volumes"][0]["state"] == "locked"


def test_no_secret_is_shown(desk: Desk) -> None:
    """Neither a passphrase nor a UUID override is in any output of status, plan and meta list."""
    desk.write_config(encrypted(passphrase=MARKER.decode()))
    desk.format("state", slots={0: MARKER.decode()})
    assert desk.run("meta", "write", "0x0f", MARKER.decode(), "--yes").code == 0
    answers = [
        desk.run(*words)
        for words in (
            ("status",),
            ("status", "--json"),
            ("plan",),
            ("plan", "--json"),
            ("boot", "STATE"),
            ("--debug", "boot", "STATE"),
            ("meta", "list"),
            ("meta", "list", "--json"),
            ("meta", "read", "15"),
            ("validate", str(desk.config)),
        )
    ]
    said = "".join(answer.out + answer.err for answer in answers).encode()
    assert all(form not in said for form in forms_of(MARKER).values())
    assert "overrides the node UUID" in answers[0].out
