"""`luksctl gen config`: a commented machine config to start from."""

from __future__ import annotations

import os
import secrets
from argparse import Namespace
from collections.abc import Sequence

from luksctl.cli.context import Context
from luksctl.cli.parser import Parser
from luksctl.config.spelling import did_you_mean
from luksctl.config.template import DEFAULT_KMS_ENDPOINT, generate_machine_config
from luksctl.errors import DeviceError, Refused, UsageError
from luksctl.hints import Final
from luksctl.model.config import KeyKind

_PASSPHRASE_BYTES: Final = 32
_DEFAULT_KEYS: Final = (KeyKind.NODE_ID.value, KeyKind.STATIC.value)


def configure(parser: Parser) -> None:
    """Add the options of the verb."""
    config = parser.add_command("config", text="a commented machine config to start from")
    kinds = ", ".join(KeyKind)
    config.add_list(
        "keys",
        metavar="KIND,…",
        text=f"kinds of key, slot 0 first: {kinds} (default: {','.join(_DEFAULT_KEYS)})",
        default=_DEFAULT_KEYS,
    )
    config.add_argument(
        "--kms-endpoint", metavar="URL", default=DEFAULT_KMS_ENDPOINT, help="where the key management service is"
    )
    config.add_argument(
        "-o", "--output", metavar="FILE", help="write it there, readable by its owner alone; never over another file"
    )


def run(arguments: Namespace, context: Context) -> int:
    """Generate the config; a static passphrase is made here and stands nowhere but in it."""
    kinds = _kinds(arguments.keys)
    passphrase = secrets.token_urlsafe(_PASSPHRASE_BYTES) if KeyKind.STATIC in kinds else None
    text = generate_machine_config(kinds, passphrase=passphrase, kms_endpoint=arguments.kms_endpoint)
    path: str | None = arguments.output
    console = context.console
    if path is None:
        console.document({"config": text.decode()})
        if not console.json:
            console.raw(text)
        return 0
    _write(path, text)
    console.say(f"{path}: written; edit it, then: luksctl validate {path}")
    console.document({"file": path, "keys": [kind.value for kind in kinds]})
    return 0


def _kinds(words: Sequence[str]) -> tuple[KeyKind, ...]:
    known = {kind.value: kind for kind in KeyKind}
    for word in words:
        if word not in known:
            raise UsageError(
                f"unknown kind of key {word!r}", hint=did_you_mean(word, known) or f"one of {', '.join(known)}"
            )
    return tuple(known[word] for word in words)


def _write(path: str, text: bytes) -> None:
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise Refused(f"{path} exists; nothing was written", hint="name another file, or remove this one") from error
    except OSError as error:
        raise DeviceError(f"{path} cannot be made: {error.strerror}") from error
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
