"""luksctl keys rotate: what it asks for, what it prints, and what it says where it cannot."""

from __future__ import annotations

import os
import re

import pytest

from luksctl.cli.keys import _ask
from luksctl.errors import UsageError
from tests.cli import terminals
from tests.cli.desk import PASSPHRASE, Desk, encrypted
from tests.cli.test_recovery_keys import FORM
from tests.providers.operators import operator
from tests.providers.stock import opens


@pytest.fixture
def adopted(desk: Desk) -> Desk:
    """Return a machine whose EPHEMERAL is ours, with one static key."""
    desk.format("ephemeral", slots={0: PASSPHRASE})
    desk.write_config(encrypted())
    assert desk.run("adopt", "EPHEMERAL").code == 0
    return desk


def test_a_recovery_key_is_shown_as_when_it_was_added(adopted: Desk) -> None:
    """The new one alone on standard output; the old one is told to be gone, and opens nothing."""
    old = adopted.run("recovery", "add", "EPHEMERAL").out
    answer = adopted.run("keys", "rotate", "EPHEMERAL", "--slot", "30")
    assert answer.code == 0, answer.err
    assert FORM.fullmatch(answer.out)
    assert "the recovery key of slot 30 is gone" in answer.err
    assert opens(adopted.path("ephemeral"), answer.out.strip().encode())
    assert not opens(adopted.path("ephemeral"), old.strip().encode())
    again = adopted.run("--json", "keys", "rotate", "EPHEMERAL", "--slot", "29")
    assert again.json["slot"] == 30


def test_what_cannot_be_rotated_says_what_to_type(adopted: Desk) -> None:
    """One hint each, and no byte is written."""
    before = adopted.bytes_of("ephemeral", "state")
    for words, code, hint in (
        (("EPHEMERAL",), 3, "luksctl keys rotate VOLUME --slot N"),
        ((), 3, "luksctl keys rotate VOLUME --slot N"),
        (("EPHEMERAL", "--slot", "0"), 3, "luksctl apply-config -f FILE"),
        (("EPHEMERAL", "--slot", "17"), 3, "luksctl status EPHEMERAL"),
        (("--slot", "0"), 64, "luksctl keys rotate VOLUME --slot N"),
        (("SOMETHING", "--slot", "0"), 64, "the volumes are STATE and EPHEMERAL"),
    ):
        answer = adopted.run("--json", "keys", "rotate", *words)
        assert (answer.code, re.search(re.escape(hint), answer.json["hint"]) is not None) == (code, True), words
    assert adopted.bytes_of("ephemeral", "state") == before


def test_a_passphrase_comes_from_a_descriptor_once() -> None:
    """One newline at its end is not part of it."""
    reader, writer = os.pipe()
    os.write(writer, b"correct horse\n")
    os.close(writer)
    with _ask("New passphrase", reader) as passphrase, passphrase.view() as view:
        assert bytes(view) == b"correct horse"
    os.close(reader)


@pytest.mark.parametrize(("again", "same"), [(b"correct horse\n", True), (b"correct hose\n", False)])
def test_at_a_terminal_it_is_typed_twice(
    terminal: tuple[int, str], monkeypatch: pytest.MonkeyPatch, again: bytes, *, same: bool
) -> None:
    """A slip would be a passphrase that nobody knows."""
    person, name = terminal
    monkeypatch.setattr("luksctl.cli.keys.TERMINAL", name)
    typist = terminals.Typist(person, [b"correct horse\n", again])
    typist.start()
    if same:
        with _ask("New passphrase", None) as passphrase, passphrase.view() as view:
            assert bytes(view) == b"correct horse"
    else:
        with pytest.raises(UsageError, match="differ"):
            _ask("New passphrase", None)
    assert b"correct" not in typist.whole_screen()


@pytest.mark.parametrize("words", [("EPHEMERAL", "--slot", "30"), ("EPHEMERAL", "--slot", "17"), ("EPHEMERAL",), ()])
def test_a_passphrase_is_for_a_static_key_alone(adopted: Desk, words: tuple[str, ...]) -> None:
    """Who gives one to a recovery key, to no key, or to all of them, would believe that it opens the volume now."""
    adopted.run("recovery", "add", "EPHEMERAL")
    before = adopted.bytes_of("ephemeral", "state")
    answer = adopted.run("--json", "keys", "rotate", *words, "--key-fd", "4000")
    assert (answer.code, "none is asked for" in answer.json["cause"]) == (64, True)
    assert adopted.bytes_of("ephemeral", "state") == before


@pytest.mark.parametrize("words", [("EPHEMERAL", "--slot", "0"), ("EPHEMERAL",), ()])
def test_a_recipient_is_for_recovery_keys_alone(adopted: Desk, words: tuple[str, ...]) -> None:
    """Who names one waits for a document that would not come; nobody is asked for a passphrase first."""
    public = adopted.directory / "operator.pub"
    public.write_bytes(operator("x25519").public_pem())
    before = adopted.bytes_of("ephemeral", "state")
    answer = adopted.run("--json", "keys", "rotate", *words, "--recipient", str(public))
    assert answer.code == 64
    assert "this makes none" in answer.json["cause"]
    assert adopted.bytes_of("ephemeral", "state") == before
