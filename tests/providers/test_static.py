"""The static provider gives the passphrase, and the part of it that older versions of Talos stored."""

from __future__ import annotations

import pytest

from luksctl.model.config import ConfiguredKey, NodeIdKey, StaticKey
from luksctl.providers.static import StaticProvider
from luksctl.secret import Secret


def candidates(passphrase: bytes) -> list[bytes]:
    """Return what may open a slot of `passphrase`."""
    key = ConfiguredKey(0, StaticKey(Secret.take(passphrase)))
    found = []
    for secret in StaticProvider().recover("STATE", key, None):
        with secret, secret.view() as view:
            found.append(bytes(view))
    return found


@pytest.mark.parametrize(
    ("passphrase", "expected"),
    [
        (b"one line", [b"one line"]),
        (b"first\nsecond\nthird", [b"first\nsecond\nthird", b"first"]),
        (b"ends\n", [b"ends\n", b"ends"]),
        (b"\nstarts", [b"\nstarts"]),
        (b"\n", [b"\n"]),
        (b"dos\r\nline", [b"dos\r\nline", b"dos\r"]),
    ],
)
def test_the_whole_passphrase_comes_first_then_its_first_line(passphrase: bytes, expected: list[bytes]) -> None:
    """A slot that was added with a newline holds the line only; an empty line is no key."""
    assert candidates(passphrase) == expected


def test_the_same_for_every_volume() -> None:
    """The volume's name has no part in it."""
    key = ConfiguredKey(0, StaticKey(Secret.take(b"pw")))
    assert StaticProvider().make("STATE", key).key == StaticProvider().make("EPHEMERAL", key).key
    assert StaticProvider().explain_rejection("STATE", key) is None


def test_a_key_of_another_kind_is_a_bug() -> None:
    """The registry never does it."""
    with pytest.raises(TypeError, match="nodeID"):
        StaticProvider().make("STATE", ConfiguredKey(0, NodeIdKey()))
