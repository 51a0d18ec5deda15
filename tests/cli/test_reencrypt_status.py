"""What `luksctl status` and whoever follows the service see of a re-encryption that is under way, or was stopped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from luksctl.cli import reencrypt as verb
from luksctl.cli.context import Context
from luksctl.errors import NeedsReboot
from luksctl.model.config import EPHEMERAL
from luksctl.node.node import Node
from luksctl.node.reencrypt import Options, begin
from luksctl.node.reencrypt_pace import note_stop
from luksctl.units import MIB
from tests.cli.desk import PASSPHRASE, Desk, encrypted

IMAGE_BYTES = 20 * MIB


@pytest.fixture
def begun(desk: Desk) -> Desk:
    """Return a machine on which the re-encryption of EPHEMERAL was started, and nothing done yet."""
    desk.image("ephemeral", IMAGE_BYTES)
    desk.format("ephemeral", slots={0: PASSPHRASE})
    desk.write_config(encrypted())
    assert desk.run("adopt", EPHEMERAL).code == 0
    node = Context(settings_path=str(desk.settings), paths=desk.paths).node()
    begin(node, EPHEMERAL, Options(), lambda _: None, lambda *_: None)
    return desk


def test_status_shows_how_far_it_is(begun: Desk) -> None:
    """Bytes done of all, that nothing works on it now, and no rate that nobody told."""
    (volume,) = begun.run("--json", "status", EPHEMERAL).json["volumes"]
    total = IMAGE_BYTES - 16 * MIB
    assert volume["reencryption"] == {
        "kind": "renew",
        "stage": "running",
        "doneBytes": 0,
        "totalBytes": total,
        "running": False,
        "bytesPerSecond": None,
        "remainingSeconds": None,
        "stoppedBy": None,
    }
    said = begun.run("status", EPHEMERAL).out
    assert "announces that EPHEMERAL gets a new volume key" in said
    assert "re-encrypted: 0 % of 4 MiB; nothing works on it now" in said


def test_status_shows_rate_and_remaining_time_of_the_run(begun: Desk) -> None:
    """What the run of the service told last; the remaining time is that of what is left."""
    told = Path(begun.paths.run_dir) / "reencrypt/EPHEMERAL.json"
    told.parent.mkdir()
    told.write_text(json.dumps({"bytesPerSecond": 65536.0, "toldSeconds": 1.0}), encoding="utf-8")
    (volume,) = begun.run("--json", "status", EPHEMERAL).json["volumes"]
    progress = volume["reencryption"]
    assert (progress["running"], progress["bytesPerSecond"], progress["remainingSeconds"]) == (True, 65536.0, 64.0)
    assert "re-encrypted: 0 % of 4 MiB, 64 KiB/s, 1 min 4 s left" in begun.run("status", EPHEMERAL).out


def test_whoever_follows_it_hears_that_only_a_reboot_goes_on(begun: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service is not tried again before that, so nobody waits for it; status says what happened, too."""

    def start_service(node: Node, volume: str) -> None:
        note_stop(node, volume, NeedsReboot("it broke off", volume=volume, hint="reboot"))

    monkeypatch.setattr(verb, "start_service", start_service)
    answer = begun.run("reencrypt", EPHEMERAL)
    assert answer.code == NeedsReboot.exit_code
    assert "EPHEMERAL: it broke off (reboot)" in answer.err
    (volume,) = begun.run("--json", "status", EPHEMERAL).json["volumes"]
    assert volume["reencryption"]["stoppedBy"] == "it broke off (reboot)"
    assert "its re-encryption stopped: it broke off (reboot)" in volume["findings"]
