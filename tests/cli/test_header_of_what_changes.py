"""luksctl header backup of a volume that is on its way to another header, or to none: refused, with the reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from luksctl.model.config import EPHEMERAL, STATE
from luksctl.model.intent import DecryptIntent, InPlaceIntent, ReencryptIntent, ReencryptKind, ResetIntent
from luksctl.node.attempts import drop_intent
from luksctl.node.in_place import announce, announce_decryption, look_at, look_at_encrypted
from luksctl.node.reencrypt import Options, begin, go_on
from luksctl.node.sync import adopt
from tests.cli.in_place import WITH_KEYS, PlainNode
from tests.cryptsetup.forging import forge_json
from tests.providers.stock import opens

REFUSED = 3


@pytest.fixture
def node(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> PlainNode:
    """Return a node with a plain EPHEMERAL that its config wants encrypted."""
    return PlainNode(tmp_path, capsys, monkeypatch)


def to_be_erased(node: PlainNode) -> None:
    """Announce a reset of an encrypted volume; header and keys are still there."""
    node.encrypted()
    intent = ResetIntent(EPHEMERAL, str(node.images.images[EPHEMERAL].resolve()))
    node.images.node.ports.meta.update_record(lambda record: record.with_intent(intent))


def to_be_encrypted(node: PlainNode) -> None:
    """Announce its encryption."""
    announce(node.images.node, look_at(node.images.node, EPHEMERAL))
    assert isinstance(node.intents[0], InPlaceIntent)


def being_encrypted(node: PlainNode) -> None:
    """Begin its encryption: the header is placed, and one part of the data after the other follows."""
    assert node.run("encrypt", EPHEMERAL, "--in-place", "--yes").code == 0
    assert isinstance(node.intents[0], ReencryptIntent)


def to_be_decrypted(node: PlainNode) -> None:
    """Announce its decryption: the header is still on the device."""
    node.encrypted()
    announce_decryption(node.images.node, look_at_encrypted(node.images.node, EPHEMERAL))
    assert isinstance(node.intents[0], DecryptIntent)


def being_decrypted(node: PlainNode) -> None:
    """Begin its decryption: the header is in a file in STATE, and data where it was."""
    node.encrypted()
    assert node.run("decrypt", EPHEMERAL, "--yes").code == 0
    intent = node.intents[0]
    assert isinstance(intent, ReencryptIntent)
    assert intent.kind is ReencryptKind.DECRYPT


def being_reencrypted(node: PlainNode) -> None:
    """Begin to give it a new volume key."""
    node.encrypted()
    node.configure(WITH_KEYS)
    adopt(node.images.node, EPHEMERAL)
    begin(node.images.node, EPHEMERAL, Options(), lambda _: None, lambda *_: None)
    assert isinstance(node.intents[0], ReencryptIntent)


def reencrypted_by_others(node: PlainNode) -> None:
    """Have the header say so, and META know nothing."""
    node.encrypted()
    requirement = {"mandatory": ["online-reencrypt-v2"]}
    image = str(node.images.images[EPHEMERAL])
    forge_json(image, lambda document: document["config"].update(requirements=requirement))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (to_be_erased, "its reset is announced, and a backup would undo it"),
        (to_be_encrypted, "it is being encrypted in place"),
        (being_encrypted, "it is being encrypted in place"),
        (to_be_decrypted, "it is being decrypted in place"),
        (being_decrypted, "it is being decrypted in place"),
        (being_reencrypted, "it is being re-encrypted, and a header saved now would destroy data"),
        (reencrypted_by_others, "somebody else re-encrypts it"),
    ],
)
def test_no_header_is_saved_that_must_not_come_back(
    node: PlainNode, tmp_path: Path, change: Callable[[PlainNode], None], why: str
) -> None:
    """No file is left, nothing is changed, and the reason is said."""
    change(node)
    before, file = node.images.bytes_of(), tmp_path / "backup"
    answer = node.run("header", "backup", EPHEMERAL, "--unencrypted", "--to", str(file), "--json")
    assert (answer.code, why in answer.json["cause"]) == (REFUSED, True), answer.err
    assert not file.exists()
    assert node.images.bytes_of() == before
    assert node.run("header", "backup", STATE, "--unencrypted", "--to", str(file)).code == 0


def test_before_and_after_it_is_saved(node: PlainNode, tmp_path: Path) -> None:
    """What was announced and taken back leaves the header as it was; what has ended, the one that belongs to the data.

    The one from before is refused then.
    """
    to_be_decrypted(node)
    drop_intent(node.images.node, EPHEMERAL)
    before, after = tmp_path / "before", tmp_path / "after"
    words = ("header", "backup", EPHEMERAL, "--unencrypted", "--to")
    assert node.run(*words, str(before)).code == 0
    node.configure(WITH_KEYS)
    adopt(node.images.node, EPHEMERAL)
    begin(node.images.node, EPHEMERAL, Options(), lambda _: None, lambda *_: None)
    assert go_on(node.images.node, EPHEMERAL) is ReencryptKind.RENEW
    assert node.run(*words, str(after)).code == 0
    image = node.images.images[EPHEMERAL]
    refused = node.run("header", "restore", EPHEMERAL, "--from", str(before), "--yes", "--older")
    assert (refused.code, "another volume key" in refused.err) == (REFUSED, True)
    assert node.run("header", "restore", EPHEMERAL, "--from", str(after), "--yes").code == 0
    assert opens(image, b"a passphrase for tests")
