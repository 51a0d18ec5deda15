"""The same verb on other nodes, over a real sshd on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from luksctl.cli.answers import WORST_FIRST, worst
from luksctl.cli.main import main
from tests.cli.desk import encrypted
from tests.cli.reached import Nodes
from tests.house.tree import ROOT
from tests.marker import MARKER as MARKER_BYTES

MARKER = MARKER_BYTES.decode()


def test_each_node_answers_for_itself(nodes: Nodes) -> None:
    """One JSON object for all, with one object per node in their order; the worst code counts."""
    nodes.add("one")
    nodes.add("two").write_config(encrypted())
    answer = nodes.run("one,two", "plan", "--json")
    one, two = answer.json["nodes"]
    assert (one["node"], two["node"]) == ("one", "two")
    assert (one["exitCode"], two["exitCode"]) == (12, 8)
    assert len(two["answer"]["volumes"]) == 2
    assert answer.code == 12


def test_people_read_the_name_of_the_node_in_front_of_each_line(nodes: Nodes) -> None:
    """Of several nodes every line has a name; of one, written to a file, every byte is as the node gave it."""
    for name in ("one", "two"):
        nodes.add(name).write_config(encrypted())
    both = nodes.run("one,two", "get", "machineconfig")
    lines = encrypted().replace("a passphrase for tests", "REDACTED").splitlines()
    assert both.out.splitlines() == [f"{name}: {line}" for name in ("one", "two") for line in lines]
    assert nodes.run("one", "get", "mc", "--show-secrets").out == encrypted()


def test_a_node_that_is_not_reached_is_no_verb_that_failed(nodes: Nodes) -> None:
    """Its code is 14, with what ssh said; the other node has answered all the same."""
    nodes.add("one").write_config(encrypted())
    nodes.server.add_stranger(nodes.host("gone"))
    answer = nodes.run("gone,one", "plan", "--json")
    gone, one = answer.json["nodes"]
    assert (answer.code, gone["exitCode"], one["exitCode"]) == (14, 14, 8)
    assert gone["answer"]["error"] == "Unreachable"
    assert "refused" in gone["answer"]["cause"]


def test_a_host_without_luksctl_is_named(nodes: Nodes) -> None:
    """It is reached, and what answers is a shell: 14 as well, with how to look."""
    nodes.add("bare")
    (nodes.server.directory / f"{nodes.host('bare')}.bin" / "luksctl").unlink()
    answer = nodes.run("bare", "status")
    assert answer.code == 14
    assert "its luksctl did not answer (exit code 127)" in answer.err


def test_files_are_read_here_and_problems_name_them(nodes: Nodes) -> None:
    """A config and patches of this machine; what is wrong in them is told by the names they have here."""
    nodes.add("one")
    Path("machine.yaml").write_text(encrypted(), encoding="utf-8")
    Path("wrong.yaml").write_text(encrypted().replace("slot: 0", "slot: 99"), encoding="utf-8")
    assert nodes.run("one", "plan", "-f", "machine.yaml").code == 8
    wrong = nodes.run("one", "apply-config", "-f", "wrong.yaml")
    assert (wrong.code, "wrong.yaml:" in wrong.err) == (2, True)
    missing = nodes.run("one", "apply-config", "-f", "nowhere.yaml")
    assert (missing.code, "nowhere.yaml: it cannot be read" in missing.err) == (2, True)
    patched = nodes.run("one", "apply-config", "-f", "machine.yaml", "-p", "machine: [", "-p", "@machine.yaml")
    assert (patched.code, "patch 1" in patched.err) == (2, True)


def test_no_secret_stands_in_an_argument_list_there(nodes: Nodes) -> None:
    """Configs, inline patches, texts and keys go through standard input, whatever they were given by here."""
    there = nodes.add("one")
    Path("machine.yaml").write_text(encrypted(passphrase=MARKER), encoding="utf-8")
    nodes.run("one", "apply-config", "--dry-run", "-f", "machine.yaml", "-p", f"machine: {{token: {MARKER}}}")
    assert nodes.run("one", "meta", "write", "0x0c", MARKER).code == 0
    assert nodes.run("one", "meta", "read", "0x0c").out == f"{MARKER}\n"
    read_end, write_end = os.pipe()
    os.write(write_end, f"{MARKER}\n".encode())
    os.close(write_end)
    typed = nodes.run("one", "recovery", "verify", "STATE", "--key-fd", str(read_end))
    os.close(read_end)
    assert typed.code != 0
    given = (there.directory / "argv").read_text(encoding="utf-8")
    assert MARKER not in given
    assert "--config-patch=attached:1" in given
    assert "--key-fd=0" in given


def test_a_key_from_a_descriptor_here_arrives_there(nodes: Nodes) -> None:
    """What was mistyped is said group by group, so all of it was read."""
    nodes.add("one").format("state", slots={0: "anything"})
    read_end, write_end = os.pipe()
    os.write(write_end, b"not a recovery key\n")
    os.close(write_end)
    answer = nodes.run("one", "unlock", "STATE", "--recovery", "--key-fd", str(read_end), "--json")
    os.close(read_end)
    assert answer.json["nodes"][0]["answer"]["error"] == "RecoveryKeyMistyped"


def test_the_key_of_a_keyslot_arrives_there(nodes: Nodes) -> None:
    """SLOT:N is SLOT:0 over there; a second one cannot go with it, and what is no descriptor is named."""
    there = nodes.add("one")
    read_end, write_end = os.pipe()
    os.write(write_end, f"{MARKER}\n".encode())
    os.close(write_end)
    nodes.run("one", "reencrypt", "STATE", "--key-fd", f"3:{read_end}", "--yes")
    os.close(read_end)
    assert "--key-fd=3:0" in (there.directory / "argv").read_text(encoding="utf-8")
    two = nodes.run("one", "reencrypt", "STATE", "--key-fd", "3:7,4:8")
    assert (two.code, "not several" in two.err) == (64, True)
    none = nodes.run("one", "reencrypt", "STATE", "--key-fd", "3:key")
    assert (none.code, "names no open file" in none.err) == (64, True)


def test_a_large_file_arrives_whole(nodes: Nodes) -> None:
    """Sixteen megabytes that are no backup are refused as such, and the connection does not hang."""
    nodes.add("one")
    Path("backup").write_bytes(os.urandom(1 << 20) * 16)
    answer = nodes.run("one", "header", "restore", "STATE", "--from", "backup", "--yes", "--json")
    assert answer.code not in {0, 1, 14, 64}


def test_nobody_is_asked_anything_over_there(nodes: Nodes) -> None:
    """What would be typed is refused with the option that says it instead."""
    nodes.add("one").format("state", slots={0: "anything"})
    answer = nodes.run("one", "meta", "write", "0x09", "x")
    assert (answer.code, "add --yes if that is meant" in answer.err) == (64, True)
    asked = nodes.run("one", "unlock", "STATE", "--recovery")
    assert (asked.code, "give it through a descriptor" in asked.err) == (64, True)


@pytest.mark.parametrize("words", [("validate", "x"), ("gen", "config"), ("machineconfig", "patch", "x", "-p", "{}")])
def test_what_is_about_no_node_stays_here(nodes: Nodes, words: tuple[str, ...]) -> None:
    """Such a verb is refused with --nodes, before anything is read or reached."""
    answer = nodes.run("one", *words)
    assert (answer.code, "is about no node" in answer.err) == (64, True)


@pytest.mark.parametrize("host", ["-oProxyCommand=id", "a b", "a;id", ""])
def test_what_is_no_host_is_refused(capsys: pytest.CaptureFixture[str], host: str) -> None:
    """The name goes to ssh as it is, so it must be one; an empty list is nobody."""
    code = main((f"--nodes=a,{host}", "status") if host else ("--nodes=a/b", "status"))
    assert (code, "is no host" in capsys.readouterr().err) == (64, True)


def test_nodes_are_reached_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three clients each wait for the other two, which ends only where all run at once."""
    script = tmp_path / "client"
    script.write_text(
        f'#!/bin/sh\nmkdir "{tmp_path}/met.$$"\n'
        f'while [ "$(ls -d {tmp_path}/met.* | wc -l)" -lt 3 ]; do sleep 0.01; done\nexit 5\n',
        encoding="ascii",
    )
    script.chmod(0o755)
    monkeypatch.setenv("LUKSCTL_SSH", str(script))
    assert main(("status", "-n", "a,b", "--nodes=c")) == 5


def test_a_client_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The error says which program, and where it comes from."""
    monkeypatch.setenv("LUKSCTL_SSH", "/nowhere/ssh")
    assert main(("-n", "a", "status")) == 9
    assert "apt-get install openssh-client" in capsys.readouterr().err


def test_a_config_there_is_edited_here(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The text comes as it is, wrong or right, and goes back until the node has nothing against it but itself."""
    there = nodes.add("one")
    there.write_config(encrypted().replace("luks2", "luks9"))
    seen, script = Path("seen"), Path("editor.py").absolute()
    script.write_text(
        "import pathlib, sys\n"
        "file = pathlib.Path(sys.argv[1])\n"
        f"seen = pathlib.Path({str(seen.absolute())!r})\n"
        "text = file.read_text()\n"
        "count = seen.read_text().count('=====') if seen.exists() else 0\n"
        "seen.open('a').write(text + '=====')\n"
        "wrong = text.replace('slot: 0', 'slot: 99')\n"
        "right = text.replace('slot: 99', 'slot: 0').replace('luks9', 'luks2')\n"
        "file.write_text([wrong, right, text][count])\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("EDITOR", f"{sys.executable} {script}")
    monkeypatch.delenv("TALOS_EDITOR", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(Path.cwd()))
    answer = nodes.run("one", "edit", "machineconfig", "--mode=no-reboot")
    first, second, third, _ = seen.read_text(encoding="utf-8").split("=====")
    assert first.endswith(encrypted().replace("luks2", "luks9"))
    assert "# luksctl:   line 14: VolumeConfig/STATE.encryption.provider: unknown provider 'luks9'" in second
    assert third.endswith(encrypted())
    assert "# luksctl: It was not taken:" in third
    # The node has no STATE that could store it, which is no fault of the text.
    assert answer.code not in {0, 1, 2, 14, 64}
    assert "the edited text is kept in" in answer.err


def test_an_edit_that_changes_nothing_reaches_nobody(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Saved as it was, nothing is sent back; a node without a config has nothing to edit."""
    nodes.add("one").write_config(encrypted())
    nodes.add("two")
    monkeypatch.setenv("EDITOR", "true")
    monkeypatch.delenv("TALOS_EDITOR", raising=False)
    answer = nodes.run("one,two", "edit", "mc", "--json")
    one, two = answer.json["nodes"]
    assert (answer.code, one["exitCode"], two["exitCode"]) == (12, 0, 12)
    assert one["answer"] == {"changed": False}


def test_the_page_has_the_order_of_codes() -> None:
    """docs/nodes.md lists them as the program compares them; one that nobody knows is the worst."""
    page = (ROOT / "docs" / "nodes.md").read_text(encoding="utf-8")
    assert ", ".join(map(str, WORST_FIRST)) in page
    assert worst([0, 8, 77, 14]) == 77
    assert worst([7, 5, 0]) == 5


# ---- roles ----------------------------------------------------------------------------------------------------------


def test_a_key_with_a_role_runs_what_the_role_allows(nodes: Nodes) -> None:
    """A reader reads; what else there is, is refused with code 3, and nothing of it happens."""
    there = nodes.add("one", "os:reader")
    there.write_config(encrypted())
    before = there.bytes_of("meta", "state", "ephemeral")
    assert nodes.run("one", "plan").code == 8
    assert "REDACTED" in nodes.run("one", "get", "machineconfig").out
    for words in (
        ("sync",),
        ("get", "machineconfig", "--show-secrets"),
        ("plan", "-f", str(there.config)),
        ("meta", "write", "0x0c", "x"),
        ("reset", "--yes"),
        ("--settings", "/etc/shadow", "status"),
        ("--debug", "status"),
    ):
        answer = nodes.run("one", *words, "--json")
        refused = answer.json["nodes"][0]
        assert (refused["exitCode"], refused["answer"]["error"]) == (3, "Forbidden"), words
    assert there.bytes_of("meta", "state", "ephemeral") == before


def test_an_operator_syncs_and_an_admin_does_anything(nodes: Nodes) -> None:
    """The operator comes as far as the node, and is kept from META; the admin writes it."""
    for name, role in (("operated", "os:operator"), ("owned", "os:admin")):
        nodes.add(name, role).write_config(encrypted())
    assert "sync formats nothing" in nodes.run("operated", "sync").err
    assert nodes.run("operated", "meta", "write", "0x0c", "x").code == 3
    assert nodes.run("owned", "meta", "write", "0x0c", "x").code == 0
    assert nodes.run("owned", "--settings=/nowhere", "status").code == 2


def test_no_shell_sees_what_a_key_with_a_role_asks(nodes: Nodes) -> None:
    """Other programs, separators and substitutions are words that no verb takes."""
    there = nodes.add("one", "os:admin")
    made = there.directory / "made"
    for line in (
        f"touch {made}",
        f"luksctl status; touch {made}",
        f"luksctl status $(touch {made})",
        f"luksctl status `touch {made}`",
        f"/usr/bin/luksctl status && touch {made}",
        "luksctl 'status",
        "luksctl --role os:admin status",
        "luksctl --nodes other status",
        "luksctl kms serve",
        "",
    ):
        assert _ssh(nodes, line) in {3, 64}, line
    assert not made.exists()


def _ssh(nodes: Nodes, line: str) -> int:
    argv = [*nodes.server.ssh.split(), "-T", nodes.host("one"), *([line] if line else [])]
    return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode
