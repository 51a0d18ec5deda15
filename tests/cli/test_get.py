"""get shows configs, volumes and tags as resources, in each form, and no secret unless it is asked for."""

from __future__ import annotations

import os
from typing import Any

import pytest

from luksctl.cli.volume_resources import si_size
from tests.cli.desk import PASSPHRASE, PLAIN, Desk, encrypted
from tests.config.patches import values
from tests.marker import MARKER

CONFIG = "# by hand\n" + encrypted(passphrase=MARKER.decode())


def test_the_text_of_the_config(desk: Desk) -> None:
    """Byte for byte, but for the passphrases; and with them where it is asked for."""
    desk.write_config(CONFIG)
    shown = desk.run("get", "machineconfig")
    assert (shown.code, shown.out) == (0, CONFIG.replace(MARKER.decode(), "REDACTED"))
    assert desk.run("get", "mc", "v1alpha1", "--show-secrets").out == CONFIG
    assert desk.run("get", "machineconfigs", "persistent", "--show-secrets").out == CONFIG


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_a_config_as_a_resource(desk: Desk, form: str) -> None:
    """The text is the spec; --json is the same as -o json."""
    desk.write_config(CONFIG)
    answer = desk.run("get", "machineconfig", "-o", form)
    (resource,) = answer.json["resources"] if form == "json" else values(answer.out)
    assert resource["node"] == os.uname().nodename
    assert resource["metadata"] == {"namespace": "config", "type": "MachineConfig", "id": "v1alpha1", "version": 1}
    assert resource["spec"] == CONFIG.replace(MARKER.decode(), "REDACTED")
    assert desk.run("--json", "get", "machineconfig").json == desk.run("get", "machineconfig", "-o", "json").json


def test_no_config(desk: Desk) -> None:
    """The node is in maintenance, and says what it waits for."""
    answer = desk.run("get", "machineconfig")
    assert (answer.code, "luksctl apply-config --insecure" in answer.err) == (12, True)


def test_a_config_that_is_wrong(desk: Desk) -> None:
    """Its problems are told, and none of it is shown, unless secrets may be: nobody can say where they are."""
    desk.write_config("machine: [")
    assert (desk.run("get", "mc").code, desk.run("get", "mc").out) == (2, "")
    whole = desk.run("get", "mc", "--show-secrets")
    assert (whole.code, whole.out) == (2, "machine: [")


def _volume(desk: Desk, name: str) -> Any:
    answer = desk.run("get", "volumestatus", name, "-o", "json")
    assert answer.code == 0
    return answer.json["resources"][0]["spec"]


def test_volumes(desk: Desk) -> None:
    """A closed volume, a blank one, and one that is not there."""
    desk.write_config(CONFIG)
    desk.format("state", slots={0: PASSPHRASE})
    state = _volume(desk, "STATE")
    assert (state["phase"], state["encryptionProvider"], state["location"]) == (
        "provisioned",
        "luks2",
        str(desk.path("state")),
    )
    assert state["configuredEncryptionKeys"] == ["static"]
    assert "encryptionSlot" not in state, "nothing opened it"
    assert _volume(desk, "EPHEMERAL")["phase"] == "located"
    desk.path("ephemeral").unlink()
    assert _volume(desk, "EPHEMERAL")["phase"] == "missing"


def test_a_volume_that_did_not_open(desk: Desk) -> None:
    """It failed, and why stands beside it; the form of people has the same phase."""
    desk.write_config(encrypted(passphrase="another one"))
    desk.format("state", slots={0: PASSPHRASE})
    assert desk.run("boot", "STATE").code == 4
    state = _volume(desk, "STATE")
    assert state["phase"] == "failed"
    assert state["errorMessage"]
    table = desk.run("get", "vs", "STATE").out.splitlines()
    assert table[0].split() == ["NODE", "NAMESPACE", "TYPE", "ID", "VERSION", "TYPE", "PHASE", "LOCATION", "SIZE"]
    assert table[1].split()[1:] == [
        *("runtime", "VolumeStatus", "STATE", "1", "partition", "failed", str(desk.path("state")), "34", "MB"),
    ]


def test_plain_volumes(desk: Desk) -> None:
    """No encryption is asked for, and none is there."""
    desk.write_config(PLAIN)
    assert _volume(desk, "STATE")["encryptionProvider"] == "none"
    assert len(values(desk.run("get", "volumestatus", "-o", "yaml").out)) == 2


def test_tags_of_meta(desk: Desk) -> None:
    """Text is shown, secrets are not."""
    assert desk.run("meta", "write", "0x0c", "hello").code == 0
    assert desk.run("meta", "write", "16", MARKER.decode(), "--yes").code == 0
    tags = {tag["metadata"]["id"]: tag["spec"] for tag in values(desk.run("get", "meta", "-o", "yaml").out)}
    assert tags["0x0c"]["value"] == "hello"
    assert tags["0x10"]["size"] == len(MARKER)
    table = desk.run("get", "metakeys", "12").out
    assert "hello" in table
    assert "0x10" not in table
    assert MARKER.decode() not in table + str(tags)


@pytest.mark.parametrize("words", [("get",), ("get", "pods"), ("get", "mc", "other"), ("get", "vs", "OTHER")])
def test_what_is_not_there(desk: Desk, words: tuple[str, ...]) -> None:
    """Code 64, with what there is."""
    desk.write_config(CONFIG)
    assert desk.run(*words).code == 64


def test_sizes() -> None:
    """SI units, with one digit behind the point below ten."""
    sizes = [si_size(count) for count in (0, 999, 1000, 104857600, 1 << 30, 10**18)]
    assert sizes == ["0 B", "999 B", "1.0 kB", "105 MB", "1.1 GB", "1000 PB"]
