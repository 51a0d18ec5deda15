"""luksctl recovery open: the key on standard output, what it is for beside it, and nothing of it anywhere else."""

from __future__ import annotations

import io
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from luksctl.providers.recovery_key import encode
from luksctl.providers.sealed_key import KeyPlace, seal_recovery_key
from luksctl.secret import Secret
from tests.cli.desk import Answer, Desk
from tests.marker import MARKER, shown_in
from tests.providers.operators import KINDS, operator

UUID = "11111111-2222-3333-4444-555555555555"


@pytest.fixture
def text() -> str:
    """Return the recovery key of these tests."""
    with Secret.take(bytes(MARKER)) as entropy, encode(entropy) as key, key.view() as view:
        return str(view, "ascii")


class Operator:
    """Files of an operator, and `open`."""

    def __init__(self, desk: Desk, kind: str = "x25519", passphrase: bytes | None = None) -> None:
        self.desk = desk
        self.identity = desk.directory / "recovery.pem"
        self.identity.write_bytes(operator(kind).private_pem(passphrase))
        self.file = desk.directory / "key.json"
        place = KeyPlace("node7", "STATE", UUID, 31)
        with Secret.take(bytes(MARKER)) as entropy, encode(entropy) as key:
            made = seal_recovery_key(key, place, operator(kind).recipient(), datetime(2026, 3, 4, tzinfo=UTC))
        self.file.write_text(json.dumps(made), encoding="utf-8")

    def open(self, *words: str, file: str | None = None) -> Answer:
        """Run the command."""
        return self.desk.run("recovery", "open", "--identity", str(self.identity), *words, file or str(self.file))


@pytest.mark.parametrize("kind", KINDS)
def test_the_key_alone_is_on_standard_output(desk: Desk, text: str, kind: str) -> None:
    """So it can be piped into whatever opens the volume; what it is for is on standard error."""
    answer = Operator(desk, kind).open()
    assert (answer.code, answer.out) == (0, f"{text}\n")
    for part in ("node: node7", "volume: STATE", f"headerUUID: {UUID}", "slot: 31", "created: 2026-03-04T00:00:00Z"):
        assert part in answer.err
    assert shown_in(answer.err, text.encode()) == []


def test_with_json_all_of_it_is_one_object(desk: Desk, text: str) -> None:
    """The same fields, and nothing on standard error."""
    answer = Operator(desk).open("--json")
    assert answer.code == 0
    assert answer.json == {
        "node": "node7",
        "volume": "STATE",
        "headerUUID": UUID,
        "slot": 31,
        "created": "2026-03-04T00:00:00Z",
        "recipient": operator("x25519").recipient().fingerprint,
        "recoveryKey": text,
    }
    assert answer.err == ""


def test_the_document_can_come_from_standard_input(desk: Desk, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dash, as everywhere."""
    who = Operator(desk)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(who.file.read_bytes())))
    assert who.open(file="-").out == f"{text}\n"


def test_a_protected_identity_opens_with_its_passphrase(desk: Desk, text: str) -> None:
    """From a descriptor; a newline at its end is not part of it."""
    who = Operator(desk, passphrase=b"correct horse")
    for given in (b"correct horse", b"correct horse\n"):
        reading, writing = os.pipe()
        os.write(writing, given)
        os.close(writing)
        answer = who.open("--passphrase-fd", str(reading))
        os.close(reading)
        assert (answer.code, answer.out) == (0, f"{text}\n")


def _failures(desk: Desk) -> dict[str, Answer]:
    """Return how each way to fail is answered, with --debug where more is said."""
    who = Operator(desk, passphrase=MARKER)
    reading, writing = os.pipe()
    os.write(writing, b"not " + MARKER)
    os.close(writing)
    answers = {"wrong passphrase": who.open("--debug", "--passphrase-fd", str(reading))}
    os.close(reading)
    answers["bad descriptor"] = who.open("--debug", "--passphrase-fd", str(reading))
    who = Operator(desk)
    answers["no document"] = who.open("--debug", file=str(who.identity))
    answers["missing"] = who.open("--debug", file=str(desk.directory / "missing.json"))
    changed = json.loads(who.file.read_bytes()) | {"slot": 3}
    who.file.write_text(json.dumps(changed), encoding="utf-8")
    answers["changed"] = who.open("--debug")
    who.identity.write_bytes(operator("x25519", "second").private_pem())
    answers["another's"] = who.open("--debug")
    who.identity.write_bytes(MARKER)
    answers["no identity"] = who.open("--debug")
    who.identity.write_bytes(b"")
    answers["empty identity"] = who.open("--debug")
    who.identity.unlink()
    answers["missing identity"] = who.open("--debug")
    return answers


def test_what_does_not_open_is_explained_without_any_key(desk: Desk, text: str) -> None:
    """13 for keys and documents, 9 for files, 64 for a descriptor; neither key nor passphrase, in --debug either."""
    answers = _failures(desk)
    assert {name: answer.code for name, answer in answers.items()} == {
        "wrong passphrase": 13,
        "bad descriptor": 64,
        "no document": 13,
        "missing": 9,
        "changed": 13,
        "another's": 13,
        "no identity": 13,
        "empty identity": 64,
        "missing identity": 9,
    }
    for name, answer in answers.items():
        assert answer.out == ""
        said = answer.out + answer.err
        assert shown_in(said) == shown_in(said, text.encode()) == [], name
        assert "a bug in luksctl" not in said


def test_the_identity_has_to_be_named(desk: Desk) -> None:
    """64, as every command line that makes no sense."""
    assert desk.run("recovery", "open", "key.json").code == 64
    assert desk.run("recovery").code == 64


def test_nothing_on_disk_holds_the_key(desk: Desk, text: str) -> None:
    """Opening writes no file."""
    who = Operator(desk)
    before = sorted(desk.directory.rglob("*"))
    assert who.open().code == 0
    assert sorted(desk.directory.rglob("*")) == before
    files = [path for path in before if path.is_file() and path.stat().st_size < 1 << 20]
    assert all(shown_in(Path(path).read_bytes(), text.encode()) == [] for path in files)
