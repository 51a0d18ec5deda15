"""What Talos would say to a header."""

from __future__ import annotations

from typing import Any

import pytest

from luksctl.model.header import Keyslot, LuksHeader, Segment, Token
from luksctl.node import talos
from luksctl.units import KIB, MIB
from luksctl.value import replace

_XTS = "aes-xts-plain64"
_SLOT = Keyslot(0, "argon2id", 4, 32, 1, None, _XTS)
_HEADER = LuksHeader(
    uuid="11111111-2222-4333-8444-555555555555",
    label="",
    subsystem="",
    seqid=3,
    header_size_bytes=16 * KIB,
    keyslots=(_SLOT,),
    tokens=(),
    segments=(Segment(0, "crypt", _XTS, 4096, 16 * MIB),),
    digest_iterations=1000,
    requirements=(),
    flags=(),
    json="{}",
)


def test_a_volume_of_ours_is_readable() -> None:
    """argon2id slots, one segment, 16 KiB of metadata: nothing to object to."""
    assert talos.objections(_HEADER) == ()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"header_size_bytes": 64 * KIB}, "64 KiB"),
        ({"keyslots": ()}, "no keyslot"),
        ({"keyslots": (replace(_SLOT, kdf="pbkdf2", iterations=1000),)}, "slot 0 uses pbkdf2"),
        ({"keyslots": (_SLOT, replace(_SLOT, number=1, type="reencrypt"))}, "slot 1 is of type reencrypt"),
        ({"keyslots": (replace(_SLOT, area_encryption="serpent-xts-plain64"),)}, "stored with serpent"),
        ({"requirements": ("online-reencrypt-v2",)}, "re-encrypted"),
        ({"segments": (Segment(0, "crypt", "serpent-xts-plain64", 512, 16 * MIB),)}, "none of Talos' three"),
        ({"segments": (Segment(1, "crypt", _XTS, 512, 16 * MIB),)}, "other segments"),
        ({"segments": (Segment(0, "linear", _XTS, 512, 0),)}, "other segments"),
        ({"segments": (Segment(0, "crypt", _XTS, 512, 0, ("backup-final",)),)}, "flags (backup-final)"),
        ({"tokens": (Token(0, "systemd-tpm2", (0,), "{}"),)}, "token 0"),
    ],
)
def test_what_talos_refuses_is_named(changes: dict[str, Any], said: str) -> None:
    """One rule of its header validation at a time."""
    assert any(said in objection for objection in talos.objections(replace(_HEADER, **changes)))


def test_tokens_of_talos_and_tokens_elsewhere_are_fine() -> None:
    """Its own types, and any type at a number that is no keyslot's."""
    tokens = (Token(0, "sideroKMS", (), "{}"), Token(31, "luksctl", (), "{}"))
    assert talos.objections(replace(_HEADER, tokens=tokens)) == ()


def test_talos_removes_what_its_config_does_not_list() -> None:
    """Every slot in use that is not configured, in order."""
    header = replace(_HEADER, keyslots=tuple(replace(_SLOT, number=number) for number in (0, 4, 9)))
    assert talos.removes(header, {4}) == (0, 9)
    assert talos.removes(header, {0, 4, 9, 12}) == ()
