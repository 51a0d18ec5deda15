"""boot opens what the boot would open; retry gives an interrupted format new attempts; apply-config asks first.

Nothing here can be mapped (that takes the kernel's dm-crypt), so encrypted volumes are followed up to that point.
"""

from __future__ import annotations

import pytest

from luksctl.meta.store import AdvStore
from luksctl.model.config import STATE
from luksctl.model.intent import MAX_ATTEMPTS, FormatIntent, FormatPhase
from luksctl.model.meta import NodeRecord
from tests.cli.desk import PASSPHRASE, PLAIN, Desk, encrypted


def _store(desk: Desk) -> AdvStore:
    return AdvStore(str(desk.path("meta")), f"{desk.path('meta')}.lock")


def _announce(desk: Desk, attempt: int) -> FormatIntent:
    """Leave META as a first format of STATE leaves it that was interrupted `attempt` times."""
    header = "11111111-2222-4333-8444-555555555555"
    intent = FormatIntent(STATE, str(desk.path("state")), header, attempt, FormatPhase.FILESYSTEM, "mkfs failed")
    _store(desk).update_record(lambda record: record.with_intent(intent))
    return intent


def _record(desk: Desk) -> NodeRecord:
    return _store(desk).load().record


def test_a_plain_volume_is_made_and_told(desk: Desk) -> None:
    """Each step is told on standard error, the result on standard output."""
    desk.write_config(PLAIN)
    answer = desk.run("boot", "STATE")
    assert answer.code == 0
    assert f"STATE: make ext4 on {desk.path('state')}" in answer.err
    assert answer.out == f"STATE is plain ({desk.path('state')})\n"
    again = desk.run("boot", "STATE", "--json")
    assert again.json["volumes"][0]["state"] == "plain"
    assert again.err == ""


def test_a_wrong_passphrase_names_the_slot_and_the_next_command(desk: Desk) -> None:
    """Code 4; volume, slot, kind and cause are in the message, and nothing was written."""
    desk.write_config(encrypted(slot=5, passphrase="wrong"))
    desk.format("state", slots={5: PASSPHRASE})
    before = desk.bytes_of("state")
    answer = desk.run("boot", "STATE")
    assert answer.code == 4
    assert "luksctl: STATE: no configured key opens the volume: slot 5 (static key)" in answer.err
    assert "hint: " in answer.err
    assert desk.bytes_of("state") == before


def test_a_wrong_config_is_told_line_by_line_with_the_next_command(desk: Desk) -> None:
    """Code 2; every line names the file, none is put down to a volume, and the hint names the file too."""
    desk.write_config("kind: VolumeConfig\nname: STATE\nsize: 1\n")
    answer = desk.run("boot", "STATE")
    assert answer.code == 2
    *problems, hint = answer.err.splitlines()
    assert len(problems) > 1
    assert all(line.startswith((f"luksctl: {desk.config}:", "  hint: ")) for line in problems)
    assert hint == f"hint: luksctl validate {desk.config}"
    assert str(desk.config) in desk.run("boot", "STATE", "--json").json["hint"]


def test_ephemeral_waits_for_state(desk: Desk) -> None:
    """While STATE is not mounted its stage formats nothing: code 3."""
    desk.write_config(PLAIN)
    before = desk.bytes_of("ephemeral")
    answer = desk.run("boot", "EPHEMERAL")
    assert answer.code == 3
    assert "STATE is not mounted" in answer.err
    assert desk.bytes_of("ephemeral") == before


def test_all_stops_at_the_first_that_fails(desk: Desk) -> None:
    """Without any config, --all ends with maintenance and never looks at EPHEMERAL."""
    answer = desk.run("boot", "--all")
    assert answer.code == 12
    assert "EPHEMERAL" not in answer.err


def test_after_three_attempts_only_retry_goes_on(desk: Desk) -> None:
    """Boot refuses and names the step that failed and retry; retry starts again and makes the volume."""
    desk.write_config(PLAIN)
    _announce(desk, MAX_ATTEMPTS)
    refused = desk.run("boot", "STATE")
    assert refused.code == 3
    assert "failed 3 times, last while making the filesystem (mkfs failed)" in refused.err
    assert "luksctl retry STATE" in refused.err
    answer = desk.run("retry", "STATE")
    assert answer.code == 0, answer.err
    assert "3 attempts so far" in answer.err
    assert "attempt 1, making the filesystem" in answer.err
    assert _record(desk).intents == ()


def test_retry_without_an_interrupted_format_opens(desk: Desk) -> None:
    """It says that nothing was announced, and does what boot does."""
    desk.write_config(PLAIN)
    answer = desk.run("retry", "STATE", "--json", "--no-mount")
    assert answer.code == 0
    assert "neither a format nor a reset is announced" in answer.err
    assert answer.json["volumes"][0]["state"] == "plain"


def test_a_retry_that_fails_again_has_used_one_attempt(desk: Desk) -> None:
    """The counter starts at none: after a failing retry, two more are left."""
    desk.write_config(PLAIN.replace("ext4", "xfs"))
    desk.image("state", 8 << 20)  # too small for any xfs
    _announce(desk, MAX_ATTEMPTS)
    answer = desk.run("retry", "STATE")
    assert answer.code == 9
    intent = _record(desk).intent(STATE)
    assert intent is not None
    assert intent.attempt == 1
    assert intent.last_error


def test_dropping_the_intent_has_to_be_meant(desk: Desk) -> None:
    """Without --yes and without a terminal it is a usage error, and META keeps the announcement."""
    intent = _announce(desk, 2)
    answer = desk.run("retry", "STATE", "--drop-intent")
    assert answer.code == 64
    assert "foreign data" in answer.err
    assert _record(desk).intent(STATE) == intent


def test_a_dropped_intent_leaves_foreign_data(desk: Desk) -> None:
    """What the interrupted format left is refused from then on; nothing but META changed."""
    desk.write_config(PLAIN)
    desk.path("state").write_bytes(b"\x5a" * (32 << 20))
    _announce(desk, 2)
    assert desk.run("plan", "STATE").code == 8
    before = desk.bytes_of("state")
    assert desk.run("retry", "STATE", "--drop-intent", "--yes").code == 0
    assert _record(desk).intents == ()
    assert desk.run("plan", "STATE").code == 3
    assert desk.bytes_of("state") == before
    again = desk.run("retry", "STATE", "--drop-intent", "--json")
    assert again.json == {"volume": "STATE", "dropped": False}


def test_status_names_the_announced_format(desk: Desk) -> None:
    """Volume, attempt, phase and the last error are shown before anything is done about them."""
    desk.write_config(PLAIN)
    _announce(desk, 2)
    answer = desk.run("status", "STATE")
    assert "announces the format of STATE: attempt 2, making the filesystem, stopped by: mkfs failed" in answer.out


@pytest.mark.parametrize(("words", "code"), [((), 3), (("--insecure",), 3)])
def test_a_config_is_not_taken_without_proof(desk: Desk, words: tuple[str, ...], code: int) -> None:
    """Without --insecure a first config is refused; with it, so is any on a node that is locked."""
    if words:
        desk.format("state", slots={0: PASSPHRASE})
    file = desk.directory / "new.yaml"
    file.write_text(encrypted(), encoding="utf-8")
    before = desk.bytes_of("meta", "state")
    answer = desk.run("apply", "-f", str(file), *words)
    assert answer.code == code
    assert "luksctl apply-config --insecure" in answer.err if not words else "luksctl status" in answer.err
    assert desk.bytes_of("meta", "state") == before


def test_a_wrong_config_is_not_even_looked_for_a_device(desk: Desk) -> None:
    """apply-config ends with 2 and every problem, before the node is touched."""
    file = desk.directory / "new.yaml"
    file.write_text("kind: VolumeConfig\nname: STATE\n", encoding="utf-8")
    assert desk.run("apply-config", "--insecure", "-f", str(file)).code == 2
