"""sync and adopt on real headers: volumes of others are left alone until they are adopted; then they follow."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.cli.desk import PASSPHRASE, Desk, encrypted

_IMAGES = ("meta", "state", "ephemeral")


def _opens(image: Path, passphrase: str, slot: int | None = None) -> bool:
    """Ask the stock tool."""
    command = ["cryptsetup", "open", "--test-passphrase", "--key-file", "-", str(image)]
    command += [] if slot is None else ["--key-slot", str(slot)]
    return subprocess.run(command, input=passphrase.encode(), capture_output=True, check=False).returncode == 0


def _foreign(desk: Desk) -> None:
    """Make both volumes as another tool would, with a slot that nobody configured."""
    for name in ("state", "ephemeral"):
        desk.format(name, slots={0: PASSPHRASE, 7: "by hand"})
    desk.write_config(encrypted())


def test_a_volume_that_nobody_adopted_is_not_written_to(desk: Desk) -> None:
    """It opens with the config's key, and that is all; both verbs of looking agree."""
    _foreign(desk)
    before = desk.bytes_of(*_IMAGES)
    answer = desk.run("sync", "--json", "EPHEMERAL")
    assert answer.code == 0
    (volume,) = answer.json["volumes"]
    assert (volume["inSync"], volume["adopted"], volume["taken"]) == (True, False, [])
    assert desk.bytes_of(*_IMAGES) == before
    assert "luksctl adopt EPHEMERAL" in desk.run("status", "EPHEMERAL").out


def test_adopting_notes_what_opens_and_changes_nothing_else(desk: Desk) -> None:
    """Slot 0 is ours then, slot 7 stays unmanaged, and both still open; a second time writes nothing."""
    _foreign(desk)
    answer = desk.run("adopt", "EPHEMERAL")
    assert answer.code == 0, answer.err
    assert "adopted" in answer.out
    (volume,) = desk.run("status", "--json", "EPHEMERAL").json["volumes"]
    assert volume["adopted"] is True
    assert [(slot["slot"], slot["kind"]) for slot in volume["slots"]] == [(0, "static"), (7, "unmanaged")]
    assert volume["slots"][0]["changedAt"] is not None
    assert _opens(desk.path("ephemeral"), PASSPHRASE, 0)
    assert _opens(desk.path("ephemeral"), "by hand", 7)
    before = desk.bytes_of(*_IMAGES)
    assert "ours already" in desk.run("adopt", "EPHEMERAL").out
    assert desk.bytes_of(*_IMAGES) == before


def test_a_volume_that_no_configured_key_opens_is_not_adopted(desk: Desk) -> None:
    """Neither at another slot nor with another passphrase; no byte changes."""
    _foreign(desk)
    before = desk.bytes_of(*_IMAGES)
    for config in (encrypted(passphrase="another"), encrypted(slot=7)):
        desk.write_config(config)
        assert desk.run("adopt", "EPHEMERAL").code == 4
    assert desk.bytes_of(*_IMAGES) == before


def test_an_adopted_volume_follows_the_config(desk: Desk) -> None:
    """A second key is added beside the first, then the first one dropped: it opens nothing any more."""
    _foreign(desk)
    assert desk.run("adopt", "EPHEMERAL").code == 0
    both = encrypted().replace(
        f"    - slot: 0\n      static: {{passphrase: {PASSPHRASE}}}\n",
        f"    - slot: 0\n      static: {{passphrase: {PASSPHRASE}}}\n"
        "    - slot: 1\n      static: {passphrase: new}\n",
    )
    desk.write_config(both)
    planned = desk.run("sync", "--dry-run", "--json", "EPHEMERAL")
    assert planned.code == 8
    names = [step["step"] for step in planned.json["volumes"][0]["planned"]]
    assert names == ["MakeKey", "AnnounceKeyslot", "AddKeyslot", "ProveKey", "RecordKeyslots"]
    assert desk.run("sync", "EPHEMERAL").code == 0
    desk.write_config(encrypted(slot=1, passphrase="new"))
    answer = desk.run("sync", "EPHEMERAL")
    assert answer.code == 0, answer.err
    assert not _opens(desk.path("ephemeral"), PASSPHRASE)
    assert _opens(desk.path("ephemeral"), "new", 1)
    assert _opens(desk.path("ephemeral"), "by hand", 7)
    before = desk.bytes_of(*_IMAGES)
    assert desk.run("sync", "EPHEMERAL").out == "EPHEMERAL: in sync\n"
    assert desk.bytes_of(*_IMAGES) == before


def test_an_unmanaged_slot_at_a_configured_number_blocks_that_key(desk: Desk) -> None:
    """Code 5 and the slot's number; nothing is overwritten. With prune, slots of others are removed."""
    _foreign(desk)
    assert desk.run("adopt", "EPHEMERAL").code == 0
    key = f"    - slot: 0\n      static: {{passphrase: {PASSPHRASE}}}\n"
    desk.write_config(encrypted().replace(key, f"{key}    - slot: 7\n      static: {{passphrase: mine}}\n"))
    before = desk.bytes_of(*_IMAGES)
    answer = desk.run("sync", "EPHEMERAL")
    assert answer.code == 5
    assert "slot 7" in answer.err
    assert desk.bytes_of(*_IMAGES) == before
    desk.write_config(encrypted() + "prune: true\n")
    assert desk.run("sync", "EPHEMERAL").code == 0
    assert not _opens(desk.path("ephemeral"), "by hand")
    assert _opens(desk.path("ephemeral"), PASSPHRASE, 0)


def test_without_a_key_that_opens_nothing_is_written(desk: Desk) -> None:
    """The volume key cannot be recovered: code 4."""
    _foreign(desk)
    assert desk.run("adopt", "EPHEMERAL").code == 0
    desk.write_config(encrypted(passphrase="another"))
    before = desk.bytes_of(*_IMAGES)
    assert desk.run("sync", "EPHEMERAL").code == 4
    assert desk.bytes_of(*_IMAGES) == before
