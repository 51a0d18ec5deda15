"""validate tells everything at once; gen config writes what validate accepts."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from tests.cli.desk import Desk
from tests.house.tree import ROOT

_THREE_ERRORS = """\
apiVersion: v1alpha1
kind: VolumeConfig
name: STATE
encryption:
  provider: luks2
  keys:
    - slot: 32
      nodeID: {}
    - nodeId: {}
    - slot: 1
      static: {passphrase: ""}
"""


def test_every_problem_is_told_at_once(desk: Desk) -> None:
    """Each error has file, line and path on a line of its own, and the code is 2."""
    desk.write_config(_THREE_ERRORS)
    answer = desk.run("validate", str(desk.config))
    assert answer.code == 2
    for line in (7, 9, 11):
        assert f"luksctl: {desk.config}:{line}: " in answer.err
    assert "hint: " in answer.err
    assert answer.out == ""


def test_problems_are_data_with_json(desk: Desk) -> None:
    """The error object lists every problem with file, line, path and message."""
    desk.write_config(_THREE_ERRORS)
    answer = desk.run("validate", "--json", str(desk.config))
    assert answer.json["exitCode"] == answer.code == 2
    lines = {problem["line"] for problem in answer.json["problems"]}
    assert {7, 9, 11} <= lines
    assert all(problem["file"] == str(desk.config) for problem in answer.json["problems"])


def test_warnings_go_to_standard_error(desk: Desk) -> None:
    """A config that is right but leaks a passphrase is valid, with a warning."""
    answer = desk.run("validate", str(ROOT / "examples" / "machine.yaml"))
    assert answer.code == 0
    assert "warning: STATE, slot 1: the passphrase" in answer.err
    assert "STATE: slot 0 nodeID, slot 1 static" in answer.out


def test_a_dash_is_standard_input(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Problems then name standard input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(_THREE_ERRORS.encode())))
    answer = desk.run("validate", "-")
    assert answer.code == 2
    assert "standard input:7: " in answer.err


def test_a_file_that_is_not_there_is_a_problem(desk: Desk) -> None:
    """Code 2, with the name of the file."""
    answer = desk.run("validate", "/nonexistent.yaml")
    assert (answer.code, "/nonexistent.yaml: the config cannot be read" in answer.err) == (2, True)


@pytest.mark.parametrize("keys", ["nodeID", "static", "nodeID,static", "tpm,kms,nodeID,static"])
def test_a_generated_config_is_valid(desk: Desk, keys: str, tmp_path: Path) -> None:
    """Whatever kinds are asked for, validate has nothing against the file."""
    path = tmp_path / "new.yaml"
    assert desk.run("gen", "config", "--keys", keys, "-o", str(path)).code == 0
    valid = desk.run("validate", "--json", str(path))
    assert valid.code == 0
    kinds = [[key["kind"] for key in volume["keys"]] for volume in valid.json["volumes"]]
    assert kinds == [keys.split(",")] * 2


def test_the_passphrase_stands_in_the_file_alone(desk: Desk, tmp_path: Path) -> None:
    """It is fresh each time, in a file that only its owner can read, and nowhere in the output."""
    texts = []
    for name in ("one.yaml", "two.yaml"):
        path = tmp_path / name
        answer = desk.run("gen", "config", "--keys=static", "--output", str(path))
        passphrase = path.read_text(encoding="utf-8").partition('passphrase: "')[2].partition('"')[0]
        assert len(passphrase) >= 43
        assert passphrase not in answer.out + answer.err
        assert path.stat().st_mode & 0o777 == 0o600
        texts.append(passphrase)
    assert texts[0] != texts[1]


def test_no_file_is_written_over(desk: Desk) -> None:
    """A config that is there stays as it is, and the code is 3."""
    desk.write_config("precious")
    answer = desk.run("gen", "config", "-o", str(desk.config))
    assert answer.code == 3
    assert desk.config.read_text(encoding="utf-8") == "precious"


def test_a_config_is_patched_while_it_is_made(desk: Desk, tmp_path: Path) -> None:
    """The comments of the template stay, and what the patch makes of it is checked."""
    path = tmp_path / "new.yaml"
    policy = "{apiVersion: luksctl/v1alpha1, kind: EncryptionPolicy, prune: true}"
    assert desk.run("gen", "config", "--keys", "nodeID", "--config-patch", policy, "-o", str(path)).code == 0
    plain = desk.run("gen", "config", "--keys", "nodeID").out
    assert path.read_text(encoding="utf-8") == plain.replace("prune: false", "prune: true")
    answer = desk.run("gen", "config", "--config-patch", policy.replace("true", "perhaps"), "-o", str(tmp_path / "no"))
    assert (answer.code, "patch 1:1: EncryptionPolicy.prune: must be true or false" in answer.err) == (2, True)
    assert not (tmp_path / "no").exists()


def test_a_cluster_has_two_kinds_of_nodes(desk: Desk, tmp_path: Path) -> None:
    """Each has a file, with the patches for all and those for it; both are valid, and no passphrase is in both."""
    common, mine = "machine: {a: 1}", "machine: {a: 2, b: 3}"
    words = ("--config-patch", common, "--config-patch-worker", mine, "--output-dir", str(tmp_path / "new"))
    answer = desk.run("gen", "config", "one", "https://10.0.0.1:6443", *words, "--json")
    control, worker = (tmp_path / "new" / name for name in ("controlplane.yaml", "worker.yaml"))
    assert answer.json["files"] == [str(control), str(worker)]
    assert "type: controlplane\n  a: 1\ncluster:" in control.read_text(encoding="utf-8")
    assert "type: worker\n  a: 2\n  b: 3\ncluster:" in worker.read_text(encoding="utf-8")
    passphrases = set()
    for path in (control, worker):
        assert desk.run("validate", str(path)).code == 0
        assert path.stat().st_mode & 0o777 == 0o600
        text = path.read_text(encoding="utf-8")
        assert 'clusterName: "one"\n  controlPlane:\n    endpoint: "https://10.0.0.1:6443"' in text
        passphrases.add(text.partition('passphrase: "')[2].partition('"')[0])
    assert len(passphrases) == 2
    worker.unlink()
    assert desk.run("gen", "config", "one", "https://10.0.0.1:6443", *words).code == 3
    assert not worker.exists(), "no file where the other one is there"


@pytest.mark.parametrize(
    "words", [("one",), ("one", "10.0.0.1:6443"), ("one", "https://"), ("--config-patch-worker", "machine: {}")]
)
def test_a_cluster_without_an_endpoint(desk: Desk, words: tuple[str, ...]) -> None:
    """Whatever is half said is no command line."""
    assert desk.run("gen", "config", *words).code == 64


def test_without_a_file_it_is_printed(desk: Desk) -> None:
    """The text itself, so that it can be piped into validate."""
    answer = desk.run("gen", "config", "--keys", "nodeID")
    assert answer.out.startswith("# Machine config for luksctl")
    assert "nodeID: {}" in answer.out
