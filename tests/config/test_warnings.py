"""What is allowed, but told."""

from __future__ import annotations

import pytest

from tests.config.reading import one_key, parse, volume_config

STATIC = "{slot: 3, static: {passphrase: x}}"
NODE_ID = "{slot: 0, nodeID: {}}"
TPM = "{slot: 1, tpm: {}}"
UNSORTED = "{slot: 4, tpm: {options: {pcrs: [7, 1]}}}"
LOCKED = "{slot: 5, kms: {endpoint: https://h}, lockToState: true}"
DOCUMENTED = "{slot: 5, kms: {endpoint: https://h}, lockToSTATE: true}"
KMS = "{slot: 2, kms: {endpoint: https://h}}"


def _config(**volumes: str) -> str:
    return "---\n".join(volume_config(f"{{provider: luks2, keys: [{keys}]}}", name) for name, keys in volumes.items())


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (_config(STATE=f"{STATIC}, {NODE_ID}"), [("STATE, slot 3", "in clear in META")]),
        (_config(EPHEMERAL=STATIC), [("EPHEMERAL, slot 3", "STATE is not encrypted")]),
        (_config(STATE=KMS, EPHEMERAL=STATIC), []),
        (_config(STATE=f"{NODE_ID}, {TPM}", EPHEMERAL=KMS), [("STATE: ", "(nodeID and tpm) hangs on this one")]),
        (_config(EPHEMERAL=TPM), [("EPHEMERAL: ", "every key (tpm) hangs on this one machine")]),
        (_config(EPHEMERAL=f"{TPM}, {KMS}"), []),
        (_config(STATE=KMS, EPHEMERAL=LOCKED), [("EPHEMERAL: ", "every key is locked to STATE")]),
        (_config(STATE=KMS, EPHEMERAL=f"{KMS}, {LOCKED}"), []),
        (_config(EPHEMERAL=f"{KMS}, {LOCKED}"), [("EPHEMERAL, slot 5", "the salt that this key is locked to")]),
        (_config(STATE=KMS, EPHEMERAL=f"{KMS}, {DOCUMENTED}"), [("EPHEMERAL, slot 5", "is read as lockToState")]),
        (_config(STATE=KMS, ETCD=KMS), [("ETCD: ", "luksctl does not manage this volume")]),
        (_config(EPHEMERAL=f"{KMS}, {UNSORTED}"), [("EPHEMERAL, slot 4", "sorted")]),
        (_config(EPHEMERAL=KMS).replace("keys", "blockSize: 512, keys"), []),
    ],
)  # fmt: skip
def test_warnings(text: str, parts: list[tuple[str, str]]) -> None:
    """Each warning names its volume, and nothing else is warned about."""
    warnings = parse(text).warnings
    assert len(warnings) == len(parts)
    for warning, (start, part) in zip(warnings, parts, strict=True):
        assert warning.startswith(start)
        assert part in warning


def test_a_passphrase_with_a_line_break() -> None:
    """A block scalar ends with a line break, which becomes part of the passphrase; nobody sees that."""
    text = f"{one_key('slot: 0')}      static:\n        passphrase: |\n          abc\n    - {KMS}\n"
    (warning, _) = parse(text).warnings
    assert warning.startswith("EPHEMERAL, slot 0: the passphrase contains a line break")
    assert "abc" not in warning


def test_more_keys_than_the_bookkeeping_has_room_for() -> None:
    """From 31 keys on there is no spare slot; 30 keys are silent, in a header that is large enough."""
    keys = [f"{{slot: {slot}, kms: {{endpoint: https://h}}}}" for slot in range(32)]
    large = "---\napiVersion: luksctl/v1alpha1\nkind: EncryptionPolicy\ntalosReadable: false\n"
    assert parse(_config(EPHEMERAL=", ".join(keys[:30])) + large).warnings == ()
    (warning,) = parse(_config(EPHEMERAL=", ".join(keys[:31])) + large).warnings
    assert warning.startswith("EPHEMERAL: 31 keys leave no room")


def test_more_keys_than_the_header_has_room_for() -> None:
    """16 KiB, which Talos reads, hold fewer keys with tokens: said, with what to change; a few keys are silent."""
    keys = [f"{{slot: {slot}, kms: {{endpoint: https://h}}}}" for slot in range(30)]
    (warning,) = parse(_config(EPHEMERAL=", ".join(keys))).warnings
    assert warning.startswith("EPHEMERAL: 30 keys may not fit into a new header, which holds 12288 bytes")
    assert "talosReadable: false" in warning
    assert parse(_config(EPHEMERAL=", ".join(keys[:8]))).warnings == ()
