"""`luksctl kms init | node | key | unit` at the operator's desk; serving has its own tests in tests/kms."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from luksctl.cli.main import main
from luksctl.kms.room import Kms
from luksctl.kms.sqlite_nodes import SqliteNodes
from luksctl.model.kms import NodeState
from tests.cli.desk import Answer
from tests.house.tree import ROOT
from tests.kms.serving import CHEAP, NODE, OTHER, PASSPHRASE

HASH = "c351ccab198dfe5d"
ROTATED = b"the new passphrase"


class Operator:
    """Runs `luksctl kms`, with a passphrase that costs nothing to try."""

    def __init__(self, directory: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self._capture = capture

    def run(self, *words: str, passphrase: bytes | None = None, json: bool = False) -> Answer:
        """Run the words; the passphrase goes through a descriptor."""
        options: tuple[str, ...] = ("--dir", str(self.directory))
        if passphrase is not None:
            options += ("--passphrase-fd", str(_pipe(passphrase)))
        self._capture.readouterr()
        code = main((*(("--json",) if json else ()), "kms", *words, *options), kms=lambda: Kms(CHEAP))
        said = self._capture.readouterr()
        return Answer(code, said.out, said.err)

    def uuids(self, monkeypatch: pytest.MonkeyPatch, *uuids: str) -> None:
        """Type UUIDs on standard input."""
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{uuid}\n" for uuid in uuids)))


def _pipe(content: bytes) -> int:
    read, write = os.pipe()
    os.write(write, content)
    os.close(write)
    return read


@pytest.fixture
def operator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Operator:
    """Return an operator with a KMS that was just made."""
    made = Operator(tmp_path / "kms", capsys)
    assert made.run("init", passphrase=PASSPHRASE).code == 0
    return made


def test_init_makes_what_serve_needs(operator: Operator) -> None:
    """For nobody else to read, and never over what is there."""
    assert stat.S_IMODE(operator.directory.stat().st_mode) == 0o700
    assert sorted(path.name for path in operator.directory.iterdir()) == ["master.key", "nodes.db"]
    before = (operator.directory / "master.key").read_bytes()
    again = operator.run("init", passphrase=PASSPHRASE)
    assert (again.code, "there already" in again.err) == (3, True)
    assert (operator.directory / "master.key").read_bytes() == before


def test_init_says_what_it_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As an object with --json; a short passphrase makes nothing."""
    operator = Operator(tmp_path / "kms", capsys)
    assert operator.run("init", passphrase=b"short").code == 3
    assert not operator.directory.exists()
    made = operator.run("init", passphrase=PASSPHRASE, json=True).json
    assert (made["directory"], made["key"]["version"]) == (str(operator.directory), 1)


def test_nodes_are_allowed_and_revoked(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    """By UUID through standard input, or by the beginning of the hash; the list shows hashes alone."""
    assert "no node has asked yet" in operator.run("node", "list").out
    operator.uuids(monkeypatch, NODE, "", OTHER.upper())
    allowed = operator.run("node", "allow", "-", "--note", "rack 4")
    assert allowed.code == 0
    assert f"{HASH}: allowed" in allowed.out
    assert "revoked" in operator.run("node", "revoke", HASH[:8]).out
    listed = operator.run("node", "list", json=True).json["nodes"]
    assert {(node["state"], node["note"]) for node in listed} == {("allowed", "rack 4"), ("revoked", "rack 4")}
    table = operator.run("node", "list").out
    assert HASH in table
    assert not any(uuid in f"{table}{listed}{allowed.out}" for uuid in (NODE, OTHER))


def test_a_uuid_is_no_argument(operator: Operator) -> None:
    """Every process list would show it; the error does not repeat it."""
    refused = operator.run("node", "allow", NODE)
    assert (refused.code, "pipe it" in refused.err, NODE in refused.err) == (64, True, False)


@pytest.mark.parametrize("name", ["c351ccab", "c35", "nonsense", "no such node"])
def test_a_name_that_means_no_node_changes_nothing(
    operator: Operator, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Neither it nor those beside it."""
    operator.uuids(monkeypatch, NODE, name)
    assert operator.run("node", "allow", "-").code == 64
    assert operator.run("node", "list", json=True).json == {"nodes": []}


def test_a_beginning_of_several_hashes_is_none(operator: Operator) -> None:
    """Of two nodes that begin alike none is guessed."""
    store = Kms(CHEAP)
    identities = [bytes.fromhex("abcdef01" + f"{number:056x}") for number in (1, 2)]
    nodes = SqliteNodes(str(operator.directory))
    nodes.change(identities, NodeState.PENDING, 0, note=None, new_certificate=False)
    nodes.close()
    refused = operator.run("node", "allow", "abcdef01")
    assert (refused.code, "2 nodes begin with abcdef01" in refused.err) == (64, True)
    assert operator.run("node", "allow", identities[0].hex()).code == 0
    assert [node.state for node in store.nodes(str(operator.directory))].count(NodeState.ALLOWED) == 1


def test_the_master_key_is_rotated_and_sealed_anew(operator: Operator) -> None:
    """Each version is listed; the old passphrase opens until it is changed, and nothing afterwards."""
    assert "systemctl reload" in operator.run("key", "rotate", passphrase=PASSPHRASE).out
    listed = operator.run("key", "list", passphrase=PASSPHRASE, json=True).json["keys"]
    assert [version["version"] for version in listed] == [1, 2]
    changed = operator.run("key", "passphrase", "--new-passphrase-fd", str(_pipe(ROTATED)), passphrase=PASSPHRASE)
    assert changed.code == 0
    assert operator.run("key", "list", passphrase=PASSPHRASE).code == 13
    assert "2" in operator.run("key", "list", passphrase=ROTATED).out


def test_the_key_of_a_reference_server_is_imported(operator: Operator, tmp_path: Path) -> None:
    """Listed with its day, and once; a file that is none of them is told apart, and changes nothing."""
    good, wrong, empty = (tmp_path / name for name in ("good", "wrong", "empty"))
    good.write_bytes(bytes(range(32)))
    wrong.write_bytes(bytes(33))
    empty.write_bytes(b"")
    said = operator.run("key", "import", str(good), passphrase=PASSPHRASE)
    assert (said.code, "systemctl reload" in said.out) == (0, True)
    codes = [operator.run("key", "import", str(path), passphrase=PASSPHRASE).code for path in (good, wrong, empty)]
    assert codes == [3, 13, 13]
    listed = operator.run("key", "list", passphrase=PASSPHRASE, json=True).json
    assert (len(listed["keys"]), len(listed["imported"])) == (1, 1)
    assert "imported" in operator.run("key", "list", passphrase=PASSPHRASE).out
    assert operator.run("key", "import", "/nonexistent", passphrase=PASSPHRASE).code == 9


def test_a_new_passphrase_that_is_none_changes_nothing(operator: Operator) -> None:
    """The old one still opens."""
    changed = operator.run("key", "passphrase", "--new-passphrase-fd", str(_pipe(b"short")), passphrase=PASSPHRASE)
    assert changed.code == 3
    assert operator.run("key", "list", passphrase=PASSPHRASE).code == 0


def test_a_key_is_exported_into_a_pipe(operator: Operator) -> None:
    """As bytes, by a process of its own; with --json it is refused."""
    assert operator.run("key", "export", passphrase=PASSPHRASE, json=True).code == 64
    descriptor = _pipe(PASSPHRASE)
    command = (sys.executable, "-m", "luksctl", "kms", "key", "export", "--dir", str(operator.directory))
    done = subprocess.run(
        (*command, "--passphrase-fd", str(descriptor)), capture_output=True, pass_fds=[descriptor], cwd=ROOT, check=True
    )
    assert done.stdout.startswith(b"luksctl-kms-key1\x00\x01")
    assert len(done.stdout) == 62


def test_a_unit_is_printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """With this luksctl or the named one, and the options behind the two dashes."""
    monkeypatch.setattr("sys.argv", ["/opt/bin/luksctl", "kms", "unit"])
    assert main(("kms", "unit"), kms=Kms) == 0
    assert "ExecStart=/opt/bin/luksctl kms serve\n" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["-m"])
    for program, start in (
        ((), f"ExecStart={sys.executable} -I -m luksctl kms serve"),
        (("--command", "/x"), "=/x kms"),
    ):
        capsys.readouterr()
        assert main(("kms", "unit", *program, "--", "--workers", "4"), kms=Kms) == 0
        text = capsys.readouterr().out
        assert start in text
        assert "serve --workers 4\n" in text


def test_entries_without_a_kms_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    """What systemd starts on a node is no KMS."""
    assert main(("kms", "node", "list")) == 64
    assert "there is no KMS in this entry" in capsys.readouterr().err


def test_asking_for_nodes_loads_no_server(operator: Operator) -> None:
    """Neither gRPC nor the cipher: the list is there at once."""
    program = (
        "import sys; from luksctl.__main__ import kms_room; from luksctl.cli.main import main\n"
        f"code = main(('kms', 'node', 'list', '--dir', {str(operator.directory)!r}), kms=kms_room)\n"
        "sys.stderr.write(' '.join(sys.modules)); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    loaded = set(done.stderr.split())
    assert "luksctl.kms.sqlite_nodes" in loaded
    assert not {"grpc", "argon2", "asyncio", "luksctl.cryptsetup", "luksctl.wiring", "http.server"} & loaded


def test_the_kms_is_not_loaded_for_other_verbs() -> None:
    """The command line knows that it is there, and no more."""
    program = (
        "import sys; from luksctl.__main__ import kms_room; from luksctl.cli.main import main\n"
        "code = main(('status', '--help'), kms=kms_room)\n"
        "sys.stderr.write(' '.join(sys.modules)); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    assert not [name for name in done.stderr.split() if name.startswith(("luksctl.kms", "sqlite3", "grpc"))]
