"""encrypt and decrypt: refused with nothing written, left to the boot where in use, else begun at once."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from luksctl.errors import DeviceError
from luksctl.model.config import EPHEMERAL, STATE
from luksctl.model.intent import DecryptIntent, InPlaceIntent, ReencryptIntent, ReencryptKind
from tests.cli.desk import Answer
from tests.cli.in_place import DATA_BYTES, WITH_KEYS, WITHOUT_KEYS, PlainNode

REFUSED, USAGE, NEEDS_REBOOT, BUSY = 3, 64, 7, 11
ENCRYPT, DECRYPT = ("encrypt", EPHEMERAL, "--in-place"), ("decrypt", EPHEMERAL)
VERBS = pytest.mark.parametrize("words", [ENCRYPT, DECRYPT], ids=["encrypt", "decrypt"])


@pytest.fixture
def node(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> PlainNode:
    """Return a node with a plain EPHEMERAL that its config wants encrypted."""
    return PlainNode(tmp_path, capsys, monkeypatch)


def ready(node: PlainNode, words: tuple[str, ...]) -> PlainNode:
    """Have the node be one on which the verb has something to do."""
    if words is DECRYPT:
        node.encrypted()
    return node


@VERBS
def test_a_dry_run_writes_nothing(node: PlainNode, words: tuple[str, ...]) -> None:
    """It says what would be done, as text and as one object."""
    ready(node, words)
    before = node.images.bytes_of()
    shown = node.run(*words, "--dry-run")
    assert (shown.code, f"{EPHEMERAL}: {node.images.images[EPHEMERAL]}" in shown.out) == (0, True), shown.err
    document = node.run(*words, "--dry-run", "--json").json
    assert (document["dryRun"], document["volume"], document["announced"]) == (True, EPHEMERAL, False)
    assert (node.images.bytes_of(), node.intents, node.system.units) == (before, (), [])


def test_a_dry_run_of_an_encryption_shows_the_filesystem_and_the_steps(node: PlainNode) -> None:
    """Its kind, its size, that it is not shrunk, and every step in order."""
    document = node.run(*ENCRYPT, "--dry-run", "--json").json
    found = (document["filesystem"], document["filesystemBytes"], document["shrinks"])
    assert found == ("ext4", DATA_BYTES, False)
    assert [step["step"] for step in document["steps"]][:2] == ["CheckInPlace", "MakeKey"]


def refused(node: PlainNode, *words: str) -> Answer:
    """Run it twice, and expect that it touched nothing; return the answer with the one object."""
    before = node.images.bytes_of()
    as_text, answer = node.run(*words, "--yes"), node.run(*words, "--yes", "--json")
    assert as_text.code == answer.code == answer.json["exitCode"]
    assert (node.images.bytes_of(), node.intents) == (before, ())
    return answer


def test_what_becomes_of_the_data_has_to_be_said(node: PlainNode) -> None:
    """Without --in-place it could as well mean a format: usage, with both ways out."""
    answer = refused(node, "encrypt", EPHEMERAL)
    assert answer.code == USAGE
    assert "--in-place" in answer.json["hint"]
    assert "luksctl reset" in answer.json["hint"]


@pytest.mark.parametrize("words", [("encrypt", STATE, "--in-place"), ("decrypt", STATE)])
def test_state_is_refused(node: PlainNode, words: tuple[str, ...]) -> None:
    """What is on it comes back from its config."""
    answer = refused(node, *words)
    assert (answer.code, answer.json["volume"]) == (REFUSED, STATE)


def test_a_config_that_asks_for_nothing_refuses_an_encryption(node: PlainNode) -> None:
    """No key would open it."""
    node.configure(WITHOUT_KEYS)
    answer = refused(node, *ENCRYPT)
    assert (answer.code, "asks for no encryption" in answer.json["cause"]) == (REFUSED, True)


def test_a_config_that_asks_for_encryption_refuses_a_decryption(node: PlainNode) -> None:
    """The next boot would want it encrypted again."""
    ready(node, DECRYPT).configure(WITH_KEYS)
    answer = refused(node, *DECRYPT)
    assert (answer.code, "asks for its encryption" in answer.json["cause"]) == (REFUSED, True)


def test_what_is_there_already_is_refused(node: PlainNode) -> None:
    """A plain volume is not decrypted, an encrypted one not encrypted."""
    node.configure(WITHOUT_KEYS)
    assert refused(node, *DECRYPT).code == REFUSED
    node.configure(WITH_KEYS)
    ready(node, DECRYPT).configure(WITH_KEYS)
    answer = refused(node, *ENCRYPT)
    assert (answer.code, answer.json["cause"]) == (REFUSED, "it is encrypted already")


@VERBS
def test_nobody_is_there_to_confirm(node: PlainNode, words: tuple[str, ...]) -> None:
    """Without a terminal it needs --yes, also with --json."""
    ready(node, words)
    before = node.images.bytes_of()
    for more in ((), ("--json",)):
        answer = node.run(*words, *more)
        assert (answer.code, "make sure that there is a backup" in answer.err) == (USAGE, True)
    assert (node.images.bytes_of(), node.intents) == (before, ())


@VERBS
@pytest.mark.parametrize("typed", ["STATE\n", ""], ids=["another name", "end of input"])
def test_a_wrong_label_does_nothing(
    node: PlainNode, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], typed: str
) -> None:
    """It asks for the volume's name at a terminal."""
    ready(node, words)
    before = node.images.bytes_of()
    person = io.StringIO(typed)
    monkeypatch.setattr(person, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdin", person)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    answer = node.run(*words)
    assert (answer.code, f"Type {EPHEMERAL} to go on" in answer.err) == (REFUSED, True)
    assert (node.images.bytes_of(), node.intents) == (before, ())


@VERBS
def test_a_volume_in_use_is_left_to_the_boot(node: PlainNode, words: tuple[str, ...]) -> None:
    """Announced, nothing else written, told who uses it, and 7; asked again, it says what is announced."""
    ready(node, words)
    before = node.images.bytes_of(EPHEMERAL)
    node.held_by("the mount of it at /var")
    if words is DECRYPT:
        node.images.open(EPHEMERAL)
    answer = node.run(*words, "--yes")
    assert (answer.code, "is in use by" in answer.out) == (NEEDS_REBOOT, True), answer.err
    announced = node.intents
    assert isinstance(announced[0], DecryptIntent if words is DECRYPT else InPlaceIntent)
    again = node.run(*words, "--yes")
    assert (again.code, "announced already, 0 attempts so far" in again.out) == (NEEDS_REBOOT, True), again.err
    shown = node.run(*words, "--yes", "--json")
    assert (shown.code, shown.json["announced"], shown.json["rebooting"]) == (NEEDS_REBOOT, True, False)
    assert (node.images.bytes_of(EPHEMERAL), node.intents, node.system.reboots) == (before, announced, 0)


@VERBS
def test_with_reboot_the_machine_reboots_after_it_was_announced(node: PlainNode, words: tuple[str, ...]) -> None:
    """Once, only where the volume is in use, and that is the success."""
    ready(node, words).held_by("the mount of it at /var")
    if words is DECRYPT:
        node.images.open(EPHEMERAL)
    answer = node.run(*words, "--yes", "--reboot", "--json")
    assert (answer.code, answer.json["rebooting"], len(node.intents)) == (0, True, 1)
    assert node.system.reboots == 1


@VERBS
def test_a_reboot_that_does_not_begin_is_said_with_what_was_announced(
    node: PlainNode, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """One object: the error, and beside it what waits for a boot that somebody else has to begin."""
    ready(node, words).held_by("the mount of it at /var")
    if words is DECRYPT:
        node.images.open(EPHEMERAL)

    def fails() -> None:
        raise DeviceError("systemd does not answer")

    monkeypatch.setattr(node.system, "reboot", fails)
    answer = node.run(*words, "--yes", "--reboot", "--json")
    assert (answer.code, answer.json["error"], answer.json["done"]["volume"]) == (9, "DeviceError", EPHEMERAL)
    assert len(node.intents) == 1


@VERBS
@pytest.mark.parametrize("more", [(), ("--json",)], ids=["text", "json"])
def test_a_volume_nobody_uses_is_begun_at_once(node: PlainNode, words: tuple[str, ...], more: tuple[str, ...]) -> None:
    """It is open, mounted, the service goes on, and a second call is told that it has begun."""
    ready(node, words)
    answer = node.run(*words, "--yes", "--reboot", *more)
    assert answer.code == 0, answer.err
    if more:
        (volume,) = answer.json["volumes"]
        assert (volume["volume"], volume["state"]) == (EPHEMERAL, "open")
    else:
        assert f"{EPHEMERAL} is open (/dev/mapper/luks2-{EPHEMERAL})" in answer.out
    (intent,) = node.intents
    assert isinstance(intent, ReencryptIntent)
    assert intent.kind is (ReencryptKind.DECRYPT if words is DECRYPT else ReencryptKind.ENCRYPT)
    assert node.system.reboots == 0
    service, mount = node.system.units
    assert (service, mount.endswith("ephemeral.mount")) == (f"luksctl-reencrypt@{EPHEMERAL}.service", True)
    before = node.images.bytes_of()
    again = node.run(*words, "--yes", "--json")
    assert again.code == BUSY
    assert "in place" in again.json["cause"]
    assert node.images.bytes_of() == before


@VERBS
def test_it_is_not_mounted_where_nobody_wants_that(node: PlainNode, words: tuple[str, ...]) -> None:
    """Only the service is started."""
    ready(node, words)
    assert node.run(*words, "--yes", "--no-mount").code == 0
    assert node.system.units == [f"luksctl-reencrypt@{EPHEMERAL}.service"]
