"""plan shows what would be done, and touches nothing."""

from __future__ import annotations

import pytest

from tests.cli.desk import PLAIN, Desk, encrypted

_IMAGES = ("meta", "state", "ephemeral")


def test_a_first_boot_is_shown_slot_by_slot(desk: Desk) -> None:
    """Every step stands in the table, with its slot and what it destroys; the code is 8 and no byte changed."""
    desk.write_config(encrypted(slot=3))
    before = desk.bytes_of(*_IMAGES)
    answer = desk.run("plan")
    assert answer.code == 8
    lines = [line.split() for line in answer.out.splitlines()]
    assert ["STATE", "AddKeyslot", "3"] in [line[:3] for line in lines]
    assert ["EPHEMERAL", "FormatVolume", "DATA"] in [line[:3] for line in lines]
    assert desk.bytes_of(*_IMAGES) == before


def test_json_has_the_same_steps(desk: Desk) -> None:
    """Volume by volume, with what each step destroys."""
    desk.write_config(encrypted())
    answer = desk.run("plan", "--json", "STATE")
    assert answer.code == 8
    (volume,) = answer.json["volumes"]
    assert (volume["volume"], volume["observed"], volume["destroysData"]) == ("STATE", "Blank", True)
    assert {step["destroys"] for step in volume["steps"]} == {"nothing", "data"}
    assert [step["slot"] for step in volume["steps"] if step["step"] == "ProveKey"] == [0]


def test_a_given_config_is_planned_as_apply_config_would(desk: Desk) -> None:
    """On a node without config -f shows the first format; on one with a config of its own it may only open."""
    file = desk.directory / "given.yaml"
    file.write_text(encrypted(), encoding="utf-8")
    assert desk.run("plan", "-f", str(file)).code == 8
    desk.write_config(encrypted())
    answer = desk.run("plan", "STATE", "-f", str(file))
    assert answer.code == 3
    assert "may only open" in answer.out


def test_without_a_config_nothing_is_planned(desk: Desk) -> None:
    """Maintenance is said, with the way out of it."""
    answer = desk.run("plan")
    assert answer.code == 12
    assert "luksctl apply-config --insecure -f FILE" in answer.out


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"\x53\xef", "data that no known signature explains"), (b"LUKS\xba\xbe\x00\x01", "LUKS1")],
)
def test_what_is_not_ours_is_refused_with_a_hint(desk: Desk, content: bytes, said: str) -> None:
    """The refusal names volume and device, the code is 3, and the device is as before."""
    desk.write_config(encrypted())
    with desk.path("ephemeral").open("r+b") as image:
        image.write(content)
    before = desk.bytes_of("ephemeral")
    answer = desk.run("plan")
    assert answer.code == 3
    assert f"refused: EPHEMERAL: {desk.path('ephemeral')} holds" in answer.out
    assert said in answer.out
    assert "hint: " in answer.out
    assert desk.bytes_of("ephemeral") == before
    refusal = desk.run("plan", "--json", "EPHEMERAL").json["volumes"][0]["refusal"]
    assert refusal["error"] == "NotBlank"


def test_a_missing_image_ends_with_the_code_of_a_missing_device(desk: Desk) -> None:
    """Code 9, and what was looked for."""
    desk.write_config(encrypted())
    desk.path("ephemeral").unlink()
    answer = desk.run("plan", "EPHEMERAL")
    assert answer.code == 9
    assert "ephemeral.img" in answer.out


def test_a_refused_state_keeps_ephemeral_from_being_formatted(desk: Desk) -> None:
    """While STATE does not open, the config from outside may only open EPHEMERAL, and plan says so."""
    desk.write_config(encrypted())
    desk.path("state").write_bytes(b"\x01" * 4096)
    answer = desk.run("plan", "EPHEMERAL")
    assert answer.code == 3
    assert "STATE is not mounted" in answer.out


def test_a_converged_volume_has_nothing_to_do(desk: Desk) -> None:
    """After a plain STATE was made, its plan is empty and the code 0."""
    desk.write_config(PLAIN)
    assert desk.run("boot", "STATE").code == 0
    answer = desk.run("plan", "STATE")
    assert (answer.code, answer.out) == (0, f"STATE: nothing to do (by {desk.config})\n")


def test_a_closed_volume_would_be_opened(desk: Desk) -> None:
    """One step, and the note that STATE's own config will rule."""
    desk.write_config(encrypted())
    desk.format("state", slots={0: "x"})
    answer = desk.run("plan", "STATE")
    assert answer.code == 8
    assert "OpenVolume" in answer.out
    assert "the config in it rules" in answer.err
