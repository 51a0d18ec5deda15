"""edit and patch on a running node: errors come back into the editor, nothing is lost, and nothing done twice."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from luksctl.devices.editor import editor_of
from luksctl.model.config import STATE
from tests.cli.running_node import CONFIG, RunningNode, running_node
from tests.house.tree import ROOT


@pytest.fixture
def node(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> RunningNode:
    """Return a running node."""
    return running_node(tmp_path, capsys, monkeypatch)


Edits = Callable[..., Path]


@pytest.fixture
def edits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Edits:
    """Return what sets an editor: the first time it does the first replacement, and so on; then it only saves.

    What it was shown is kept in the directory that comes back.
    """

    def install(*replacements: tuple[str, str], code: int = 0) -> Path:
        seen = tmp_path / "seen"
        seen.mkdir()
        script = tmp_path / "editor.py"
        script.write_text(
            "import os, sys\n"
            f"replacements, seen = {replacements!r}, {str(seen)!r}\n"
            "number = len(os.listdir(seen))\n"
            "text = open(sys.argv[1]).read()\n"
            "open(f'{seen}/{number}', 'w').write(text)\n"
            "open(f'{sys.argv[1]}.swp', 'w').write(text)\n"
            "if number < len(replacements):\n"
            "    text = text.replace(*replacements[number])\n"
            "open(sys.argv[1], 'w').write(text)\n"
            f"sys.exit({code})\n",
            encoding="utf-8",
        )
        monkeypatch.setenv("EDITOR", f"{sys.executable} {script}")
        monkeypatch.delenv("TALOS_EDITOR", raising=False)
        return seen

    return install


def _left(node: RunningNode) -> list[Path]:
    return [path for path in Path(node.bench.node.paths.run_dir).rglob("*") if "edit-" in str(path) and path.is_file()]


def test_an_edit_is_applied(node: RunningNode, edits: Edits) -> None:
    """The text is shown as it is, passphrases included; what was saved is STATE's own, and no file is left."""
    seen = edits(("type: worker", "type: controlplane"))
    # Talos changes the type by a reboot only.
    answer = node.run("edit", "machineconfig", "--mode", "staged")
    assert answer.code == 0
    assert (seen / "0").read_text(encoding="utf-8").endswith(CONFIG)
    assert node.stored == CONFIG, "the new one waits"
    waiting = (node.bench.state / "staged.yaml").read_text(encoding="utf-8")
    assert waiting.endswith(CONFIG.replace("type: worker", "type: controlplane"))
    assert _left(node) == []


def test_the_head_of_the_operator_stays(node: RunningNode, edits: Edits) -> None:
    """Only our own lines on top are dropped."""
    edits(("  type: worker # for now", "  type: worker\n  sysctls: {a: '1'}"))
    assert node.run("edit", "mc").code == 0
    assert node.stored == CONFIG.replace("  type: worker # for now", "  type: worker\n  sysctls: {a: '1'}")


@pytest.mark.parametrize("replacement", [("x y z", "a"), (CONFIG, ""), (CONFIG, "\n# nothing but this\n")])
def test_nothing_is_done(node: RunningNode, edits: Edits, replacement: tuple[str, str]) -> None:
    """Saved as it was, empty, or comments alone."""
    edits(replacement)
    answer = node.run("edit", "mc", "--json")
    assert (answer.code, answer.json) == (0, {"changed": False})
    assert node.stored == CONFIG
    assert _left(node) == []


def test_a_byte_order_mark_stays_in_front(node: RunningNode, edits: Edits) -> None:
    """Of the file in the editor, before our lines, and of what is stored."""
    (node.bench.state / "config.yaml").write_text(f"\ufeff{CONFIG}", encoding="utf-8")
    seen = edits(("type: worker", "type: worker\n  sysctls: {a: [}"), ("a: [", "a: '1'"))
    assert node.run("edit", "machineconfig").code == 0
    assert (seen / "0").read_text(encoding="utf-8").startswith("\ufeff# luksctl:")
    assert (seen / "1").read_text(encoding="utf-8").startswith("\ufeff# luksctl:")
    assert node.stored == "\ufeff" + CONFIG.replace("type: worker", "type: worker\n  sysctls: {a: '1'}")


def test_an_error_comes_back_into_the_editor(node: RunningNode, edits: Edits) -> None:
    """With the line that the file in the editor has, and its hint; the edit is still there; then it is taken."""
    seen = edits(("slot: 0\n", "slot: 99\n"), ("slot: 99\n", "slot: 0\n"), ("type: worker", "type: worker # still"))
    answer = node.run("edit", "machineconfig")
    assert answer.code == 0
    assert node.stored == CONFIG, "the second save was the text as it was at first"
    shown = (seen / "1").read_text(encoding="utf-8").splitlines()
    (told,) = [line for line in shown if "slot 99 is outside 0-31" in line]
    number = int(told.partition("line ")[2].partition(":")[0])
    assert shown[number - 1].strip() == "- slot: 99"
    assert "luksctl:" not in node.stored
    assert _left(node) == []


def test_after_an_error_it_can_be_mended(node: RunningNode, edits: Edits) -> None:
    """What was right of the first attempt stays."""
    edits(("  type: worker # for now", "  type: [\n  sysctls: {a: '1'}"), ("  type: [", "  type: worker"))
    assert node.run("edit", "machineconfig").code == 0
    assert node.stored == CONFIG.replace("  type: worker # for now", "  type: worker\n  sysctls: {a: '1'}")


def test_a_refusal_comes_back_too(node: RunningNode, edits: Edits) -> None:
    """Not only what is no config: also what this node does not take, here one without keys for STATE."""
    seen = edits(("name: STATE", "name: LOG"))
    answer = node.run("edit", "machineconfig")
    assert answer.code == 3
    shown = (seen / "1").read_text(encoding="utf-8")
    assert "# luksctl:   STATE: the config was not stored" in shown
    assert "name: LOG" in shown
    assert len(_left(node)) == 2, "the text, and what the editor left beside it"


def test_saved_unchanged_after_an_error_is_the_end(node: RunningNode, edits: Edits) -> None:
    """The error is told, the text is kept, readable by its owner alone, and nothing was stored."""
    edits(("provider: luks2", "provider: rot13"))
    answer = node.run("edit", "machineconfig")
    assert answer.code == 2
    (kept,) = [path for path in _left(node) if path.name == "machine.yaml"]
    assert f"the edited text is kept in {kept}" in answer.err
    assert "unknown provider 'rot13'" in answer.err
    assert "provider: rot13" in kept.read_text(encoding="utf-8")
    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.parent.stat().st_mode & 0o777 == 0o700
    assert node.stored == CONFIG


def test_an_editor_that_fails(node: RunningNode, edits: Edits) -> None:
    """What it saved before is kept; where it saved nothing, nothing is left."""
    edits(("type: worker", "type: other"), code=3)
    answer = node.run("edit", "machineconfig")
    assert (answer.code, "ended with 3" in answer.err, "is kept in" in answer.err) == (9, True, True)
    assert node.stored == CONFIG


def test_an_editor_that_is_not_there(node: RunningNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name, and how to choose another one."""
    monkeypatch.setenv("TALOS_EDITOR", "/nonexistent")
    answer = node.run("edit", "machineconfig")
    assert (answer.code, "/nonexistent could not be started" in answer.err) == (9, True)
    assert _left(node) == []


def test_a_wrong_config_can_be_edited(node: RunningNode, edits: Edits) -> None:
    """It rules until then, so the node is degraded: this is the way out."""
    (node.bench.state / "config.yaml").write_text(CONFIG.replace("slot: 0\n", "slot: 99\n"), encoding="utf-8")
    edits(("slot: 99", "slot: 0"))
    assert node.run("edit", "machineconfig").code == 0
    assert node.stored == CONFIG


def test_what_no_other_place_has_is_kept(node: RunningNode, edits: Edits) -> None:
    """A dry run and a trial store nothing."""
    edits(("slot: 0\n", "slot: 1\n"))
    answer = node.run("edit", "machineconfig", "--dry-run")
    assert (answer.code, node.stored) == (0, CONFIG)
    assert "the edited text is kept in" in answer.err
    (kept,) = [path for path in _left(node) if path.name == "machine.yaml"]
    assert "slot: 1\n" in kept.read_text(encoding="utf-8")


def test_a_config_that_waits_is_told_of(node: RunningNode, edits: Edits) -> None:
    """Before it is dropped."""
    assert node.run("patch", "mc", "-p", "machine: {a: 1}", "--mode", "staged").code == 0
    edits()
    assert "a config waits for the next boot" in node.run("edit", "mc").err
    assert "a config waits for the next boot" in node.run("patch", "mc", "-p", "machine: {b: 1}", "--dry-run").err


def test_no_config(node: RunningNode, edits: Edits) -> None:
    """There is nothing to edit or to patch."""
    edits()
    (node.bench.state / "config.yaml").unlink()
    for words in (("edit", "mc"), ("patch", "mc", "-p", "machine: {}")):
        answer = node.run(*words)
        assert (answer.code, "luksctl apply-config --insecure" in answer.err) == (12, True)


def test_which_editor() -> None:
    """The one of Talos, the one of everybody, or vi."""
    assert editor_of({}) == "vi"
    assert editor_of({"EDITOR": "nano -w"}) == "nano -w"
    assert editor_of({"EDITOR": "nano", "TALOS_EDITOR": "emacs"}) == "emacs"
    assert editor_of({"EDITOR": "nano", "TALOS_EDITOR": ""}) == "nano"


def test_a_patch_is_applied(node: RunningNode, tmp_path: Path) -> None:
    """Inline and from a file, in the order of the options; the keys follow at once."""
    patch = tmp_path / "key.patch"
    patch.write_text(
        "apiVersion: v1alpha1\nkind: VolumeConfig\nname: STATE\nencryption:\n  keys:\n"
        "    - {slot: 0, static: {passphrase: another}}\n",
        encoding="utf-8",
    )
    words = ("-p", "machine: {sysctls: {a: '1'}}", "--patch-file", str(patch), "--keys-by-slot")
    answer = node.run("patch", "machineconfig", *words)
    assert answer.code == 0
    assert "passphrase: another" in node.stored
    assert node.stored.startswith("# of this node\n")
    assert "sysctls" in node.stored
    state = node.bench.node.ports.meta.load().state_encryption
    assert state is not None


def test_everything_is_carried_from_the_file_to_the_node_and_back(node: RunningNode, tmp_path: Path) -> None:
    """A config of a whole node is applied with a patch, patched again, and got: what no patch names is as it was."""
    carried = (ROOT / "tests" / "cli" / "carried.yaml").read_text(encoding="utf-8")
    own = (
        carried.replace("  systemDiskEncryption:\n", "  carriedEncryption:\n")
        + "---\n"
        + CONFIG.partition("---\nmachine")[0]
    )
    file = tmp_path / "given.yaml"
    for path in (file, node.bench.state / "config.yaml"):
        path.write_text(own, encoding="utf-8")
    assert node.run("apply-config", "-f", str(file), "-p", "machine: {kernel: {modules: [{name: nvme}]}}").code == 0
    assert node.run("patch", "mc", "-p", "machine: {sysctls: {a: '1'}}").code == 0
    got = node.run("get", "machineconfig", "--show-secrets").out
    assert got == node.stored
    added = [line for line in got.splitlines() if line not in own.splitlines()]
    assert added == ["      - name: nvme", "    a: '1'"]
    back = "machine: {sysctls: {a: {$patch: delete}}, kernel: {modules: [{name: nvme, $patch: delete}]}}"
    assert node.run("patch", "mc", "-p", back).code == 0
    assert node.stored == own


def test_a_patch_without_an_effect_is_not_applied(node: RunningNode) -> None:
    """It says so, and why where it can."""
    answer = node.run("patch", "mc", "-p", "machine: {type: null}")
    assert (answer.code, "nothing was changed" in answer.out) == (0, True)
    assert "null keeps what is there" in answer.err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("patch", "mc"), 64),
        (("patch", "pods", "-p", "a: 1"), 64),
        (("edit", "pods"), 64),
        (("patch", "mc", "-p", "x: 1"), 2),
        (("patch", "mc", "-p", "machine: {x: {$patch: delete}}"), 2),
        (("patch", "mc", "--patch-file", "/nonexistent"), 2),
    ],
)
def test_what_makes_no_sense(node: RunningNode, words: tuple[str, ...], code: int) -> None:
    """Nothing was stored, and no error is hidden."""
    assert node.run(*words).code == code
    assert node.stored == CONFIG


def test_errors_of_the_node_are_told(node: RunningNode) -> None:
    """A config without any key for STATE is refused, and named."""
    patch = "apiVersion: v1alpha1\nkind: VolumeConfig\nname: STATE\n$patch: delete\n"
    answer = node.run("patch", "mc", "-p", patch)
    assert (answer.code, STATE in answer.err) == (3, True)
    assert node.stored == CONFIG


def test_a_trial_is_told_of(node: RunningNode) -> None:
    """What is patched is the config in STATE, not the one on trial."""
    trial = ("--mode", "try", "--timeout", "1h")
    assert node.run("patch", "mc", "-p", "machine: {nodeLabels: {a: b}}", *trial).code == 0
    assert (
        "a config is on trial; this starts from the one in STATE"
        in node.run("patch", "mc", "-p", "machine: {nodeLabels: {c: d}}", "--dry-run").err
    )
    assert node.stored == CONFIG
