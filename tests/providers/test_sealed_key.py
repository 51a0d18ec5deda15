"""The document that leaves the node: opens on the operator's side only, only as it was made, and shows nothing."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import textwrap
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from luksctl.errors import SealError
from luksctl.providers.recipient import read_identity, seal
from luksctl.providers.recovery_key import encode
from luksctl.providers.sealed_key import KeyPlace, open_sealed_key, read_sealed_key, seal_recovery_key
from luksctl.secret import Secret
from tests.house.tree import ROOT
from tests.marker import MARKER, shown_in
from tests.providers.operators import KINDS, nobody_asks, operator

PLACE = KeyPlace("node7", "STATE", "11111111-2222-3333-4444-555555555555", 31)
NOON = datetime(2026, 3, 4, 13, 5, 6, 7, timezone(timedelta(hours=1)))


def content(secret: Secret) -> bytes:
    """Return the bytes of `secret`, and close it."""
    with secret, secret.view() as view:
        return bytes(view)


def marker_key() -> Secret:
    """Return the recovery key whose 32 bytes are the marker."""
    with Secret.take(bytes(MARKER)) as entropy:
        return encode(entropy)


def document(kind: str = "x25519") -> dict[str, Any]:
    """Return a document for the first operator with a key of `kind`, as a reader parses it."""
    with marker_key() as key:
        parsed: dict[str, Any] = json.loads(json.dumps(seal_recovery_key(key, PLACE, operator(kind).recipient(), NOON)))
    return parsed


def opened(fields: dict[str, Any], kind: str = "x25519") -> bytes:
    """Return the key in the document, opened by the first operator."""
    return content(open_sealed_key(read_sealed_key(json.dumps(fields).encode()), operator(kind).identity()))


@pytest.mark.parametrize("kind", KINDS)
def test_the_operator_gets_the_text_of_the_keyslot(kind: str) -> None:
    """And reads which node, volume and slot it is for, and when it was made, in UTC."""
    fields = document(kind)
    assert opened(fields, kind) == content(marker_key())
    read = read_sealed_key(json.dumps(fields).encode())
    assert read.place == PLACE
    assert read.created == "2026-03-04T12:05:06Z"
    assert read.recipient == operator(kind).recipient().fingerprint


def test_the_document_has_the_fields_of_the_page() -> None:
    """docs/recovery.md lists them, and the names of the algorithms."""
    page = (ROOT / "docs" / "recovery.md").read_text(encoding="utf-8")
    for kind in KINDS:
        fields = document(kind)
        assert all(f"| `{name}` |" in page for name in fields)
        assert f"`{fields['algorithm']}`" in page


@pytest.mark.parametrize("kind", KINDS)
def test_the_document_shows_nothing_of_the_key(kind: str) -> None:
    """As JSON, as the value that was read, and the sealed bytes themselves."""
    text = json.dumps(document(kind))
    shown = f"{text} {read_sealed_key(text.encode())!r}"
    with marker_key() as key, key.view() as view:
        assert shown_in(shown) == shown_in(shown, bytes(view)) == []
        assert shown_in(base64.b64decode(document(kind)["sealed"]), bytes(view)) == []


@pytest.mark.parametrize("kind", KINDS)
def test_documents_that_are_out_open_for_ever(kind: str) -> None:
    """Made once, kept beside this file: neither a later luksctl nor a later cryptography may read them otherwise."""
    known = ROOT / "tests" / "providers" / "known"
    with Secret.take((known / f"{kind}.pem").read_bytes()) as text:
        identity = read_identity(text, nobody_asks)
    read = read_sealed_key((known / f"{kind}.json").read_bytes())
    with Secret.take(bytes(range(32))) as entropy:
        assert content(open_sealed_key(read, identity)) == content(encode(entropy))
    assert read.place == PLACE


CHANGES = {
    "version": 2,
    "node": "node8",
    "volume": "EPHEMERAL",
    "headerUUID": "11111111-2222-3333-4444-555555555556",
    "slot": 30,
    "created": "2026-03-04T12:05:07Z",
    "recipient": "sha256:00",
    "algorithm": "RSA-OAEP-SHA256-CHACHA20-POLY1305",
    "kind": "luksctl-recovery",
    "sealed": base64.b64encode(bytes(125)).decode(),
}


def test_every_field_is_changed_in_the_next_test() -> None:
    """A new field has to be authenticated as well."""
    assert set(CHANGES) == set(document())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", list(CHANGES))
def test_a_changed_field_does_not_open(name: str, kind: str) -> None:
    """Each of them, for each kind of key, and no error shows the key."""
    changed = "HPKE-other" if name == "algorithm" and kind == "rsa" else CHANGES[name]
    with pytest.raises(SealError) as caught:
        opened(document(kind) | {name: changed}, kind)
    assert shown_in(f"{caught.value!r} {caught.value} {caught.value.fields()} {caught.value.__context__!r}") == []


@pytest.mark.parametrize("name", list(CHANGES))
@pytest.mark.parametrize("wrong", [None, 7.5, True, [], {"a": 1}])
def test_a_field_of_another_type_is_told(name: str, wrong: object) -> None:
    """Missing ones too; it is never a bug."""
    without = {key: value for key, value in document().items() if key != name}
    for fields in (document() | {name: wrong}, without):
        with pytest.raises(SealError, match=f"field {name}|no sealed recovery key|version"):
            opened(fields)


def test_an_added_field_does_not_open() -> None:
    """Nothing can be slipped in beside what was authenticated."""
    with pytest.raises(SealError, match="does not open"):
        opened(document() | {"comment": "trust me"})


def test_the_order_of_fields_and_blanks_do_not_matter() -> None:
    """A document that somebody formatted still opens; a name that is not ASCII too."""
    with marker_key() as key:
        place = KeyPlace("knöten\u2028\ud83d\ude00", "STATE", PLACE.header_uuid, 0)
        fields = seal_recovery_key(key, place, operator("x25519").recipient(), NOON)
    text = json.dumps(dict(reversed(fields.items())), indent=7, ensure_ascii=True).encode()
    assert content(open_sealed_key(read_sealed_key(text), operator("x25519").identity())) == content(marker_key())


@pytest.mark.parametrize("kind", KINDS)
def test_another_operator_is_told_whose_it_is(kind: str) -> None:
    """Both fingerprints, the volume and the slot, before anything is decrypted."""
    read = read_sealed_key(json.dumps(document(kind)).encode())
    other = operator(kind, "second").identity()
    with pytest.raises(SealError) as caught:
        open_sealed_key(read, other)
    assert str(caught.value).startswith("STATE, slot 31: open the sealed key: it was encrypted to another key: sha256:")
    assert read.recipient in str(caught.value)
    assert other.fingerprint in str(caught.value)


@pytest.mark.parametrize(
    "text", [b"", b"\xff", b"{", b"null", b"[]", b'"x"', b"{}", b'{"kind": "other"}', b"[" * 100_000, b"1" * 5000]
)
def test_what_is_no_such_document_is_refused(text: bytes) -> None:
    """Hostile ones too."""
    with pytest.raises(SealError, match=r"no JSON|no sealed recovery key"):
        read_sealed_key(text)


def test_a_document_that_holds_something_else_is_refused() -> None:
    """Anyone can encrypt to a public key: what comes out is not shown unless it is a recovery key."""
    fields = {name: value for name, value in document().items() if name != "sealed"}
    context = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
    with Secret.take(bytes(MARKER)) as plain:
        sealed = seal(operator("x25519").recipient(), plain, context)
    with pytest.raises(SealError, match="no recovery key") as caught:
        opened(fields | {"sealed": base64.b64encode(sealed).decode()})
    shown = f"{caught.value!r} {caught.value} {caught.value.__cause__!r} {caught.value.__context__!r}"
    assert shown_in(shown) == []


@pytest.mark.parametrize("kind", KINDS)
def test_it_opens_without_luksctl(kind: str, tmp_path: Path) -> None:
    """The script of docs/recovery.md does it, with Python and cryptography alone."""
    page = (ROOT / "docs" / "recovery.md").read_text(encoding="utf-8")
    script = textwrap.dedent("    import base64" + page.partition("    import base64")[2])
    (tmp_path / "key.json").write_text(json.dumps(document(kind)), encoding="utf-8")
    (tmp_path / "key.pem").write_bytes(operator(kind).private_pem())
    command = [sys.executable, "-I", "-c", script, str(tmp_path / "key.json"), str(tmp_path / "key.pem")]
    done = subprocess.run(command, capture_output=True, check=True)
    assert done.stdout == content(marker_key()) + b"\n"
