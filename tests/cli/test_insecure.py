"""`apply-config --insecure` means "this node has no config yet", and is refused wherever that is not so."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from luksctl.meta.store import AdvStore
from luksctl.model.config import ConfiguredKey, NodeIdKey, VolumeEncryption
from luksctl.model.intent import FormatIntent
from tests.cli.desk import PASSPHRASE, Desk, encrypted
from tests.cli.running_node import CONFIG, RunningNode, running_node
from tests.cli.stand_in import stand_in


@pytest.fixture
def node(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> RunningNode:
    """Return a running node."""
    return running_node(tmp_path, capsys, monkeypatch)


@pytest.mark.parametrize(
    "stored", [CONFIG, CONFIG.replace("luks2", "luks9"), "not: [yaml"], ids=["right", "wrong", "no YAML"]
)
@pytest.mark.parametrize("more", [(), ("--dry-run",), ("--mode=staged",), ("--mode=try",), ("-n", "there")])
def test_a_running_node_refuses_it(
    node: RunningNode, tmp_path: Path, stored: str, more: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever its config is worth, in every mode, here and from elsewhere; the hint is the way without it."""
    stand_in(monkeypatch)
    file, own = tmp_path / "given.yaml", node.bench.state / "config.yaml"
    file.write_text(CONFIG, encoding="utf-8")
    own.write_text(stored, encoding="utf-8")
    before = {path.name: path.read_bytes() for path in node.bench.state.iterdir()}
    writes = len(node.bench.world.power.writes)
    answer = node.run("apply-config", "--insecure", "-f", str(file), *more)
    assert answer.code == 3
    assert "--insecure is only for a node without any config; this one is running" in answer.err
    assert "hint: luksctl apply-config -f FILE" in answer.err
    assert {path.name: path.read_bytes() for path in node.bench.state.iterdir()} == before
    assert len(node.bench.world.power.writes) == writes


def _meta(desk: Desk) -> AdvStore:
    return AdvStore(str(desk.path("meta")), f"{desk.path('meta')}.lock")


def _with_a_config_outside(desk: Desk) -> None:
    desk.write_config(encrypted())


def _with_a_wrong_config_outside(desk: Desk) -> None:
    desk.write_config("machine: [")


def _with_keys_in_meta(desk: Desk) -> None:
    _meta(desk).write_state_encryption(VolumeEncryption((ConfiguredKey(0, NodeIdKey()),)))


def _with_keys_in_meta_and_a_state(desk: Desk) -> None:
    _with_keys_in_meta(desk)
    desk.format("state", slots={0: PASSPHRASE})


def _with_a_state_that_nobody_opened(desk: Desk) -> None:
    desk.format("state", slots={0: PASSPHRASE})


def _with_foreign_data(desk: Desk) -> None:
    desk.path("state").write_bytes(os.urandom(1 << 20) + bytes((32 << 20) - (1 << 20)))


def _with_a_meta_that_cannot_be_read(desk: Desk) -> None:
    desk.path("meta").write_bytes(os.urandom(1 << 20))


@pytest.mark.parametrize(
    "make",
    [
        _with_a_config_outside,
        _with_a_wrong_config_outside,
        _with_keys_in_meta,
        _with_keys_in_meta_and_a_state,
        _with_a_state_that_nobody_opened,
        _with_foreign_data,
        _with_a_meta_that_cannot_be_read,
    ],
)
def test_a_locked_node_refuses_it(desk: Desk, make: Callable[[Desk], None]) -> None:
    """A node that has a config, or had one, or cannot say: nothing of it is formatted, and no byte changes."""
    make(desk)
    file = desk.directory / "given.yaml"
    file.write_text(encrypted(), encoding="utf-8")
    before = desk.bytes_of("meta", "state", "ephemeral")
    answer = desk.run("apply-config", "--insecure", "-f", str(file))
    assert answer.code == 3
    assert "--insecure is only for a node without any config; this one is locked" in answer.err
    assert "hint: luksctl status" in answer.err
    assert desk.bytes_of("meta", "state", "ephemeral") == before


def test_a_first_format_that_was_cut_short_is_no_config(desk: Desk) -> None:
    """What META announced was begun by the first config, which is taken again: the condition is maintenance."""
    intent = FormatIntent("STATE", os.path.realpath(desk.path("state")), "4e0c1b1a-0000-4000-8000-000000000000")
    _meta(desk).update_record(lambda record: record.with_intent(intent))
    file = desk.directory / "given.yaml"
    file.write_text(encrypted(), encoding="utf-8")
    # This machine mounts no STATE, which is asked only of a node in maintenance.
    assert "STATE has no mount point" in desk.run("apply-config", "--insecure", "-f", str(file)).err
