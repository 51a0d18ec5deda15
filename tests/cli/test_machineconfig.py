"""machineconfig patch: what it prints and writes, and that nothing changes where anything is wrong."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from tests.cli.desk import Desk, encrypted
from tests.house.tree import ROOT

CONFIG = """\
# a node
machine:
  type: worker # for now
---
apiVersion: v1alpha1
kind: VolumeConfig
name: EPHEMERAL
encryption:
  provider: luks2
  keys:
    - slot: 0
      nodeID: {}
"""
TYPE = "machine: {type: controlplane}"
SECOND_KEY = """\
apiVersion: v1alpha1
kind: VolumeConfig
name: EPHEMERAL
encryption:
  keys:
    - slot: 0
      static:
        passphrase: marker
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Return a config file."""
    path = tmp_path / "base.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


def test_the_result_is_printed(desk: Desk, base: Path) -> None:
    """Without -o the text itself goes to standard output, and warnings beside it."""
    answer = desk.run("machineconfig", "patch", str(base), "-p", TYPE)
    assert answer.code == 0
    assert answer.out == CONFIG.replace("worker", "controlplane")
    assert "warning: EPHEMERAL: every key (nodeID)" in answer.err


def test_without_a_patch_not_a_byte_changes(desk: Desk, base: Path, tmp_path: Path) -> None:
    """Neither in what is printed nor in a file."""
    assert desk.run("mc", "patch", str(base)).out == CONFIG
    assert desk.run("mc", "patch", str(base), "-o", str(tmp_path / "out.yaml")).code == 0
    assert (tmp_path / "out.yaml").read_bytes() == base.read_bytes()


def test_patches_come_inline_from_files_and_in_their_order(desk: Desk, base: Path, tmp_path: Path) -> None:
    """With an @, or as a word that can only be a file; commas belong to the patch."""
    one, two = tmp_path / "one.yaml", tmp_path / "two.patch"
    one.write_text("machine: {type: one, more: [1]}", encoding="utf-8")
    two.write_text("machine: {type: two, more: [2]}", encoding="utf-8")
    words = ("-p", f"@{one}", "--patch", str(two), "-p", "machine: {more: [3, 4], last: true}")
    answer = desk.run("machineconfig", "patch", str(base), *words)
    assert "type: two" in answer.out
    assert "  more:\n    - 1\n    - 2\n    - 3\n    - 4\n  last: true\n" in answer.out


def test_a_new_file_is_its_owners_alone(desk: Desk, base: Path, tmp_path: Path) -> None:
    """It may hold passphrases; directories are made."""
    out = tmp_path / "new" / "deep" / "out.yaml"
    answer = desk.run("machineconfig", "patch", str(base), "-p", TYPE, "-o", str(out), "--json")
    assert answer.json["file"] == str(out)
    assert out.stat().st_mode & 0o777 == 0o600
    assert "controlplane" in out.read_text(encoding="utf-8")


def test_a_file_that_is_there_keeps_its_mode(desk: Desk, base: Path) -> None:
    """Also where it is the base itself, reached by a link; nothing is left beside it."""
    base.chmod(0o640)
    link = base.with_name("link.yaml")
    link.symlink_to(base)
    before = set(os.listdir(base.parent))
    assert desk.run("machineconfig", "patch", str(base), "-p", TYPE, "-o", str(link)).code == 0
    assert link.is_symlink()
    assert base.read_text(encoding="utf-8") == CONFIG.replace("worker", "controlplane")
    assert base.stat().st_mode & 0o777 == 0o640
    assert set(os.listdir(base.parent)) == before


def test_standard_input_and_a_device(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """FILE may be -, and what is no file is written to as it is."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(CONFIG.encode())))
    assert desk.run("machineconfig", "patch", "-", "-p", TYPE, "-o", "/dev/null").code == 0
    assert not Path("/dev/null").is_file()


def test_an_output_that_cannot_be_written(desk: Desk, base: Path) -> None:
    """Code 9, with its name, and nothing left behind."""
    before = set(os.listdir(base.parent))
    answer = desk.run("machineconfig", "patch", str(base), "-p", TYPE, "-o", str(base / "below"))
    assert (answer.code, f"{base}/below cannot be written" in answer.err) == (9, True)
    assert set(os.listdir(base.parent)) == before


def test_keys_by_slot(desk: Desk, base: Path) -> None:
    """Asked for, a key of the patch takes the place of the one with its slot; else the slot is there twice."""
    answer = desk.run("machineconfig", "patch", str(base), "-p", SECOND_KEY, "--keys-by-slot")
    assert (answer.code, "nodeID" in answer.out, "passphrase: marker" in answer.out) == (0, False, True)
    answer = desk.run("machineconfig", "patch", str(base), "-p", SECOND_KEY)
    assert answer.code == 2
    assert "patch 1:6: VolumeConfig/EPHEMERAL.encryption.keys[1].slot: slot 0 is given twice" in answer.err
    assert "marker" not in answer.out + answer.err


def test_a_problem_of_the_base_has_the_line_of_the_base(desk: Desk, base: Path) -> None:
    """Though what was checked is the patched text, in which it stands elsewhere."""
    base.write_text(CONFIG.replace("provider: luks2", "provider: luks3"), encoding="utf-8")
    answer = desk.run("machineconfig", "patch", str(base), "-p", "machine: {a: 1, b: 2, c: 3}")
    assert f"{base}:9: VolumeConfig/EPHEMERAL.encryption.provider: unknown provider" in answer.err


@pytest.mark.parametrize(
    ("patch", "said"),
    [
        ("apiVersion: v1\nfoo: 1\n", "patch 1:1: this part of the patch belongs to no document"),
        ("machin: {type: x}", "patch 1:1: this part of the patch belongs to no document"),
        (
            '[{"op": "add", "path": "/machine/a", "value": 1}]',
            "JSON patches do not work on a config of several documents",
        ),
        ("[1, 2]", "patch 1:1: an operation must be a mapping"),
        ("[]", "patch 1:1: the list of operations is empty"),
        ('[{"op": "add", "path": "/machine/a", "value": 1}', "patch 1:2: not valid YAML"),
        ("- {op: add}\n---\nmachine: {}\n", "patch 1:1: neither a part of a machine config nor a list of operations"),
    ],
)
def test_a_patch_that_is_none(desk: Desk, base: Path, patch: str, said: str) -> None:
    """What was meant is guessed from the content, and what it lacks is said."""
    answer = desk.run("machineconfig", "patch", str(base), "-p", patch)
    assert answer.code == 2
    assert said in answer.err


def test_a_patch_file_that_is_not_there(desk: Desk, base: Path) -> None:
    """Code 2, with its name."""
    answer = desk.run("machineconfig", "patch", str(base), "-p", "@/nonexistent")
    assert (answer.code, "/nonexistent: the config cannot be read" in answer.err) == (2, True)


def test_everything_else_is_carried(desk: Desk, tmp_path: Path) -> None:
    """A whole config of a node with a GPU: patch, and take back; every byte is as it was."""
    carried = ROOT / "tests" / "cli" / "carried.yaml"
    out = tmp_path / "out.yaml"
    assert desk.run("validate", str(carried)).code == 0
    forth = "machine: {sysctls: {fs.file-max: '4'}, network: {hostname: node-9}}"
    assert desk.run("mc", "patch", str(carried), "-p", forth, "-o", str(out)).code == 0
    lines = carried.read_text(encoding="utf-8").splitlines()
    changed = [line for line in out.read_text(encoding="utf-8").splitlines() if line not in lines]
    assert changed == ["    hostname: node-9 # by the inventory", "    fs.file-max: '4'"]
    back = "machine: {sysctls: {fs.file-max: {$patch: delete}}, network: {hostname: node-7}}"
    assert desk.run("mc", "patch", str(out), "-p", back, "-o", str(out)).code == 0
    assert out.read_bytes() == carried.read_bytes()


def test_a_config_is_patched_on_its_way_to_the_node(desk: Desk, base: Path) -> None:
    """A patch that does not apply stops apply-config before it looks at the node."""
    base.write_text(encrypted(), encoding="utf-8")
    answer = desk.run("apply-config", "-f", str(base), "-p", "machine: {nothing: {$patch: delete}}\n", "-p", "x: 1")
    assert answer.code == 2
    assert "patch 2:1: this part of the patch belongs to no document" in answer.err
