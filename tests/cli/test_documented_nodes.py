"""Lines of Talos' documentation that name a node, over a real sshd on loopback."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from luksctl.cli.main import main
from tests.cli.desk import Answer, encrypted
from tests.cli.reached import Nodes


def _documented(nodes: Nodes, line: str, end: str = "") -> Answer:
    """Run a line of Talos' documentation with the name of this command, on `one` where it names a node, and `end`."""
    for placeholder in ("<node ip>", "<node_ip_to_be_reset>", "<IP>"):
        line = line.replace(placeholder, nodes.host("one"))
    command, *words = shlex.split(line.replace("talosctl", "luksctl") + end)
    assert command == "luksctl"
    nodes.capture.readouterr()
    code = main(words)
    said = nodes.capture.readouterr()
    return Answer(code, said.out, said.err)


RESET_EPHEMERAL = "talosctl reset --system-labels-to-wipe EPHEMERAL -n <node ip> --reboot=true"
RESET_STATE = "talosctl reset  --system-labels-to-wipe STATE -n <node ip> --reboot=true"
RESET_BOTH = "talosctl reset --system-labels-to-wipe STATE --system-labels-to-wipe EPHEMERAL --nodes <node ip>"


@pytest.mark.parametrize(
    ("line", "erased", "reboots"),
    [
        (RESET_EPHEMERAL, ("ephemeral",), True),
        (RESET_STATE, ("state",), True),
        (RESET_BOTH, ("state", "ephemeral"), False),
        (f"{RESET_BOTH} --graceful=false", ("state", "ephemeral"), False),
        ("talosctl reset -n <node_ip_to_be_reset>", ("state", "ephemeral"), False),
    ],
)
def test_the_chapter_on_resetting(nodes: Nodes, line: str, erased: tuple[str, ...], reboots: bool) -> None:  # noqa: FBT001
    """As it stands a line destroys nothing where nobody can be asked, and says what it would; with --yes it does it."""
    there, rebooted = nodes.add("one"), nodes.directory / "one" / "rebooted"
    for name in ("state", "ephemeral"):
        there.format(name, slots={0: "anything"})
    before = there.bytes_of("meta", "state", "ephemeral")
    asked = _documented(nodes, line)
    assert (asked.code, "add --yes if that is meant" in asked.err) == (64, True)
    assert all(name.upper() in asked.err for name in erased)
    assert (there.bytes_of("meta", "state", "ephemeral"), rebooted.exists()) == (before, False)
    assert _documented(nodes, line, " --yes").code == 0
    blank = {name for name in ("state", "ephemeral") if not any(there.path(name).read_bytes())}
    assert (blank, rebooted.exists()) == (set(erased), reboots)


def test_the_chapter_on_disk_encryption(nodes: Nodes) -> None:
    """STATE is reset, which takes the node to maintenance; the config goes there without being checked against any.

    This machine mounts no STATE, so neither a staged config nor a first one is stored: each is refused by the node.
    """
    there = nodes.add("one")
    there.format("state", slots={0: "anything"})
    Path("config.yaml").write_text(encrypted(), encoding="utf-8")
    staged = _documented(nodes, "talosctl apply-config -f config.yaml -n <node ip> --mode=staged")
    assert (staged.code, "the node is in the condition locked" in staged.err) == (3, True)
    locked = _documented(nodes, "talosctl apply-config --insecure -n <node ip> -f config.yaml")
    assert (locked.code, "--insecure is only for a node without any config; this one is locked" in locked.err) == (
        3,
        True,
    )
    assert _documented(nodes, RESET_STATE, " --yes").code == 0
    first = _documented(nodes, "talosctl apply-config --insecure -n <node ip> -f config.yaml")
    assert (first.code, "STATE has no mount point in the settings" in first.err) == (8, True)
    assert not any(there.path("state").read_bytes())


@pytest.mark.parametrize(
    "line",
    [
        "talosctl -n <IP> apply-config -f config.yaml",
        "talosctl -n <IP> apply machineconfig -f config.yaml --mode=no-reboot",
        "talosctl apply-config --nodes <IP> --file config.yaml --config-patch @patch.yaml",
        "talosctl -n <IP> patch machineconfig -p @patch.yaml",
        "talosctl -n <IP> patch mc --patch @patch.yaml --mode=no-reboot",
        """talosctl -n <IP> patch machineconfig -p '{"machine": {"network": {"hostname": "worker1"}}}'""",
    ],
)
def test_the_chapters_on_patching_and_editing(nodes: Nodes, line: str) -> None:
    """The line makes sense here and there: what keeps the node from it is that this one is locked."""
    there = nodes.add("one")
    there.write_config(encrypted())
    there.format("state", slots={0: "anything"})
    before = there.bytes_of("meta", "state", "ephemeral")
    Path("config.yaml").write_text(encrypted(), encoding="utf-8")
    Path("patch.yaml").write_text("machine:\n  network:\n    hostname: worker1\n", encoding="utf-8")
    answer = _documented(nodes, line)
    assert answer.code in {3, 4}, answer.err
    assert there.bytes_of("meta", "state", "ephemeral") == before


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("talosctl -n <IP> get machineconfig -o yaml", "spec: "),
        ("talosctl -n <IP> get mc v1alpha1 -o jsonpath='{.spec}'", "kind: VolumeConfig"),
        ("talosctl get volumestatus -n <IP>", "EPHEMERAL"),
        ("talosctl get volumestatus EPHEMERAL -n <IP> -o yaml", "phase: "),
        ("talosctl -n <IP> get meta", ""),
    ],
)
def test_what_the_chapters_look_at(nodes: Nodes, line: str, shown: str) -> None:
    """Resources are shown as they are there, without a secret."""
    nodes.add("one").write_config(encrypted())
    answer = _documented(nodes, line)
    assert (answer.code, shown in answer.out) == (0, True), answer.err
    assert "a passphrase for tests" not in answer.out


def test_tags_are_written_and_deleted(nodes: Nodes) -> None:
    """One after the other, by the same node."""
    nodes.add("one")
    assert _documented(nodes, "talosctl -n <IP> meta write 0x0c text").code == 0
    assert _documented(nodes, "talosctl -n <IP> meta delete 0x0c").code == 0
    assert _documented(nodes, "talosctl -n <IP> meta delete 0x0c").code == 10


def test_a_reboot(nodes: Nodes) -> None:
    """It is the other machine that reboots."""
    nodes.add("one", "os:operator")
    assert _documented(nodes, "talosctl -n <IP> reboot").code == 0
    assert (nodes.directory / "one" / "rebooted").exists()
