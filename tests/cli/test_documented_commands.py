"""The command lines that Talos documents, word by word but for the name of the command, for the verbs that are here."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from luksctl.cli.verbs import verb_of
from tests.cli.desk import Answer, Desk, encrypted
from tests.cli.running_node import RunningNode, running_node
from tests.cli.stand_in import stand_in
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


# ---- on nodes -------------------------------------------------------------------------------------------------------

ONE_DOCUMENT = """\
machine:
  type: worker
  kubelet: {image: "ghcr.io/siderolabs/kubelet:v1.29.0"}
  systemDiskEncryption:
    state: {provider: luks2, keys: [{slot: 0, static: {passphrase: correct horse}}]}
    ephemeral: {provider: luks2, keys: [{slot: 0, static: {passphrase: correct horse}}]}
cluster:
  apiServer: {image: "registry.k8s.io/kube-apiserver:v1.29.0"}
"""
KUBELET = """'[{"op": "replace", "path": "/machine/kubelet/image", "value": "ghcr.io/siderolabs/kubelet:v1.30.0"}]'"""
APISERVER = (
    """'[{"op": "replace", "path": "/cluster/apiServer/image", "value": "registry.k8s.io/kube-apiserver:v1.30.0"}]'"""
)


class Fleet:
    """Nodes that are all the same one, reached by a stand-in for ssh; `run` takes a line of the documentation."""

    def __init__(self, node: RunningNode, lines: list[tuple[str, str]]) -> None:
        self.node = node
        self.lines = lines

    def run(self, line: str, addresses: str = "10.5.0.2") -> Answer:
        """Run it; what a reader fills in is filled in, and nothing else is changed."""
        filled = (
            line.replace("<IP1>,<IP2>,...", addresses).replace("<IP>", addresses).replace("-n IP ", f"-n {addresses} ")
        )
        command, *words = shlex.split(filled.replace("talosctl", "luksctl"))
        assert command == "luksctl"
        return self.node.run(*words)


@pytest.fixture
def fleet(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Fleet:
    """Return nodes with a config of one document, and files with patches and another config beside the reader."""
    running = running_node(tmp_path, capsys, monkeypatch)
    (running.bench.state / "config.yaml").write_text(ONE_DOCUMENT, encoding="utf-8")
    (here / "config.yaml").write_text(ONE_DOCUMENT.replace("kubelet:v1.29", "kubelet:v1.31"), encoding="utf-8")
    for name, words in (("kubelet-patch.json", KUBELET), ("manifest-patch.json", APISERVER)):
        (here / name).write_text(words.strip("'"), encoding="utf-8")
    yaml = "- op: replace\n  path: /machine/kubelet/image\n  value: ghcr.io/siderolabs/kubelet:v1.30.0\n"
    (here / "kubelet-patch.yaml").write_text(f"# kubelet-patch.yaml\n{yaml}", encoding="utf-8")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(here))
    monkeypatch.delenv("TALOS_EDITOR", raising=False)
    monkeypatch.setenv("EDITOR", "sed -i s/kubelet:v1.29/kubelet:v1.32/")
    return Fleet(running, stand_in(monkeypatch))


@pytest.mark.parametrize(
    ("line", "became"),
    [
        ("talosctl -n <IP> apply-config -f config.yaml", "kubelet:v1.31"),
        ("talosctl -n <IP> apply machineconfig -f config.yaml", "kubelet:v1.31"),
        ("talosctl -n IP apply machineconfig -f config.yaml --mode=no-reboot", "kubelet:v1.31"),
        ("talosctl -n <IP> edit machineconfig", "kubelet:v1.32"),
        ("talosctl -n <IP1>,<IP2>,... edit machineconfig", "kubelet:v1.32"),
        ("talosctl -n <IP> edit machineconfig --mode=no-reboot", "kubelet:v1.32"),
        (f"talosctl -n <IP> patch machineconfig -p {KUBELET}", "kubelet:v1.30"),
        (f"talosctl -n <IP> patch machineconfig --mode=no-reboot -p {APISERVER}", "kube-apiserver:v1.30"),
        ("talosctl -n <IP> patch machineconfig -p @kubelet-patch.json -p @manifest-patch.json", "kube-apiserver:v1.30"),
        ("talosctl -n <IP> patch machineconfig -p @kubelet-patch.yaml", "kubelet:v1.30"),
        ("talosctl apply-config --nodes <IP> --file config.yaml", "kubelet:v1.31"),
    ],
)
def test_the_chapter_on_editing_does_what_it_says(fleet: Fleet, line: str, became: str) -> None:
    """Each line changes the config of the node without a reboot, as the chapter promises of these fields."""
    answer = fleet.run(line)
    assert (answer.code, answer.err) == (0, answer.err)
    assert became in fleet.node.stored
    assert fleet.node.bench.system.reboots == 0
    assert {host for host, _ in fleet.lines} == {"10.5.0.2"}
    assert "passphrase" not in "".join(sent for _, sent in fleet.lines)


def test_a_patch_goes_to_several_nodes(fleet: Fleet) -> None:
    """Both are asked; here they are one, so the second finds it patched."""
    line = f"talosctl -n <IP1>,<IP2>,... patch machineconfig -p {KUBELET}"
    answer = fleet.run(line, "10.5.0.2,10.5.0.3")
    assert answer.code == 0
    assert sorted(host for host, _ in fleet.lines) == ["10.5.0.2", "10.5.0.3"]
    assert "nothing was changed" in answer.out


def test_the_config_is_got_and_goes_back(fleet: Fleet, here: Path) -> None:
    """What `yq eval .spec` takes out of the resource is the config; with its secrets it can be applied."""
    assert "image" in values(fleet.run("talosctl -n <IP> get machineconfig -o yaml").out)[0]["spec"]
    whole = fleet.run("talosctl -n <IP> get machineconfig -o yaml --show-secrets")
    (here / "machs.yaml").write_text(values(whole.out)[0]["spec"], encoding="utf-8")
    assert fleet.run("talosctl -n <IP> apply-config -f machs.yaml").code == 0
    assert fleet.node.stored == ONE_DOCUMENT


def test_the_modes_of_the_chapter(fleet: Fleet) -> None:
    """Staged waits and is not seen by the next edit, which says so; a reboot is asked for; the installer is no more."""
    assert fleet.run("talosctl -n <IP> apply-config -f config.yaml --mode=staged").code == 0
    assert fleet.node.stored == ONE_DOCUMENT
    assert fleet.run("talosctl -n <IP> edit machineconfig --mode=staged").code == 0
    assert (
        "a config that was staged for the next boot was dropped"
        in fleet.run("talosctl -n <IP> apply-config -f config.yaml --mode=reboot").out
    )
    assert fleet.node.bench.system.reboots == 1
    assert fleet.run("talosctl -n IP apply machineconfig --mode=interactive").code == 64


@pytest.mark.parametrize(
    "line",
    [
        "talosctl apply-config -f config.yaml --config-patch @patch.yaml",
        "talosctl apply-config --file config.yaml -p @patch.yaml --insecure",
        "talosctl apply-config -i -f config.yaml",
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
