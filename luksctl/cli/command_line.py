"""What a command line says: its verb, the module of that and no other, and the arguments."""

from __future__ import annotations

from argparse import REMAINDER, SUPPRESS, Namespace

from luksctl.cli.loading import VerbModule, load
from luksctl.cli.parser import Parser, add_common, verb_parser
from luksctl.cli.roles import Access
from luksctl.cli.verbs import VERBS, Verb, verb_of
from luksctl.errors import UsageError
from luksctl.value import frozen


@frozen
class Command:
    """One verb that was asked for, with the parser that understood the words."""

    verb: Verb
    module: VerbModule
    parser: Parser
    arguments: Namespace

    @property
    def name(self) -> str:
        """Return the verb and the words behind it, without anything that was given to them."""
        return " ".join((self.verb.name, *self.parser.command_of(self.arguments)[0]))

    @property
    def access(self) -> Access:
        """Return who may run it on another node."""
        words = " ".join(self.parser.command_of(self.arguments)[0])
        return next(access for access in self.verb.access if access.command == words)


def common_parser() -> Parser:
    """Return the parser of what stands before the verb; the verb and all behind it are left as they are."""
    parser = Parser(prog="luksctl", add_help=False)
    add_common(parser)
    parser.set_defaults(settings=None, json=False, debug=False, hosts=())
    parser.add_flag("version", text="")
    parser.add_flag("help", text="")
    parser.add_argument("-h", dest="help", action="store_true")
    # For sshd and for the luksctl of another machine; people type neither.
    parser.add_argument("--role", help=SUPPRESS)
    parser.add_flag("attached", text=SUPPRESS)
    parser.add_argument("verb", nargs="?")
    parser.add_argument("rest", nargs=REMAINDER)
    return parser


def understand(common: Namespace) -> Command | None:
    """Return what the words behind the verb say, None where they asked for help, which is printed by then."""
    verb = verb_of(common.verb)
    if verb is None:
        raise UsageError(f"unknown verb {common.verb!r}", hint=_nearest(common.verb))
    module = load(verb)
    parser = verb_parser(verb)
    module.configure(parser)
    before = {name: getattr(common, name) for name in ("settings", "json", "debug", "hosts", "attached")}
    try:
        arguments = parser.parse(common.rest, Namespace(**before))
    except SystemExit:
        return None
    return Command(verb, module, parser, arguments)


def _nearest(word: str) -> str:
    from luksctl.config.spelling import did_you_mean  # noqa: PLC0415  # only for the lost

    return did_you_mean(word, [verb.name for verb in VERBS]) or "luksctl --help"
