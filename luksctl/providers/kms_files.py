"""Read what the policy names by path: certificate authorities, and what the node shows the KMS."""

from __future__ import annotations

from luksctl.errors import KmsReason, KmsUnavailable
from luksctl.hints import Final
from luksctl.model.config import KmsPolicy
from luksctl.model.meta import KmsAccess
from luksctl.secret import Secret

_LONGEST_BYTES: Final = 1 << 20
_VISIBLE: Final = range(0x21, 0x7F)


def read_access(policy: KmsPolicy) -> KmsAccess:
    """Return what `policy` says with the content of its files; KmsUnavailable where one cannot be read or used."""
    return KmsAccess(
        alternatives=policy.alternatives,
        roots=(*policy.roots, *(_text(path) for path in policy.ca_files)),
        certificate=None if policy.client_certificate is None else _text(policy.client_certificate),
        private_key=None if policy.client_key is None else _secret(policy.client_key),
        token=None if policy.token_file is None else _token(policy.token_file),
        allow_plaintext=policy.allow_plaintext,
        note=policy.network,
        clock_wait_s=policy.clock_wait_s,
    )


def _text(path: str) -> str:
    try:
        return _content(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise _unusable(path, "is no text") from error


def _secret(path: str) -> Secret:
    content = _content(path)
    if not content:
        raise _unusable(path, "is empty")
    return Secret.take(content)


def _token(path: str) -> Secret:
    """Return the token without the line break that editors leave behind it."""
    content = _content(path)
    stripped = bytearray(content.strip())
    content[:] = bytes(len(content))
    if not stripped or any(byte not in _VISIBLE for byte in stripped):
        stripped[:] = bytes(len(stripped))
        raise _unusable(path, "holds no token: one word of visible ASCII characters")
    return Secret.take(stripped)


def _content(path: str) -> bytearray:
    try:
        with open(path, "rb", buffering=0) as source:
            content = bytearray(_LONGEST_BYTES)
            size = source.readinto(content) or 0
    except OSError as error:
        raise _unusable(path, f"cannot be read: {error.strerror}") from error
    if size == _LONGEST_BYTES:
        raise _unusable(path, "is far too large")
    found = bytearray(content[:size])
    content[:size] = bytes(size)
    return found


def _unusable(path: str, why: str) -> KmsUnavailable:
    hint = "the kms block of the EncryptionPolicy names it; before STATE is open, META has a copy"
    return KmsUnavailable(f"{path} {why}", reason=KmsReason.NO_FILE, hint=hint)
