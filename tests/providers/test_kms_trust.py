"""The certificate authorities that count: those of the distribution and of the config, and nobody else's."""

from __future__ import annotations

from pathlib import Path

import pytest

from luksctl.errors import KmsUnavailable
from luksctl.providers.kms_trust import publish, trusted_roots

ONE = "-----BEGIN CERTIFICATE-----\none\n-----END CERTIFICATE-----\n"
TWO = "-----BEGIN CERTIFICATE-----\ntwo\n-----END CERTIFICATE-----"


def test_the_distributions_bundle_and_the_configs_are_one(tmp_path: Path) -> None:
    """The first bundle that is there, then what the config adds, each on lines of its own."""
    bundle = tmp_path / "bundle"
    bundle.write_text(TWO)
    assert trusted_roots((ONE, TWO), (str(tmp_path / "none"), str(bundle), "/etc/passwd")) == (
        f"{TWO}\n{ONE}{TWO}\n".encode()
    )


def test_nobody_to_trust_is_an_error(tmp_path: Path) -> None:
    """The library would go by a list of its own."""
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(KmsUnavailable, match="no certificate authority"):
        trusted_roots((), (str(tmp_path / "empty"), str(tmp_path)))


def test_the_bundle_is_left_to_look_at(tmp_path: Path) -> None:
    """Everybody may read it, and it is replaced as a whole."""
    publish(str(tmp_path), b"first")
    publish(str(tmp_path), b"second")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("kms-roots.pem", b"second")]
    assert (tmp_path / "kms-roots.pem").stat().st_mode & 0o777 == 0o644
