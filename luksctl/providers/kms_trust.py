"""Whom a node believes that it is the KMS: the distribution's certificate authorities and those of the config."""

from __future__ import annotations

import os
from collections.abc import Iterable

from luksctl.errors import KmsReason
from luksctl.hints import Final
from luksctl.providers.kms_errors import unavailable

# Debian and Talos, Red Hat, SUSE, Alpine.
BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
BUNDLE_NAME: Final = "kms-roots.pem"
_BEGIN: Final = b"-----BEGIN CERTIFICATE-----"


def trusted_roots(added: Iterable[str], bundles: tuple[str, ...] = BUNDLES) -> bytes:
    """Return one bundle of the first distribution's bundle there is and the PEM texts in `added`.

    KmsUnavailable where that is nobody: gRPC would go by a list of its own.
    """
    parts = [part for part in (_first(bundles), *(text.encode() for text in added)) if part]
    bundle = b"".join(part if part.endswith(b"\n") else part + b"\n" for part in parts)
    if _BEGIN not in bundle:
        sought = ", ".join(bundles) or "nothing"
        cause = f"there is no certificate authority to judge the KMS by: {sought} has none, nor has the config"
        raise unavailable(KmsReason.NO_FILE, cause)
    return bundle


def publish(directory: str, bundle: bytes) -> None:
    """Leave the bundle in `directory` for people with other tools to look at; nothing here reads it again.

    Cut: the old file or the new one, on a filesystem that forgets it anyway.
    """
    path = os.path.join(directory, BUNDLE_NAME)
    new = f"{path}.{os.getpid()}"
    with open(new, "wb", opener=_private) as target:
        target.write(bundle)
    os.replace(new, path)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)


def _first(paths: tuple[str, ...]) -> bytes:
    for path in paths:
        try:
            with open(path, "rb") as source:
                return source.read()
        except OSError:
            continue  # whether there is any at all, the caller judges
    return b""
