"""`luksctl kms serve | init | node | key | unit`: the KMS, for the machine that it runs on."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Callable
from datetime import UTC, datetime

from luksctl.cli.context import Context
from luksctl.cli.kms_serve import add_serve, serve_options
from luksctl.cli.kms_text import keys_fields, node_fields, node_row, version_fields
from luksctl.cli.parser import Parser
from luksctl.cli.secret_input import read_passphrase
from luksctl.errors import Refused, UsageError
from luksctl.hints import Final
from luksctl.model.kms import DEFAULT_DIRECTORY, PASSPHRASE_CREDENTIAL, KeyFile, NodeState
from luksctl.secret import Secret

_WHAT: Final = "Passphrase of the master key"
_RELOAD: Final = "systemctl reload luksctl-kms"
_STATES: Final = {"allow": NodeState.ALLOWED, "revoke": NodeState.REVOKED}


def configure(parser: Parser) -> None:
    """Add the options of the verb."""
    making = parser.add_command(
        "init", text="make the master key, sealed under a passphrase, and an empty list of nodes"
    )
    _add_directory(making)
    _add_passphrase(making)
    serving = parser.add_command("serve", text="seal and unseal for the nodes of the list, until SIGTERM")
    _add_directory(serving)
    _add_passphrase(serving)
    add_serve(serving)
    node = parser.add_command("node", text="the nodes, and what they may do")
    _add_directory(node.add_command("list", text="list the nodes: their hashes, states and certificates"))
    for word, text in (("allow", "let nodes seal and unseal"), ("revoke", "refuse nodes from now on")):
        changing = node.add_command(word, text=text)
        changing.add_argument(
            "nodes", metavar="NODE", nargs="+", help="the beginning of a hash, or - to read UUIDs from standard input"
        )
        _add_directory(changing)
        changing.add_argument("--note", metavar="TEXT", help="what the list says of them, such as a name")
        if word == "allow":
            changing.add_flag("new-certificate", text="forget the certificate that is bound: the next one is")
    _add_key_commands(parser.add_command("key", text="the master key"))
    unit = parser.add_command("unit", text="print a systemd service, hardened; what follows -- goes to serve")
    unit.add_argument("options", metavar="OPTION", nargs="*", help="options of serve, behind --")
    unit.add_argument(
        "--command", dest="program", metavar="PATH", help="luksctl as the service calls it (default: this)"
    )


def _add_key_commands(key: Parser) -> None:
    for word, text in (
        ("list", "list the versions of the master key"),
        ("rotate", "add a version, which seals once the server is reloaded; older ones still open"),
        ("import", "have the KMS open what a reference server of Talos sealed, by the key file of that server"),
        ("passphrase", "seal the file under another passphrase"),
        ("export", "print the key unsealed, for systemd-creds encrypt"),
    ):
        command = key.add_command(word, text=text)
        _add_directory(command)
        _add_passphrase(command)
        command.add_argument("--key", metavar="FILE", help="the master key file (default: master.key in the directory)")
        if word == "import":
            command.add_argument("file", metavar="FILE", help="the key file of the reference server")
        if word == "passphrase":
            command.add_argument(
                "--new-passphrase-fd", metavar="N", type=int, help="read the new passphrase from this descriptor"
            )


def _add_directory(parser: Parser) -> None:
    parser.add_argument(
        "--dir", metavar="DIR", default=DEFAULT_DIRECTORY, help=f"where the KMS is (default: {DEFAULT_DIRECTORY})"
    )


def _add_passphrase(parser: Parser) -> None:
    parser.add_argument(
        "--passphrase-fd", metavar="N", type=int, help="read the passphrase from this descriptor; else it is asked for"
    )


def run(arguments: Namespace, context: Context) -> int:
    """Do what the words after kms say."""
    commands = {"init": _init, "serve": _serve, "node": _node, "key": _key, "unit": _unit}
    return commands[arguments.command](arguments, context)


def _init(arguments: Namespace, context: Context) -> int:
    with _new_passphrase(_WHAT, arguments.passphrase_fd) as passphrase:
        made = context.kms().initialise(arguments.dir, passphrase)
    context.console.say(f"{arguments.dir}: master key version {made.version}; next: luksctl kms serve")
    context.console.document({"directory": arguments.dir, "key": version_fields(made)})
    return 0


def _serve(arguments: Namespace, context: Context) -> int:
    options = serve_options(arguments)
    console = context.console
    code = context.kms().serve(options, _asker(arguments), lambda line: console.note(f"luksctl kms: {line}"))
    console.document({"exitCode": code})
    return code


def _node(arguments: Namespace, context: Context) -> int:
    kms, console = context.kms(), context.console
    if arguments.word == "list":
        nodes = kms.nodes(arguments.dir)
        if nodes:
            console.table(
                ("node", "state", "certificate", "last seen", "from", "note"), [node_row(node) for node in nodes]
            )
        else:
            console.say("no node has asked yet")
    else:
        nodes = kms.change_nodes(
            arguments.dir,
            _names(arguments.nodes),
            _STATES[arguments.word],
            note=arguments.note,
            new_certificate=getattr(arguments, "new_certificate", False),
        )
        for node in nodes:
            console.say(f"{node.shown}: {node.state}")
    console.document({"nodes": [node_fields(node) for node in nodes]})
    return 0


def _names(words: list[str]) -> list[str]:
    """Return what names the nodes; a UUID is not taken from an argument, which every process list shows."""
    if any("-" in word.strip("-") for word in words):
        raise UsageError(
            "a UUID is not given as an argument, where every process list shows it", hint="give - and pipe it"
        )
    given = [line.strip() for line in sys.stdin if line.strip()] if "-" in words else []
    names = [*given, *(word for word in words if word != "-")]
    if not names:
        raise UsageError("no node is named: standard input is empty")
    return names


def _key(arguments: Namespace, context: Context) -> int:
    kms, console = context.kms(), context.console
    file = KeyFile(arguments.key or os.path.join(arguments.dir, "master.key"), _asker(arguments))
    match arguments.word:
        case "list":
            keys = kms.keys(file)
            rows = [(str(one.version), _day(one.created)) for one in keys.versions]
            console.table(("version", "created"), [*rows, *(("imported", _day(at)) for at in keys.imported)])
            console.document(keys_fields(keys))
        case "rotate":
            made = kms.rotate_key(file)
            console.say(f"{file.path}: version {made.version} seals once the server is reloaded: {_RELOAD}")
            console.document({"key": version_fields(made)})
        case "import":
            count = kms.import_key(file, arguments.file)
            console.say(f"{file.path}: what {arguments.file} sealed opens once the server is reloaded: {_RELOAD}")
            console.document({"file": file.path, "imported": count})
        case "passphrase":
            kms.change_passphrase(file, lambda: _new_passphrase("New passphrase", arguments.new_passphrase_fd))
            console.say(f"{file.path}: opens with the new passphrase alone")
            console.document({"file": file.path})
        case _:
            _export(context, file)
    return 0


def _export(context: Context, file: KeyFile) -> None:
    if context.console.json:
        raise UsageError("a master key is not printed as JSON")
    if context.console.out.isatty():
        raise Refused(
            "a master key is not printed on a terminal",
            hint="pipe it: … | systemd-creds encrypt --name=luksctl-kms.key - FILE",
        )
    with context.kms().export_key(file) as key, key.view() as view:
        context.console.raw(view)


def _unit(arguments: Namespace, context: Context) -> int:
    program = arguments.program
    command = _own_command() if program is None else (program,)
    text = context.kms().unit(command, arguments.options)
    context.console.document({"unit": text})
    context.console.say(text.rstrip())
    return 0


def _own_command() -> tuple[str, ...]:
    """Return the command line of this very luksctl: the script that was started, or the module by its interpreter."""
    script = os.path.abspath(sys.argv[0])
    return (script,) if os.path.basename(script) == "luksctl" else (sys.executable, "-I", "-m", "luksctl")


def _asker(arguments: Namespace) -> Callable[[], Secret]:
    """Return what asks for the passphrase: the descriptor, the credential of the service, or the terminal."""

    def ask() -> Secret:
        credential = os.path.join(os.environ.get("CREDENTIALS_DIRECTORY", ""), PASSPHRASE_CREDENTIAL)
        if arguments.passphrase_fd is not None or not os.path.isabs(credential) or not os.path.exists(credential):
            return read_passphrase(_WHAT, arguments.passphrase_fd)
        with open(credential, "rb", buffering=0) as stream:
            return read_passphrase(_WHAT, stream.fileno())

    return ask


def _new_passphrase(what: str, descriptor: int | None) -> Secret:
    """Return a passphrase that was typed twice, or came through a descriptor."""
    first = read_passphrase(what, descriptor)
    if descriptor is None:
        with read_passphrase(f"{what}, once more", None) as second:
            if first != second:
                first.close()
                raise Refused("the two were not the same; nothing was written")
    return first


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()
