"""The config that `gen config` writes is valid and means what was asked for."""

from __future__ import annotations

from itertools import permutations

import pytest

from luksctl.config.documents import parse_machine_config
from luksctl.config.template import DEFAULT_KMS_ENDPOINT, generate_machine_config
from luksctl.errors import UsageError
from luksctl.model.config import (
    EPHEMERAL,
    STATE,
    EncryptionPolicy,
    Filesystem,
    KeyKind,
    KmsKey,
    NodeIdKey,
    StaticKey,
    TpmKey,
)
from luksctl.secret import Secret

AWKWARD = "a\"b\\c: #\n\t'ü🔑\x7f"


@pytest.mark.parametrize("kinds", [kinds for count in range(1, 5) for kinds in permutations(KeyKind, count)])
def test_every_choice_of_keys(kinds: tuple[KeyKind, ...]) -> None:
    """Both volumes get one key of each kind, slots in the order asked for."""
    text = generate_machine_config(kinds, passphrase=AWKWARD)
    config = parse_machine_config(text, "machine.yaml")
    assert [volume for volume, _ in config.encryption] == [STATE, EPHEMERAL]
    for _, encryption in config.encryption:
        assert [(key.slot, key.kind) for key in encryption.keys] == list(enumerate(kinds))
        for source in (key.source for key in encryption.keys):
            match source:
                case StaticKey(passphrase):
                    assert passphrase == Secret.take(AWKWARD.encode())
                case KmsKey(endpoint):
                    assert endpoint == DEFAULT_KMS_ENDPOINT
                case TpmKey(pcrs):
                    assert pcrs == (7,)
                case NodeIdKey():
                    pass


def test_the_policy_spells_out_the_defaults() -> None:
    """Leaving the generated policy out would change nothing."""
    config = parse_machine_config(generate_machine_config([KeyKind.NODE_ID]), "machine.yaml")
    xfs = ((STATE, Filesystem.XFS), (EPHEMERAL, Filesystem.XFS))
    assert config.policy == EncryptionPolicy(filesystems=xfs)


def test_the_endpoint_can_be_given() -> None:
    """The KMS endpoint is the caller's, quoted as it must be."""
    text = generate_machine_config([KeyKind.KMS], kms_endpoint="https://[fe80::1]:4050")
    assert b'endpoint: "https://[fe80::1]:4050"' in text
    assert parse_machine_config(text, "machine.yaml").warnings == ()


@pytest.mark.parametrize(
    ("kinds", "passphrase"),
    [([], None), ([KeyKind.STATIC], None), ([KeyKind.STATIC], ""), ([KeyKind.TPM, KeyKind.TPM], None)],
)
def test_a_choice_that_makes_no_sense(kinds: list[KeyKind], passphrase: str | None) -> None:
    """No key, a key twice and a static key without a passphrase are usage errors."""
    with pytest.raises(UsageError):
        generate_machine_config(kinds, passphrase=passphrase)
