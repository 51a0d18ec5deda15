"""`luksctl recovery open`: what an operator does with a recovery key that a node encrypted to them."""

from __future__ import annotations

import sys
from argparse import Namespace

from luksctl.cli.context import Context
from luksctl.cli.parser import Parser
from luksctl.cli.secret_input import read_file, read_passphrase
from luksctl.providers.recipient import read_identity
from luksctl.providers.sealed_key import SealedKey, open_sealed_key, read_sealed_key


def configure(parser: Parser) -> None:
    """Add the options of the verb."""
    opening = parser.add_command("open", text="show a recovery key that was encrypted to your public key")
    opening.add_argument("file", metavar="FILE", help="the JSON document that the node made; - for standard input")
    opening.add_argument("--identity", metavar="FILE", required=True, help="your private key, in PEM or of OpenSSH")
    opening.add_argument(
        "--passphrase-fd",
        metavar="N",
        type=int,
        help="read the passphrase of the private key from this descriptor; without it, it is asked for",
    )


def run(arguments: Namespace, context: Context) -> int:
    """Do what the word after recovery says."""
    return _open(arguments, context)


def _open(arguments: Namespace, context: Context) -> int:
    """Print the key on standard output and what it is for on standard error, or all of it as JSON."""
    path: str = arguments.identity
    document = read_sealed_key(_content(arguments.file))
    with read_file(path, "the private key") as text:
        identity = read_identity(text, lambda: read_passphrase(f"Passphrase of {path}", arguments.passphrase_fd))
    console = context.console
    with open_sealed_key(document, identity) as key, key.view() as view:
        if console.json:
            console.document(_fields(document) | {"recoveryKey": str(view, "ascii")})
        else:
            for name, value in _fields(document).items():
                console.note(f"{name}: {value}")
            console.raw(view)
            console.say()
    return 0


def _content(path: str) -> bytes:
    if path == "-":
        return sys.stdin.buffer.read()
    with open(path, "rb") as stream:
        return stream.read()


def _fields(document: SealedKey) -> dict[str, object]:
    return {
        "node": document.place.node,
        "volume": document.place.volume,
        "headerUUID": document.place.header_uuid,
        "slot": document.place.slot,
        "created": document.created,
        "recipient": document.recipient,
    }
