"""The command lines that Talos documents, word by word but for the name of the command, for the verbs that are here."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from luksctl.cli.verbs import verb_of
from tests.cli.desk import Desk, encrypted
from tests.config.patches import values

# What a reader of the documentation has beside them.
FILES = {
    "all.yaml": "machine:\n  network:\n    nameservers: [10.0.0.53]\n",
    "cp.yaml": "cluster:\n  allowSchedulingOnControlPlanes: true\n",
    "worker.yaml": "machine:\n  nodeLabels:\n    kind: worker\n",
    "patch.yaml": "machine:\n  network:\n    hostname: worker1\n",
    "file.patch": "- op: test\n  path: /machine/network/hostname\n  value: worker1\n",
    "config.yaml": encrypted(),
    "one.yaml": "machine:\n  type: worker\n  network: {}\n",
}
INLINE = """'[{"op": "add", "path": "/machine/network/hostname", "value": "worker1"}]'"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory with the files, which is the current one."""
    directory = tmp_path / "here"
    directory.mkdir()
    for name, text in FILES.items():
        (directory / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(directory)
    return directory


def _run(desk: Desk, line: str) -> int:
    command, *words = shlex.split(line.replace("talosctl", "luksctl"))
    assert command == "luksctl"
    assert verb_of(words[0]) is not None
    return desk.run(*words).code


def test_patches_while_configs_are_generated(desk: Desk, here: Path) -> None:
    """Patches for all, for the control plane, and for workers; into another directory, since worker.yaml is a patch."""
    line = (
        "talosctl gen config test-cluster https://172.20.0.1:6443 --config-patch @all.yaml "
        "--config-patch-control-plane @cp.yaml --config-patch-worker @worker.yaml"
    )
    assert _run(desk, line) == 3, "worker.yaml is there, and no file is written over"
    assert _run(desk, f"{line} --output-dir out") == 0
    control, worker = (values((here / "out" / name).read_text(encoding="utf-8"))[0] for name in _GENERATED)
    assert control["machine"]["network"] == worker["machine"]["network"] == {"nameservers": ["10.0.0.53"]}
    assert control["cluster"]["allowSchedulingOnControlPlanes"] is True
    assert worker["machine"]["nodeLabels"] == {"kind": "worker"}
    assert "nodeLabels" not in control["machine"]


_GENERATED = ("controlplane.yaml", "worker.yaml")


def test_a_generated_config_is_patched_afterwards(desk: Desk, here: Path) -> None:
    """The file of the documentation, and its result."""
    (here / "worker.yaml").write_text(encrypted(), encoding="utf-8")
    assert _run(desk, "talosctl machineconfig patch worker.yaml --patch @patch.yaml -o worker1.yaml") == 0
    assert values((here / "worker1.yaml").read_text(encoding="utf-8"))[-1] == {
        "machine": {"network": {"hostname": "worker1"}}
    }


def test_inline_and_file_in_one_line(desk: Desk, here: Path) -> None:
    """A patch with commas inline, then one from a file, which tests what the first one did."""
    line = f"talosctl machineconfig patch one.yaml --patch {INLINE} --patch @file.patch -o done.yaml"
    assert _run(desk, line) == 0
    assert values((here / "done.yaml").read_text(encoding="utf-8"))[0]["machine"]["network"] == {"hostname": "worker1"}


@pytest.mark.parametrize(
    "line",
    [
        "talosctl apply-config -f config.yaml --config-patch @patch.yaml",
        "talosctl apply-config --file config.yaml -p @patch.yaml --insecure",
        "talosctl apply -f config.yaml",
        "talosctl patch mc --patch @file.patch",
        "talosctl patch machineconfig -p @patch.yaml --mode=no-reboot",
    ],
)
def test_configs_are_applied(desk: Desk, here: Path, line: str) -> None:
    """The command lines make sense; this node is none that could store a config."""
    assert (here / "config.yaml").exists()
    desk.write_config(FILES["config.yaml"] + "---\n" + FILES["one.yaml"])
    assert _run(desk, line) not in {0, 1, 64}
