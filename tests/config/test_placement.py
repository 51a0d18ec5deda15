"""A config and the machine that it is for."""

from __future__ import annotations

import pytest

from luksctl.config.placement import expect_bootable
from luksctl.errors import ConfigError
from luksctl.model.config import EPHEMERAL, ByLabel, Settings, VolumeSettings
from tests.config.reading import one_key, parse

KMS = "{slot: 0, kms: {endpoint: https://kms}}"


def mounted_at(path: str | None) -> Settings:
    return Settings(((EPHEMERAL, VolumeSettings(ByLabel(EPHEMERAL), path)),))


@pytest.mark.parametrize("path", ["/var", "/var/lib"])
def test_an_ephemeral_that_the_network_needs_is_not_left_to_a_kms(path: str) -> None:
    """The KMS is asked over the network, which would wait for the volume."""
    with pytest.raises(ConfigError, match=f"at {path}: there is no network") as caught:
        expect_bootable(parse(one_key(KMS)), lambda: mounted_at(path))
    assert "add a key" in str(caught.value.problems[0].hint)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (one_key(KMS), "/system/ephemeral"),
        (one_key(KMS), None),
        (one_key(f"{KMS}\n    - {{slot: 1, nodeID: {{}}}}"), "/var"),
        (one_key("{slot: 1, nodeID: {}}"), "/var"),
        (one_key(KMS, "STATE"), "/var"),
        ("machine: {}\n", "/var"),
    ],
)
def test_everything_else_boots(text: str, path: str | None) -> None:
    """Another key, another place, or no encryption at all."""
    expect_bootable(parse(text), lambda: mounted_at(path))
