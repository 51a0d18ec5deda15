"""reboot: asked of systemd once, with a word about everything that is left to the boot, and stopped by nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from luksctl.devices.system import RunningSystem
from luksctl.errors import DeviceError, MetaError
from luksctl.model.intent import (
    MAX_ATTEMPTS,
    DecryptIntent,
    FormatIntent,
    InPlaceIntent,
    Intent,
    ReencryptIntent,
    ReencryptKind,
    ResetIntent,
)
from luksctl.model.meta import MetaFacts, MetaState
from tests.cli.desk import Desk
from tests.cli.running_node import CONFIG, RunningNode, running_node
from tests.cli.stand_in import stand_in


@pytest.fixture
def node(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> RunningNode:
    """Return a running node."""
    return running_node(tmp_path, capsys, monkeypatch)


def test_it_reboots_and_nothing_is_left_to_say(node: RunningNode) -> None:
    """Once, and with one object for those who ask for it."""
    answer = node.run("reboot")
    assert (answer.code, answer.out, answer.err) == (0, "the node reboots\n", "")
    assert node.run("reboot", "--json").json == {"rebooting": True, "nextBoot": []}
    assert node.bench.system.reboots == 2


def test_what_was_staged_is_told(node: RunningNode, tmp_path: Path) -> None:
    """It becomes STATE's own, or stays where it is if it is wrong by now."""
    file = tmp_path / "new.yaml"
    file.write_text(CONFIG.replace("worker", "controlplane"), encoding="utf-8")
    assert node.run("apply-config", "-f", str(file), "--mode=staged").code == 0
    assert "the config that is staged becomes STATE's own" in node.run("reboot").out
    waiting = node.bench.state / "staged.yaml"
    waiting.write_text(waiting.read_text(encoding="utf-8").replace("luks2", "luks9"), encoding="utf-8")
    answer = node.run("reboot")
    assert (answer.code, "the staged config is wrong, and stays where it is" in answer.out) == (0, True)
    assert node.bench.system.reboots == 2


def test_a_trial_is_told(node: RunningNode, tmp_path: Path) -> None:
    """The boot ends it, as its time would."""
    file = tmp_path / "new.yaml"
    file.write_text(CONFIG.replace("type: worker", "type: worker\n  sysctls: {a: '1'}"), encoding="utf-8")
    assert node.run("apply-config", "-f", str(file), "--mode=try").code == 0
    assert node.run("reboot", "--json").json["nextBoot"] == ["the machine config on trial is taken back"]


_REENCRYPTED = ReencryptIntent("EPHEMERAL", "p", "u", "aes-xts-plain64")


@pytest.mark.parametrize(
    ("intent", "told"),
    [
        (FormatIntent("EPHEMERAL", "p", "u"), "its first format goes on"),
        (ResetIntent("EPHEMERAL", "p"), "what is left of it is erased"),
        (_REENCRYPTED, "its re-encryption goes on"),
        (InPlaceIntent("EPHEMERAL", "p", "u"), "its encryption in place goes on"),
        (
            ReencryptIntent("EPHEMERAL", "p", "u", "aes-xts-plain64", kind=ReencryptKind.ENCRYPT),
            "its encryption in place goes on",
        ),
        (DecryptIntent("EPHEMERAL", "p", "u", "f"), "its decryption in place goes on"),
        (
            ReencryptIntent("EPHEMERAL", "p", "u", "aes-xts-plain64", kind=ReencryptKind.DECRYPT),
            "its decryption in place goes on",
        ),
        (
            FormatIntent("EPHEMERAL", "p", "u", attempt=MAX_ATTEMPTS),
            "left alone after 3 attempts (luksctl retry EPHEMERAL)",
        ),
    ],
)
def test_announced_work_is_told(node: RunningNode, intent: Intent, told: str) -> None:
    """Each kind of it."""
    node.bench.node.ports.meta.update_record(lambda record: record.with_intent(intent))
    assert node.run("reboot", "--json").json["nextBoot"] == [f"EPHEMERAL: {told}"]


def test_a_meta_that_cannot_be_read_stops_no_reboot(node: RunningNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither copy valid, or not to be read at all: it is told."""
    damaged = MetaFacts(MetaState.UNREADABLE, problem="neither copy is valid")
    monkeypatch.setattr(node.bench.node.ports.meta, "load", lambda: damaged)
    told = "META cannot be read, and what it announces is not known: "
    assert node.run("reboot", "--json").json["nextBoot"] == [f"{told}neither copy is valid"]

    def fails() -> MetaFacts:
        raise MetaError("it cannot be read")

    monkeypatch.setattr(node.bench.node.ports.meta, "load", fails)
    assert node.run("reboot", "--json").json["nextBoot"] == [f"{told}it cannot be read"]
    assert node.bench.system.reboots == 2


def test_a_reboot_that_does_not_begin(node: RunningNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is told that it did: one object, which is the error."""

    def fails() -> None:
        raise DeviceError("systemctl reboot failed")

    monkeypatch.setattr(node.bench.system, "reboot", fails)
    answer = node.run("reboot", "--json")
    assert (answer.code, answer.json["error"]) == (9, "DeviceError")


def test_a_config_whose_reboot_does_not_begin(
    node: RunningNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One object, which says that the config is stored all the same."""
    file = tmp_path / "new.yaml"
    file.write_text(CONFIG.replace("worker", "controlplane"), encoding="utf-8")

    def fails() -> None:
        raise DeviceError("systemctl reboot failed")

    monkeypatch.setattr(node.bench.system, "reboot", fails)
    answer = node.run("apply-config", "-f", str(file), "--mode=reboot", "--json")
    assert (answer.code, answer.json["error"], answer.json["hint"]) == (9, "DeviceError", "luksctl reboot")
    assert "stored for the next boot" in answer.json["cause"]
    assert (node.bench.state / "staged.yaml").exists()


def test_several_nodes_reboot(node: RunningNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the names of the command line."""
    lines = stand_in(monkeypatch)
    assert node.run("-n", "10.5.0.2,10.5.0.3", "reboot").code == 0
    assert sorted(lines) == [("10.5.0.2", "luksctl reboot"), ("10.5.0.3", "luksctl reboot")]
    assert node.bench.system.reboots == 2


def test_a_node_that_was_never_set_up_reboots(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without STATE and without a config there is nothing to say."""
    asked: list[bool] = []
    monkeypatch.setattr(RunningSystem, "reboot", lambda _: asked.append(True))
    assert desk.run("reboot").out == "the node reboots\n"
    assert asked == [True]
