"""The file of the master key: a keyring sealed under an operator's passphrase, as JSON.

    {"kind": "luksctl-kms-key", "format": 1, "kdf": "argon2id", "memoryKiB": …, "time": …, "lanes": …, "salt": …,
     "nonce": …, "sealed": …}

The key of AES-256-GCM is Argon2id of the passphrase, and all other fields are authenticated with the content. A keyring
that is not sealed is read only as a systemd credential, which nobody but the service and root can see.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Callable

from luksctl.errors import DeviceError, Refused, SealError
from luksctl.hints import Any, Final
from luksctl.kms.keyring import Keyring, is_keyring
from luksctl.node.files import create_file, replace_file
from luksctl.secret import Secret
from luksctl.value import frozen

SHORTEST_PASSPHRASE: Final = 8
_KIND: Final = "luksctl-kms-key"
_FORMAT: Final = 1
_READING: Final = "read the master key"
_KEY_BYTES: Final = 32
_SALT_BYTES: Final = 16
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_FILE_BYTES: Final = 256 * 1024


@frozen
class Costs:
    """What Argon2id costs who knows the passphrase, and who guesses it."""

    memory_kib: int = 256 * 1024
    time: int = 4
    lanes: int = 4


# Somebody who can write the file must not be able to keep the server busy for ever, or take all of its memory.
MOST: Final = Costs(memory_kib=2 * 1024 * 1024, time=64, lanes=64)


def read_key(path: str, ask: Callable[[], Secret]) -> Keyring:
    """Return the keyring in the file; `ask` is called where it is sealed. SealError where it does not open.

    Refused for one that is not sealed and no credential either.
    """
    content = _content(path)
    with content, content.view() as view:
        if is_keyring(view):
            _expect_credential(path)
            return Keyring(Secret.take(view))
        document = bytes(view)
    with ask() as passphrase:
        return _opened(document, passphrase)


def make_key_file(path: str, keyring: Keyring, passphrase: Secret, costs: Costs | None = None) -> None:
    """Write a new sealed file; Refused where one is there. Cut: no file, or the whole one."""
    if not create_file(path, _sealed(keyring, passphrase, costs or Costs())):
        raise Refused(
            f"{path} is there already; nothing was written", hint="luksctl kms key rotate gives it another key"
        )


def replace_key_file(path: str, keyring: Keyring, passphrase: Secret, costs: Costs | None = None) -> None:
    """Write the file anew, and see that it opens first. Cut: the old file or the new one, whole.

    It stays that of the user it belongs to, so that a running server of that user reads it on SIGHUP.
    """
    content = _sealed(keyring, passphrase, costs or Costs())
    with _opened(content, passphrase) as again:
        if not again.extends(keyring):
            raise SealError("the new master key file does not open; the old one was left", operation="seal it")
    replace_file(path, content, keep_owner=True)


def expect_passphrase(passphrase: Secret) -> None:
    """Refused for a passphrase that is too short to be one."""
    if len(passphrase) < SHORTEST_PASSPHRASE:
        raise Refused(
            f"a passphrase of {len(passphrase)} bytes protects nothing; {SHORTEST_PASSPHRASE} are the least",
            hint="a file with a random one: openssl rand -base64 32",
        )


def _expect_credential(path: str) -> None:
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if directory is None or os.path.dirname(os.path.realpath(path)) != os.path.realpath(directory):
        raise Refused(
            f"{path} holds a master key that is not sealed, and is no systemd credential",
            hint="systemd-creds encrypt --name=luksctl-kms.key FILE, and LoadCredentialEncrypted= in the unit",
        )


def _content(path: str) -> Secret:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise DeviceError(f"{path}: there is no master key", hint="luksctl kms init") from error
    try:
        with Secret(_FILE_BYTES) as buffer, buffer.view() as view:
            count = 0
            while count < _FILE_BYTES and (got := os.readv(descriptor, [view[count:]])):
                count += got
            if not 0 < count < _FILE_BYTES:
                raise _damaged()
            return Secret.take(view[:count])
    finally:
        os.close(descriptor)


def _sealed(keyring: Keyring, passphrase: Secret, costs: Costs) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415  # only where a key is sealed

    salt, nonce = os.urandom(_SALT_BYTES), os.urandom(_NONCE_BYTES)
    fields: dict[str, Any] = {
        "kind": _KIND,
        "format": _FORMAT,
        "kdf": "argon2id",
        "memoryKiB": costs.memory_kib,
        "time": costs.time,
        "lanes": costs.lanes,
        "salt": base64.b64encode(salt).decode(),
        "nonce": base64.b64encode(nonce).decode(),
    }
    with _derived(passphrase, salt, costs) as key, key.view() as view, keyring.text() as text, text.view() as plain:
        sealed = AESGCM(view).encrypt(nonce, plain, _authenticated(fields))
    return json.dumps({**fields, "sealed": base64.b64encode(sealed).decode()}, indent=1).encode() + b"\n"


def _opened(document: bytes, passphrase: Secret) -> Keyring:
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415  # as above
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

    fields = _fields(document)
    sealed, salt, nonce = (_bytes(fields, name) for name in ("sealed", "salt", "nonce"))
    costs = Costs(*(_number(fields, name) for name in ("memoryKiB", "time", "lanes")))
    if len(sealed) <= _TAG_BYTES or len(nonce) != _NONCE_BYTES or len(salt) != _SALT_BYTES:
        raise _damaged()
    if costs.memory_kib > MOST.memory_kib or costs.time > MOST.time or costs.lanes > MOST.lanes:
        raise SealError("the costs in the master key file are out of bounds; nothing was run", operation=_READING)
    authenticated = _authenticated({name: value for name, value in fields.items() if name != "sealed"})
    text = Secret(len(sealed) - _TAG_BYTES)
    with _derived(passphrase, salt, costs) as key, key.view() as view, text.view() as into:
        try:
            AESGCM(view).decrypt_into(nonce, sealed, authenticated, into)
        except InvalidTag:
            raise SealError(
                "the passphrase is wrong, or the master key file was changed since it was made", operation=_READING
            ) from None
    return Keyring(text)


def _derived(passphrase: Secret, salt: bytes, costs: Costs) -> Secret:
    """Return Argon2id of the passphrase, without a copy of it that nobody wipes (RFC 9106)."""
    from argon2.low_level import ARGON2_VERSION, Type, core, error_to_str, ffi  # noqa: PLC0415  # as above

    derived = Secret(_KEY_BYTES)
    with derived.view() as out, passphrase.view() as given:
        context = ffi.new(
            "argon2_context *",
            {
                "out": ffi.from_buffer("uint8_t[]", out),
                "outlen": _KEY_BYTES,
                "pwd": ffi.from_buffer("uint8_t[]", given),
                "pwdlen": len(passphrase),
                "salt": ffi.from_buffer("uint8_t[]", salt),
                "saltlen": len(salt),
                "t_cost": costs.time,
                "m_cost": costs.memory_kib,
                "lanes": costs.lanes,
                "threads": costs.lanes,
                "version": ARGON2_VERSION,
            },
        )
        result = core(context, Type.ID.value)
        del context
    if result != 0:
        raise SealError(f"argon2id: {error_to_str(result)}", operation="derive a key from the passphrase")
    return derived


def _fields(document: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(document)
    except ValueError as error:
        raise _damaged() from error
    if not isinstance(fields, dict) or fields.get("kind") != _KIND:
        raise _damaged()
    if fields.get("format") != _FORMAT or fields.get("kdf") != "argon2id":
        raise SealError("the master key file has a form that this luksctl does not know", operation=_READING)
    return fields


def _bytes(fields: dict[str, Any], name: str) -> bytes:
    try:
        return base64.b64decode(fields.get(name, ""), validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise _damaged() from error


def _number(fields: dict[str, Any], name: str) -> int:
    value = fields.get(name)
    if type(value) is not int or value < 1:
        raise _damaged()
    return value


def _authenticated(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def _damaged() -> SealError:
    return SealError("this is no master key file, or a part of it is missing or wrong", operation=_READING)
