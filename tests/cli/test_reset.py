"""luksctl reset: what it refuses without a byte changed, what it erases whatever its state, and the record of it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from luksctl.devices.medium import is_zero
from luksctl.devices.system import RunningSystem
from luksctl.errors import DeviceError
from luksctl.meta.store import AdvStore
from luksctl.model.config import ConfiguredKey, NodeIdKey, VolumeEncryption
from luksctl.model.intent import FormatIntent, ResetIntent
from luksctl.model.meta import KeptAccess, KmsAccess, MetaFacts, MetaState, NodeRecord
from luksctl.secret import Secret
from luksctl.units import MIB
from tests.cli.desk import PASSPHRASE, Answer, Desk, encrypted
from tests.reconcile.stage import stock

_IMAGES = ("meta", "state", "ephemeral")


def store(desk: Desk) -> AdvStore:
    """Return META."""
    return AdvStore(str(desk.path("meta")), f"{desk.path('meta')}.lock")


def facts(desk: Desk) -> MetaFacts:
    """Return what META says."""
    return store(desk).load()


def blank(desk: Desk, name: str) -> bool:
    """Tell whether an image is blank, by the ends that Blank asks about."""
    path = desk.path(name)
    return is_zero(str(path), path.stat().st_size)


def salts(desk: Desk, name: str) -> list[bytes]:
    """Return what a header cannot be without: the salts of its keyslots and its digest, as they stand in its JSON."""
    head = desk.path(name).read_bytes()[: 64 * 1024]
    text = head[4096:16384].partition(b"\0")[0]
    document = json.loads(text)
    found = [slot["kdf"]["salt"] for slot in document["keyslots"].values()]
    return [*(salt.encode() for salt in found), document["digests"]["0"]["salt"].encode()]


@pytest.fixture
def node(desk: Desk) -> Desk:
    """Return a node whose volumes are encrypted, and whose META knows them."""
    for name in ("state", "ephemeral"):
        desk.format(name, slots={0: PASSPHRASE})
    record = NodeRecord()
    for volume in ("STATE", "EPHEMERAL"):
        record = record.with_finished(volume, os.path.realpath(desk.path(volume.lower())), encrypted=True)
    store(desk).update_record(lambda _: record)
    store(desk).write_state_encryption(VolumeEncryption((ConfiguredKey(0, NodeIdKey()),)))
    return desk


def wipe(desk: Desk, *words: str) -> Answer:
    """Reset with --yes."""
    return desk.run("reset", "--yes", *words)


def test_one_label_erases_one_volume(node: Desk) -> None:
    """EPHEMERAL is blank, none of its salts is anywhere on it; STATE and its keys in META are as they were."""
    old, state = salts(node, "ephemeral"), node.bytes_of("state")
    answer = wipe(node, "--system-labels-to-wipe", "EPHEMERAL")
    assert answer.code == 0, answer.err
    assert blank(node, "ephemeral")
    left = node.path("ephemeral").read_bytes()
    assert not any(salt in left for salt in old)
    assert node.bytes_of("state") == state
    found = facts(node)
    assert found.record.intents == ()
    assert found.record.encrypted == ("STATE",)
    assert dict(found.record.partitions).keys() == {"STATE", "EPHEMERAL"}
    assert found.has_tag9


def test_state_takes_its_keys_in_meta_along(node: Desk) -> None:
    """Tag 9 and what META knew of STATE are gone; META and EPHEMERAL stay."""
    ephemeral = node.bytes_of("ephemeral")
    assert wipe(node, "--system-labels-to-wipe", "STATE").code == 0
    assert blank(node, "state")
    found = facts(node)
    assert (found.has_tag9, found.record.encrypted, found.record.intents) == (False, ("EPHEMERAL",), ())
    assert node.bytes_of("ephemeral") == ephemeral


def test_state_takes_the_access_to_a_key_service_along(node: Desk) -> None:
    """A credential that META keeps for the time before STATE is open is gone, also where no key of STATE is in META."""
    store(node).write_state_encryption(None)
    store(node).write_kms_access(KeptAccess(KmsAccess(token=Secret.take(b"the credential"))))
    assert wipe(node, "--system-labels-to-wipe", "STATE").code == 0
    assert facts(node).kms_access is None
    assert b"the credential" not in node.path("meta").read_bytes()


def test_no_label_erases_all_three(node: Desk) -> None:
    """META says nothing any more, not even that there was something."""
    assert wipe(node).code == 0
    assert blank(node, "state")
    assert blank(node, "ephemeral")
    assert facts(node) == MetaFacts(MetaState.OK)
    assert b"EPHEMERAL" not in node.path("meta").read_bytes()


def test_the_volume_can_be_formatted_again(node: Desk) -> None:
    """From encrypted to plain and with the partition that META knows: nothing expects it to be encrypted any more."""
    Path(node.paths.expected_encrypted).write_text('{"version": 1, "encrypted": ["EPHEMERAL", "STATE"]}')
    assert wipe(node, "--system-labels-to-wipe", "EPHEMERAL").code == 0
    assert json.loads(Path(node.paths.expected_encrypted).read_text())["encrypted"] == ["STATE"]
    node.write_config(encrypted().split("---\n")[0])
    planned = node.run("plan", "EPHEMERAL", "--json").json
    assert "NotBlank" not in json.dumps(planned)


@pytest.mark.parametrize(
    "state", ["blank", "noise", "no header", "both copies torn", "unfinished", "half re-encrypted", "luks1"]
)
def test_any_state_is_erased(desk: Desk, state: str) -> None:
    """Broken, locked, foreign or half made: what is announced by name is erased."""
    image = desk.path("ephemeral")
    if state not in {"blank", "noise", "luks1"}:
        desk.format("ephemeral", slots={0: PASSPHRASE, 5: "another"})
    with image.open("r+b") as target:
        match state:
            case "noise":
                target.write(os.urandom(20 * MIB))
            case "no header":
                target.write(bytes(32768))
            case "both copies torn":
                for offset in (5000, 16384 + 5000):
                    target.seek(offset)
                    target.write(b"?")
            case "luks1":
                target.write(b"LUKS\xba\xbe\x00\x01" + b"x" * 4096)
            case _:
                pass
    if state == "half re-encrypted":
        stock("reencrypt", "--init-only", "--key-file=-", "--key-slot=0", str(image), key=PASSPHRASE.encode())
    identity = os.path.realpath(image)
    if state == "unfinished":
        store(desk).update_record(lambda record: record.with_intent(FormatIntent("EPHEMERAL", identity, "u", 3)))
    answer = wipe(desk, "--system-labels-to-wipe", "EPHEMERAL")
    assert answer.code == 0, answer.err
    assert blank(desk, "ephemeral")
    assert facts(desk).record.intents == ()


def test_zero_leaves_no_byte(node: Desk) -> None:
    """Every byte of the volume is zero, also where only data was."""
    with node.path("ephemeral").open("r+b") as target:
        target.seek(50 * MIB)
        target.write(b"what was encrypted once" * 1000)
    answer = wipe(node, "--system-labels-to-wipe", "EPHEMERAL", "--zero", "--json")
    assert answer.code == 0, answer.err
    content = node.path("ephemeral").read_bytes()
    assert content.count(0) == len(content)
    (volume,) = answer.json["volumes"]
    assert volume["record"]["zeroed"] == [{"offsetBytes": 0, "sizeBytes": len(content)}]
    assert volume["record"]["method"] == "zeroes"


def test_the_record_says_what_was_done(node: Desk) -> None:
    """Device, UUID of what was there, ranges, and how they were read back: on output, in the log, and in a file."""
    answer = wipe(node, "--system-labels-to-wipe", "EPHEMERAL", "--json")
    (volume,) = answer.json["volumes"]
    record = volume["record"]
    assert (volume["volume"], volume["erased"], record["complete"]) == ("EPHEMERAL", True, True)
    assert record["device"] == os.path.realpath(node.path("ephemeral"))
    assert len(record["erasedUUID"]) == 36
    head, tail = record["zeroed"]
    assert head == {"offsetBytes": 0, "sizeBytes": 16 * MIB + 64 * 1024}
    assert tail == {"offsetBytes": 95 * MIB, "sizeBytes": MIB}
    assert record["verification"].startswith("read back")
    assert record["discard"] == "an image file takes no discards"
    (path,) = Path(node.paths.erasures).iterdir()
    assert json.loads(path.read_text()) == record
    assert volume["recordFile"] == str(path)
    assert "erasure record {" in answer.err


def test_a_dry_run_touches_nothing(node: Desk) -> None:
    """It says what would go, step by step, and what is on it now."""
    before = node.bytes_of(*_IMAGES)
    answer = node.run("reset", "--dry-run", "--json")
    assert answer.code == 0, answer.err
    shown = answer.json["volumes"]
    assert [volume["volume"] for volume in shown] == ["META", "STATE", "EPHEMERAL"]
    assert [step["step"] for step in shown[2]["steps"]] == [
        "AnnounceReset",
        "EraseHeader",
        "EraseEnds",
        "Discard",
        "ConcludeReset",
    ]
    assert shown[1]["what"] == "crypto_LUKS"
    assert node.bytes_of(*_IMAGES) == before
    assert "write zeros over the key areas" in node.run("reset", "--dry-run").out


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (("--system-labels-to-wipe", "BOOT"), 64, "no such label: BOOT"),
        (("--system-labels-to-wipe", "STATE", "--wipe-mode", "user-disks"), 64, "erases no volume"),
        (("--wipe-mode", "system-disk", "--user-disks-to-wipe", "/dev/sdx"), 64, "system-disk erases none"),
        (("--wipe-mode", "user-disks"), 64, "no --user-disks-to-wipe"),
        (("--wipe-mode", "everything"), 64, "wipe-mode"),
        (("--reboot", "--shutdown"), 64, "at once"),
        (("--timeout", "soon"), 64, "not a duration"),
        (("--user-disks-to-wipe", "/no/such/disk"), 9, "/no/such/disk does not exist"),
    ],
)
def test_what_makes_no_sense_is_refused(node: Desk, words: tuple[str, ...], code: int, why: str) -> None:
    """Before anything is announced, and with not one byte changed."""
    before = node.bytes_of(*_IMAGES)
    answer = wipe(node, *words)
    assert (answer.code, why in answer.err) == (code, True), answer.err
    assert node.bytes_of(*_IMAGES) == before


def test_nobody_is_asked_without_a_terminal(node: Desk) -> None:
    """What would be lost is named, and nothing is."""
    before = node.bytes_of(*_IMAGES)
    answer = node.run("reset", "--system-labels-to-wipe", "STATE,EPHEMERAL")
    assert answer.code == 64
    assert "Everything on STATE, EPHEMERAL will be gone" in answer.err
    assert node.bytes_of(*_IMAGES) == before


def test_a_volume_that_is_not_there_is_an_error_only_where_it_was_named(node: Desk) -> None:
    """Without labels, those that are there are erased, and the missing one is told."""
    node.path("ephemeral").unlink()
    answer = wipe(node, "--system-labels-to-wipe", "EPHEMERAL,STATE")
    assert answer.code == 9
    assert not blank(node, "state")
    answer = wipe(node)
    assert answer.code == 0, answer.err
    assert "EPHEMERAL: no device found" in answer.err
    assert blank(node, "state")


def test_a_meta_that_cannot_be_read_has_to_be_named(node: Desk) -> None:
    """It may announce anything; named, it is started over with the announcement, and empty in the end."""
    node.path("meta").write_bytes(os.urandom(MIB))
    before = node.bytes_of(*_IMAGES)
    answer = wipe(node, "--system-labels-to-wipe", "EPHEMERAL")
    assert answer.code == 10
    assert "name META among the volumes" in answer.err
    assert node.bytes_of(*_IMAGES) == before
    assert wipe(node, "--system-labels-to-wipe", "EPHEMERAL,META").code == 0
    assert blank(node, "ephemeral")
    assert facts(node) == MetaFacts(MetaState.OK)


def test_an_announced_reset_is_shown_and_the_boot_finishes_it(node: Desk) -> None:
    """Status names it; a boot of the volume erases it before anything else, then goes on as with a blank one."""
    identity = os.path.realpath(node.path("ephemeral"))
    store(node).update_record(lambda record: record.with_intent(ResetIntent("EPHEMERAL", identity)))
    shown = node.run("status", "--json").json
    assert shown["volumes"][1]["observed"] == "Erasing"
    assert shown["meta"]["intents"][0]["kind"] == "reset"
    assert "being erased" in node.run("status").out
    node.write_config(encrypted())
    answer = node.run("boot", "EPHEMERAL")
    assert "write zeros over the key areas" in answer.err
    assert blank(node, "ephemeral")
    assert facts(node).record.intents == ()
    assert answer.code == 3, answer.err


def test_a_header_of_a_reset_volume_is_not_restored(node: Desk) -> None:
    """While it is announced to be erased, no header comes back, whatever is allowed."""
    backup = node.directory / "backup"
    assert node.run("header", "backup", "EPHEMERAL", "--unencrypted", "--to", str(backup)).code == 0
    identity = os.path.realpath(node.path("ephemeral"))
    store(node).update_record(lambda record: record.with_intent(ResetIntent("EPHEMERAL", identity)))
    words = ("--from", str(backup), "--yes", "--older", "--unfinished", "--while-open")
    answer = node.run("header", "restore", "EPHEMERAL", *words)
    assert answer.code == 3
    assert "reset" in answer.err


def test_a_device_of_the_running_system_is_refused(node: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the settings call it; and with nothing announced."""
    monkeypatch.setattr(
        "luksctl.devices.untouchable.why_untouchable", lambda device, _: f"the system runs from {device.path}"
    )
    before = node.bytes_of(*_IMAGES)
    answer = wipe(node, "--system-labels-to-wipe", "EPHEMERAL")
    assert answer.code == 3
    assert "the system runs from" in answer.err
    assert node.bytes_of(*_IMAGES) == before


def test_a_reboot_is_asked_for_after_all_is_done(node: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not before, and not where something failed."""
    asked: list[str] = []

    def note(_: RunningSystem) -> None:
        asked.append("blank" if blank(node, "ephemeral") else "too early")

    monkeypatch.setattr(RunningSystem, "reboot", note)
    assert wipe(node, "--system-labels-to-wipe", "EPHEMERAL", "--reboot").code == 0
    assert asked == ["blank"]
    monkeypatch.setattr(RunningSystem, "power_off", note)
    assert wipe(node, "--system-labels-to-wipe", "STATE", "--shutdown").code == 0
    assert asked == ["blank", "blank"]


@pytest.mark.parametrize("end", ["--reboot", "--shutdown"])
def test_a_reboot_that_does_not_begin_hides_no_record(node: Desk, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    """One object: why nothing reboots, and what was erased before."""

    def fails(_: RunningSystem) -> None:
        raise DeviceError("systemd does not answer")

    for name in ("reboot", "power_off"):
        monkeypatch.setattr(RunningSystem, name, fails)
    answer = wipe(node, "--system-labels-to-wipe", "EPHEMERAL", end, "--json")
    said = answer.json
    assert (answer.code, said["error"], said["exitCode"]) == (9, "DeviceError", 9)
    (volume,) = said["done"]["volumes"]
    assert (volume["erased"], volume["record"]["complete"]) == (True, True)


def test_hooks_run_first_and_may_fail(node: Desk) -> None:
    """In order of their names, with the volumes as arguments; one that fails is told and stops nothing."""
    directory = Path(node.paths.reset_hooks)
    directory.mkdir()
    seen = node.directory / "seen"
    for name, text in (
        ("10-drain", f'echo "$@" > {seen}'),
        ("20-fails", "echo no; exit 3"),
        ("30-last", f"echo >> {seen}"),
    ):
        (directory / name).write_text(f"#!/bin/sh\n{text}\n")
        (directory / name).chmod(0o755)
    (directory / "README").write_text("not a program")
    answer = wipe(node, "--system-labels-to-wipe", "EPHEMERAL,STATE")
    assert answer.code == 0, answer.err
    assert seen.read_text() == "EPHEMERAL STATE\n\n"
    assert "20-fails" in answer.err
    assert "going on" in answer.err
