"""The examples are valid and say what the docs say of them."""

from __future__ import annotations

from pathlib import Path

from luksctl.config.documents import parse_machine_config
from luksctl.config.settings import parse_settings
from luksctl.model.config import EPHEMERAL, STATE, KdfCost, KeyKind, Settings

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_machine_yaml() -> None:
    """Both volumes have a nodeID key in slot 0 and a static key in slot 1; the KDF fits a small machine."""
    path = EXAMPLES / "machine.yaml"
    config = parse_machine_config(path.read_bytes(), str(path))
    for volume in (STATE, EPHEMERAL):
        encryption = config.encryption_of(volume)
        assert encryption is not None
        assert [(key.slot, key.kind) for key in encryption.keys] == [(0, KeyKind.NODE_ID), (1, KeyKind.STATIC)]
    assert config.policy.kdf == KdfCost(time=4, memory_kib=32 * 1024, threads=1)
    assert [warning.partition(":")[0] for warning in config.warnings] == ["STATE, slot 1"]


def test_luksctl_yaml() -> None:
    """The example settings are the defaults."""
    path = EXAMPLES / "luksctl.yaml"
    assert parse_settings(path.read_bytes(), Settings().path) == Settings()
