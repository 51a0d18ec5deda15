"""Bad input of every kind, to every verb that takes a config or a patch: one clear message, code 2, nothing changed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from luksctl.units import MIB
from tests.cli.desk import Answer, Desk, encrypted
from tests.cli.running_node import CONFIG, RunningNode, running_node
from tests.cli.stand_in import stand_in

TYPE = "machine: {type: controlplane}"
CARRIED = "apiVersion: v1\nkind: ConfigMap\nname: a\n"
LAST = CONFIG.count("\n")


def _deep() -> str:
    return "machine: " + "[" * 5000 + "]" * 5000


def _laughs() -> str:
    lists = (f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 12))
    return f"machine: {{}}\na0: &a0 [x]\n{''.join(lists)}"


def _lines(text: str, *, end: str) -> str:
    return text.replace("\n", end)


@dataclass(frozen=True)
class Bad:
    """A text that is wrong wherever it is given; `said` follows the name of the file, and `meant` is in the hint."""

    text: bytes
    said: str
    meant: str = ""


# No YAML, or none that every reader reads alike: the same for a config and for a patch.
TEXTS = {
    "not YAML": Bad(b"machine: [1\nb: {", ":2: not valid YAML: did not find expected ',' or ']'"),
    "a tab": Bad(b"machine:\n\ttype: worker\n", ":2: not valid YAML", "indent with spaces"),
    "a key twice": Bad(b"machine:\n  a: 1\n  a: 2\n", ":3: machine.a: this key is given twice, first in line 2"),
    "a key twice in JSON": Bad(b'{"machine": {"a": 1,\n "a": 2}}', ":2: machine.a: this key is given twice"),
    "fifty megabytes": Bad(b"machine: {}\n" + (b"#" * 999 + b"\n") * 50_000, ":1: the text has more than 4 MiB"),
    "one long line": Bad(b"machine: {a: " + b"x" * 5_000_000 + b"}", ":1: the text has more than 4 MiB"),
    "nested": Bad(_deep().encode(), ":1: the text is nested more than "),
    "nested and never closed": Bad(b"machine: " + b"[" * 100_000, ":1: the text is nested more than "),
    "billions of laughs": Bad(_laughs().encode(), ":1: aliases that stand for more than 1,000,000", "quote the value"),
    "an alias of itself": Bad(b"machine: &m {a: *m}\n", ":1: aliases that stand for more than 1,000,000"),
    "an alias of nothing": Bad(b"machine: *x\n", ":1: an alias (*name) without its anchor", "quote the value"),
    "Latin-1": Bad(b"machine:\n  type: w\xf6rker\n", ":2: the text is not UTF-8", "save it as UTF-8"),
    "UTF-16": Bad(CONFIG.encode("utf-16"), ":1: the text is not UTF-8", "it looks like UTF-16"),
    "UTF-16, the other way": Bad(b"\xfe\xff" + CONFIG.encode("utf-16-be"), ":1: the text is not UTF-8", "like UTF-16"),
    "UTF-16 without its mark": Bad(CONFIG.encode("utf-16-le"), ":1: a control character", "save it as UTF-8"),
    "NUL": Bad(b"machine:\n  type: wor\0ker\n", ":2: a control character"),
    "NUL at the end": Bad(f"{CONFIG}\0\0\0".encode(), f":{LAST + 1}: a control character"),
    "zeros": Bad(bytes(4096), ":1: a control character"),
    "files with marks, joined": Bad(f"\ufeff{CONFIG}\ufeff---\nmachine: {{}}\n".encode(), f":{LAST + 1}: a byte order"),
    "a mark in a document": Bad(f"{CONFIG}---\n\ufeff{CARRIED}".encode(), f":{LAST + 2}: a byte order mark amid"),
    "two marks": Bad(f"\ufeff\ufeff{TYPE}".encode(), ":1: a byte order mark amid the text", "take it out"),
    "another YAML": Bad(b"%YAML 9.9\n---\nmachine: {}\n", ":1: not valid YAML"),
    "half a character": Bad(b'machine: {type: "\\ud800"}\n', ":1: not valid YAML"),
    "text": Bad(b"just words\n", ":1: "),
    "lists": Bad(b"- machine\n", ":1: "),
    "no machine": Bad(b"machin: {}\n", ":1: "),
    "no kind": Bad(b"\napiVersion: v1alpha1\nname: a\n", ":2: "),
    "a number for machine": Bad(b"machine: 7\n", ":1: machine: "),
}
# What is read and makes no config.
CONFIGS = {
    "nothing": Bad(b"", ":1: no machine configuration"),
    "blanks": Bad(b"  \n\n", ":1: no machine configuration"),
    "comments": Bad(b"# nothing\n  # else\n", ":1: no machine configuration"),
    "separators": Bad(b"---\n---\nnull\n", ":1: no machine configuration"),
    "text alone": Bad(b"just words\n", ":1: a document must be a mapping, not text"),
    "a list": Bad(b"- machine\n- b\n", ":1: a document must be a mapping, not a list"),
    "operations": Bad(b'[{"op": "add", "path": "/a", "value": 1}]', ":1: a document must be a mapping, not a list"),
    "an unknown field": Bad(
        CONFIG.replace("keys:", "kees: []\n  keys:", 1).encode(),
        ":7: VolumeConfig/STATE.encryption.kees: unknown field 'kees'",
        "did you mean keys?",
    ),
    "an unknown field of the policy": Bad(
        f"{CONFIG}---\napiVersion: luksctl/v1alpha1\nkind: EncryptionPolicy\nkdf: {{tim: 5}}\n".encode(),
        f":{LAST + 4}: EncryptionPolicy.kdf.tim: unknown field 'tim'",
        "did you mean time?",
    ),
    "an unknown field of the machine": Bad(
        f"{CONFIG}  systemDiskEncryption: {{stat: {{}}}}\n".encode(),
        f":{LAST + 1}: machine.systemDiskEncryption.stat: unknown field 'stat'",
        "did you mean state?",
    ),
    "another type": Bad(
        CONFIG.replace("slot: 0", "slot: zero", 1).encode(),
        ":8: VolumeConfig/STATE.encryption.keys[0].slot: must be a whole number, not text",
    ),
    "another type in lines of Windows": Bad(
        _lines(CONFIG.replace("slot: 0", "slot: zero", 1), end="\r\n").encode(),
        ":8: VolumeConfig/STATE.encryption.keys[0].slot: must be a whole number, not text",
    ),
    "another type in lines of long ago": Bad(
        _lines(CONFIG.replace("slot: 0", "slot: zero", 1), end="\r").encode(),
        ":8: VolumeConfig/STATE.encryption.keys[0].slot: must be a whole number, not text",
    ),
    "two machines": Bad(
        f"{CONFIG}---\nmachine: {{}}\n".encode(), f":{LAST + 2}: this document is given twice, first in line {LAST - 1}"
    ),
    "a volume twice": Bad(
        "---\n".join((CONFIG, *CONFIG.split("---\n")[1:2])).encode(),
        f":{LAST + 2}: VolumeConfig/EPHEMERAL: this document is given twice, first in line 11",
    ),
    "twice what is carried": Bad(
        f"{CONFIG}---\n{CARRIED}---\n{CARRIED}".encode(),
        f":{LAST + 6}: ConfigMap/a: this document is given twice, first in line {LAST + 2}",
    ),
    "a directive of a patch": Bad(
        f"{CONFIG}  kubelet: {{$patch: delete}}\n".encode(),
        f":{LAST + 1}: machine.kubelet.$patch: this belongs into a patch",
        "give a patch with -p",
    ),
}
# What is read and makes no patch, or none for CONFIG.
PATCHES = {
    "nothing": Bad(b"", ":1: the patch is empty"),
    "comments": Bad(b"# nothing\n", ":1: the patch is empty"),
    "separators": Bad(b"---\nnull\n", ":1: the patch is empty"),
    "text alone": Bad(b"just words\n", ":1: neither a part of a machine config nor a list of operations"),
    "a list": Bad(b"- machine\n", ":1: an operation must be a mapping"),
    "an empty list": Bad(b"[]\n", ":1: the list of operations is empty"),
    "operations on several documents": Bad(
        b'[{"op": "add", "path": "/machine/a", "value": 1}]', ":1: JSON patches do not work on a config of several"
    ),
    "no document": Bad(b"# which one?\nname: STATE\n", ":2: this part of the patch belongs to no document"),
    "a deletion of nothing": Bad(
        b"machine:\n  nodeTaints: {$patch: delete}\n", ":2: machine.nodeTaints: there is nothing to delete"
    ),
    "another directive": Bad(b"machine:\n  type:\n    $patch: replace\n", ":3: the only $patch is delete"),
    "a list into text": Bad(b"machine:\n  type: [a]\n", ":2: machine.type: "),
    "an unknown field": Bad(
        b"apiVersion: v1alpha1\nkind: VolumeConfig\nname: STATE\nencryption: {kees: []}\n",
        ":4: VolumeConfig/STATE.encryption.kees: unknown field 'kees'",
    ),
    "another type": Bad(
        b"apiVersion: v1alpha1\nkind: VolumeConfig\nname: STATE\nencryption: {keySize: big}\n",
        ":4: VolumeConfig/STATE.encryption.keySize: must be a whole number, not text",
    ),
    "a slot twice": Bad(
        b"apiVersion: v1alpha1\nkind: VolumeConfig\nname: EPHEMERAL\nencryption:\n  keys: [{slot: 0, nodeID: {}}]\n",
        ":5: VolumeConfig/EPHEMERAL.encryption.keys[1].slot: slot 0 is given twice, first in line 17 of ",
    ),
}

Ways = dict[str, Callable[[str], tuple[str, ...]]]
TO_CONFIGS: Ways = {
    "validate": lambda file: ("validate", file),
    "apply-config": lambda file: ("apply-config", "-f", file),
    "apply-config --insecure": lambda file: ("apply-config", "--insecure", "-f", file),
    "apply-config --mode=staged": lambda file: ("apply-config", "-f", file, "--mode=staged"),
    "apply-config --mode=try": lambda file: ("apply-config", "-f", file, "--mode=try"),
    "apply-config -n": lambda file: ("-n", "there", "apply-config", "-f", file),
    "plan -f": lambda file: ("plan", "-f", file),
}
TO_PATCHES: Ways = {
    "patch -p": lambda file: ("patch", "mc", "-p", f"@{file}"),
    "patch --patch-file": lambda file: ("patch", "mc", "--patch-file", file, "--mode=try"),
    "patch -n": lambda file: ("-n", "there", "patch", "mc", "-p", TYPE, "-p", f"@{file}"),
    "apply-config -p": lambda file: ("apply-config", "-f", "good.yaml", "-p", f"@{file}"),
    "machineconfig patch": lambda file: ("machineconfig", "patch", "good.yaml", "-p", f"@{file}", "-o", "good.yaml"),
}


def _tree(*directories: Path) -> dict[str, tuple[int, bytes]]:
    """Return every file below, with its mode and content; of links what they say."""
    found = {}
    for path in (path for directory in directories for path in directory.rglob("*")):
        if path.is_symlink():
            found[str(path)] = (0, str(path.readlink()).encode())
        else:
            found[str(path)] = (path.stat().st_mode, b"" if path.is_dir() else path.read_bytes())
    return found


class Here:
    """A running node, a directory with the file that is given, and whatever was there before."""

    def __init__(self, node: RunningNode, directory: Path) -> None:
        self.node = node
        self.file = directory / "given.yaml"
        (directory / "good.yaml").write_text(CONFIG, encoding="utf-8")
        self._directories = (directory, node.bench.state.parent)

    def refused(self, bad: Bad, words: tuple[str, ...]) -> Answer:
        """Check that `words` end with one problem of the file, and that nothing was written."""
        self.file.write_bytes(bad.text)
        writes, before = len(self.node.bench.world.power.writes), _tree(*self._directories)
        answer = self.node.run(*words)
        assert answer.code == 2
        assert _tree(*self._directories) == before
        assert len(self.node.bench.world.power.writes) == writes
        assert self.node.bench.system.reboots == 0
        lines = [line for line in answer.err.splitlines() if "warning: " not in line]
        told = [line for line in lines if not re.match(r"(there:)? *hint: ", line)]
        assert len(told) == 1
        assert f"luksctl: {self.file}{bad.said}" in told[0]
        assert bad.meant in answer.err
        return answer


@pytest.fixture
def here(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Here:
    """Return a running node, reached by another name as well, with files in the current directory."""
    of_node, directory = tmp_path / "node", tmp_path / "here"
    of_node.mkdir()
    directory.mkdir()
    monkeypatch.chdir(directory)
    stand_in(monkeypatch)
    return Here(running_node(of_node, capsys, monkeypatch), directory)


@pytest.mark.parametrize("name", [*TEXTS, *CONFIGS])
def test_a_bad_config(here: Here, name: str) -> None:
    """Of every verb that takes one; as the base of a patch, too, whose lines then count from the base."""
    bad = CONFIGS.get(name) or TEXTS[name]
    for words in TO_CONFIGS.values():
        here.refused(bad, words(str(here.file)))
    if name in {"a number for machine", "nothing", "blanks", "comments", "separators", "text alone"}:
        return  # Patching has words of its own for these: see the next test.
    here.refused(bad, ("machineconfig", "patch", str(here.file), "-p", CARRIED.replace("ConfigMap", "Other")))


@pytest.mark.parametrize("text", [b"", b"  \n", b"# nothing\n", b"---\n---\n"])
@pytest.mark.parametrize("words", [("apply-config", "--insecure", "-f"), ("machineconfig", "patch")])
def test_a_patch_makes_no_config_of_nothing(here: Here, text: bytes, words: tuple[str, ...]) -> None:
    """A file that was cut short is no base: with the patch alone, every volume would be wanted plain."""
    here.refused(Bad(text, ":1: there is no document to patch", "cut to nothing"), (*words, str(here.file), "-p", TYPE))


def test_a_base_of_another_shape(here: Here) -> None:
    """What the patch cannot be merged into is named where it stands, or by the patch."""
    here.refused(Bad(b"words\n", ":1: a document must be"), ("mc", "patch", str(here.file), "-p", TYPE))
    here.file.write_text("machine: 7\n", encoding="utf-8")
    answer = here.node.run("mc", "patch", str(here.file), "-p", TYPE)
    assert (answer.code, "patch 1:1: machine: a mapping cannot be merged into a number" in answer.err) == (2, True)


@pytest.mark.parametrize("name", [*TEXTS, *PATCHES])
def test_a_bad_patch(here: Here, name: str) -> None:
    """Of every verb that takes one, whatever comes in front of it."""
    bad = PATCHES.get(name) or TEXTS[name]
    for words in TO_PATCHES.values():
        here.refused(bad, words(str(here.file)))


@pytest.mark.parametrize("name", TEXTS)
def test_a_bad_patch_while_configs_are_generated(here: Here, name: str) -> None:
    """No file is made."""
    here.refused(TEXTS[name], ("gen", "config", "--config-patch", f"@{here.file}", "-o", "new.yaml"))
    here.refused(TEXTS[name], ("gen", "config", "c", "https://c:6443", "--config-patch-worker", f"@{here.file}"))


@pytest.mark.parametrize("name", sorted({*TEXTS, *CONFIGS} - {"nothing", "blanks", "comments"}))
def test_a_bad_save(here: Here, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes back into the editor; saved again it ends the editing, and is kept in memory alone."""
    bad = CONFIGS.get(name) or TEXTS[name]
    saved = here.file.with_name("saved")
    saved.write_bytes(bad.text)
    monkeypatch.setenv("TALOS_EDITOR", f"cp {saved}")
    state, writes = _tree(here.node.bench.state), len(here.node.bench.world.power.writes)
    answer = here.node.run("edit", "machineconfig")
    assert answer.code == 2
    assert "the edited config" in answer.err
    assert _tree(here.node.bench.state) == state
    assert len(here.node.bench.world.power.writes) == writes


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_mark_in_front_and_lines_of_windows_are_no_fault(here: Here, end: str) -> None:
    """Of a config and of a patch: the config is stored with them, and the patch is merged as it is meant."""
    here.file.write_bytes(f"\ufeff{_lines(CONFIG, end=end)}".encode())
    patch = here.file.with_name("patch.yaml")
    added = _lines('  sysctls:\n    a: "1"\n', end=end)
    patch.write_bytes(f"\ufeffmachine:{end}{added}".encode())
    assert here.node.run("apply-config", "-f", str(here.file)).code == 0
    assert here.node.bench.stored() == here.file.read_bytes()
    assert here.node.run("patch", "mc", "-p", f"@{patch}").code == 0
    assert here.node.bench.stored() == here.file.read_bytes() + added.encode()


@pytest.mark.parametrize("name", ["", "nowhere/patch.yaml", "."])
def test_a_file_that_cannot_be_read(here: Here, name: str) -> None:
    """It is named, also where no name stands behind the @."""
    answer = here.node.run("patch", "mc", "-p", f"@{name}")
    assert (answer.code, f"luksctl: {name or '@'}: the config cannot be read" in answer.err) == (2, True)


@pytest.fixture
def blank(desk: Desk) -> Iterator[Desk]:
    """Return a node without any config, whose volumes are blank; at the end they must be as they were."""
    for name in ("state", "ephemeral"):
        desk.image(name, MIB)
    before = _tree(desk.directory)
    yield desk
    assert _tree(desk.directory) == before


@pytest.mark.parametrize("name", [*TEXTS, *CONFIGS])
def test_a_bad_first_config(blank: Desk, name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A node in maintenance stays there, byte for byte."""
    bad = CONFIGS.get(name) or TEXTS[name]
    given = tmp_path_factory.mktemp("given") / "given.yaml"
    given.write_bytes(bad.text)
    answer = blank.run("apply-config", "--insecure", "-f", str(given))
    assert (answer.code, f"{given}{bad.said}" in answer.err) == (2, True)
    assert blank.run("apply-config", "--insecure", "-f", str(given), "-p", encrypted()).code == 2
