"""Passphrases are taken out of a text, and nothing else is."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luksctl.config.documents import parse_machine_config
from luksctl.config.redaction import redact
from luksctl.config.template import quote
from luksctl.errors import ConfigError
from luksctl.model.config import EPHEMERAL, StaticKey
from luksctl.secret import Secret
from tests.config.reading import one_key, yaml


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("geheim # why", "REDACTED # why"),
        ('"a \\" b"   # why', '"REDACTED"   # why'),
        ("'it''s'", "'REDACTED'"),
        ("&pw geheim", "&pw REDACTED"),
        ("!!str &pw 'x'", "!!str &pw 'REDACTED'"),
        ("&pw # a comment\n          geheim", "&pw # a comment\n          REDACTED"),
        ("geheim\n          second line\n\n          third", "REDACTED"),
        ('"geheim\n          second"', '"REDACTED"'),
        ("|  # block\n          geheim\n\n          more\n\n\n", "REDACTED\n\n\n"),
        (">2-\n            geheim\n\n", "REDACTED\n\n"),
        ("1234", "REDACTED"),
        ("[a, 'b']", "[REDACTED, 'REDACTED']"),
        ("''", "''"),
        ("", ""),
    ],
)
@pytest.mark.parametrize("end", ["", "\n", "\n# end\n", "\n    - slot: 1\n      nodeID: {}\n"])
def test_every_way_to_write_a_passphrase(written: str, shown: str, end: str) -> None:
    """The scalar is replaced, in the quotes it had; anchors, tags, comments and line breaks stay."""
    head = f"# ü\n{one_key('slot: 0')}      static:\n        passphrase: "
    assert redact(f"{head}{written}{end}".encode()).decode() == f"{head}{shown}{end}"


def test_all_places_of_a_config() -> None:
    """v1alpha1, volume documents, merged and aliased keys are found; what is no secret is left alone."""
    text = yaml(
        """
        machine:
          hostname: passphrase
          systemDiskEncryption:
            state: {keys: [{slot: 0, static: {passphrase: pw-one}}]}
          base: &base {static: {passphrase: pw-two}}
          word: &word three
          addresses: {static: three}
          network: {static: {passphrase: pw-four, address: 10.0.0.1}, passphrase: five}
        ---
        kind: UserVolumeConfig
        encryption:
          keys:
            - {<<: &more {static: {passphrase: pw-two}}, slot: 1}
            - static: {passphrase: pw-six}
        """
    )
    shown = redact(text)
    for secret in (b"pw-one", b"pw-two", b"pw-four", b"pw-six"):
        assert secret not in shown
    assert b"hostname: passphrase" in shown
    assert b"passphrase: five" in shown
    assert b"address: 10.0.0.1" in shown
    assert b"three" in shown


def test_an_alias_is_redacted_where_it_is_defined() -> None:
    """The passphrase stands at the anchor, not at the alias."""
    text = "words: [&pw geheim, other]\nkeys: [{static: {passphrase: *pw}}]\n"
    assert redact(text.encode()) == b"words: [&pw REDACTED, other]\nkeys: [{static: {passphrase: *pw}}]\n"


@pytest.mark.parametrize(
    "static",
    [
        "geheim",
        "{geheim}",
        "{geheim: x}",
        "{passphrse: geheim}",
        "[geheim]",
        "{key: geheim}",
        "{<<: {passphrase: geheim}}",
    ],
)
def test_an_invalid_key_hides_its_passphrase_too(static: str) -> None:
    """Where the field is misspelled or left out, everything below static counts as passphrase."""
    assert b"geheim" not in redact(one_key(f"{{slot: 0, static: {static}}}").encode())


def test_a_text_that_is_no_yaml_is_not_shown() -> None:
    """Nobody can say where a passphrase is in it."""
    for text in (b"keys: [", b"\xff", b"a: *b\n"):
        with pytest.raises(ConfigError):
            redact(text)


def test_json_stays_json() -> None:
    """A config written as JSON can still be read as JSON."""
    text = b'{"machine":{},"keys":[{"slot":0,"static":{"passphrase":"x\\"y"}}]}'
    assert json.loads(redact(text)) == {"machine": {}, "keys": [{"slot": 0, "static": {"passphrase": "REDACTED"}}]}


def test_other_bytes_stay() -> None:
    """A byte order mark, carriage returns and characters beyond ASCII do not shift what is replaced."""
    text = "\ufeff# ümläut 🔑\r\nkeys:\r\n- static: {passphrase: 🔑🔑, a: b}\r\n# end".encode()
    assert redact(text) == text.replace("🔑🔑, a: b".encode(), b"REDACTED, REDACTED: REDACTED")
    assert redact(b"") == b""


PASSPHRASES = st.text(min_size=1, max_size=20).filter(lambda text: not any(0xD800 <= ord(c) <= 0xDFFF for c in text))


@given(PASSPHRASES)
@settings(deadline=None)
def test_what_is_redacted_reads_as_the_same_config(passphrase: str) -> None:
    """Only the passphrase differs between a config and its redaction."""
    head = f"{one_key('slot: 5')}      static:\n        passphrase: "
    text = f"{head}{quote(passphrase)}\n"
    assert redact(text.encode()).decode() == f'{head}"REDACTED"\n'
    for content, expected in ((text.encode(), passphrase), (redact(text.encode()), "REDACTED")):
        encryption = parse_machine_config(content, "x").encryption_of(EPHEMERAL)
        assert encryption is not None
        assert encryption.keys[0].source == StaticKey(Secret.take(expected.encode()))


def test_the_secrets_of_talos_are_taken_out_too() -> None:
    """Tokens, private keys and passwords of the whole file; certificates, names and everything else stay."""
    text = yaml(
        """
        machine:
          token: geheim
          ca: {crt: public, key: geheim}
          network:
            interfaces:
              - wireguard: {privateKey: geheim, peers: [{publicKey: public}]}
          registries:
            config:
              example: {auth: {username: public, password: "geheim", auth: geheim}}
        cluster:
          secret: geheim
          token: &shared geheim
          aescbcEncryptionSecret: *shared
          serviceAccount: {key: geheim}
          etcd: {ca: {crt: public, key: geheim}}
          nested: {key: public}
        """
    )
    shown = redact(text)
    assert shown == text.replace(b"geheim", b"REDACTED")
    assert shown.count(b"public") == text.count(b"public") == 6
