"""The command line: argparse with errors of our own, booleans as --x, --no-x and --x=true|false, lists with commas."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum, auto

from luksctl.cli.verbs import Verb
from luksctl.errors import UsageError
from luksctl.hints import Any, Final, NoReturn
from luksctl.value import frozen

EVERYWHERE: Final = (0, 1, 14, 64)
_COLUMNS: Final = 80
_BOOLEANS: Final = {"true": "--", "false": "--no-"}


class Takes(Enum):
    """What an argument names that only the machine has at which it is typed; another node is sent it."""

    FILE = auto()  # a file, or - for standard input
    PATCH = auto()  # a patch, or @FILE
    TEXT = auto()  # a text, or - for standard input
    DESCRIPTOR = auto()  # an open file, and what it holds is secret


@frozen
class Given:
    """One argument that was given: the name of its value, and how its option is spelled; none for an operand."""

    name: str
    value: Any
    option: str | None
    takes: Takes | None = None


class _Extend(argparse.Action):
    """Add each comma-separated part of a value to the list; the first use replaces the default."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,  # noqa: ARG002
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,  # noqa: ARG002
    ) -> None:
        given: tuple[str, ...] = getattr(namespace, f"_given_{self.dest}", ())
        given += tuple(part.strip() for part in str(values).split(",") if part.strip())
        setattr(namespace, f"_given_{self.dest}", given)
        setattr(namespace, self.dest, given)


class _Help(argparse.RawDescriptionHelpFormatter):
    """As wide as the terminal; argparse makes one for each option, and would load slow modules to find the width."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_columns() - 2)


def _columns() -> int:
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given) > 0:
        return int(given)
    try:
        return os.get_terminal_size(1).columns or _COLUMNS
    except OSError:
        return _COLUMNS


class Parser(argparse.ArgumentParser):
    """A parser whose errors are UsageError; make options by `add_flag`, `add_list` and `add_argument`."""

    def __init__(self, *, flags: set[str] | None = None, depth: int = 0, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=_Help, **settings)
        self.flags = set() if flags is None else flags
        self._depth = depth
        self.common: set[str] = set()
        self._takes: dict[str, Takes] = {}
        self._commands: argparse._SubParsersAction[Parser] | None = None

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        raise UsageError(message, hint=f"{self.prog} --help")

    def add_flag(self, option: str, *short: str, text: str, default: bool = False, dest: str | None = None) -> None:
        """Add a boolean: `option` without dashes in front; `short` with one."""
        name = dest or option.replace("-", "_")
        both = self.add_mutually_exclusive_group()
        both.add_argument(*short, f"--{option}", dest=name, action="store_true", default=argparse.SUPPRESS, help=text)
        both.add_argument(
            f"--no-{option}", dest=name, action="store_false", default=argparse.SUPPRESS, help=argparse.SUPPRESS
        )
        self.set_defaults(**{name: default})
        self.flags.add(f"--{option}")

    def add_list(self, option: str, *, metavar: str, text: str, **settings: Any) -> str:
        """Add an option that takes commas and repetition, and return its name; a tuple, None where it is not given."""
        dest = option.replace("-", "_")
        self.add_argument(f"--{option}", dest=dest, action=_Extend, metavar=metavar, help=text, **settings)
        return dest

    def add_descriptors(self, option: str, *, text: str) -> None:
        """Add a list of SLOT:N; what open file N holds is secret, and another node is sent it."""
        self._takes[self.add_list(option, metavar="SLOT:N", text=text, default=())] = Takes.DESCRIPTOR

    def add_sent(self, takes: Takes, *names: str, **settings: Any) -> None:
        """Add an option or operand whose value another node is sent, and not merely told."""
        self._takes[self.add_argument(*names, **settings).dest] = takes

    def takes(self, name: str) -> Takes | None:
        """Return what the argument called `name` has sent, None where another node is only told."""
        return self._takes.get(name)

    def add_command(self, name: str, *, text: str) -> Parser:
        """Add a word that has a parser of its own; its name ends up in `command`, that of one behind it in `word`."""
        if self._commands is None:
            dest = ("command", "word")[self._depth]
            self._commands = self.add_subparsers(dest=dest, required=True, metavar=dest.upper(), parser_class=Parser)
        description = f"{text[:1].upper()}{text[1:]}."
        command = self._commands.add_parser(
            name, help=text, description=description, flags=self.flags, depth=self._depth + 1
        )
        add_common(command)
        return command

    def parse(self, words: Sequence[str], namespace: argparse.Namespace | None = None) -> argparse.Namespace:
        """Return what `words` say; UsageError where they make no sense."""
        return self.parse_args(list(self._spelled(words)), namespace)

    def commands(self) -> dict[str, Parser]:
        """Return the words that have parsers of their own."""
        return {} if self._commands is None else dict(self._commands.choices)

    def command_of(self, arguments: argparse.Namespace) -> tuple[tuple[str, ...], Parser]:
        """Return the words behind the verb that `arguments` came of, and the parser of the last one."""
        if self._commands is None:
            return (), self
        word: str = getattr(arguments, self._commands.dest)
        rest, parser = self._commands.choices[word].command_of(arguments)
        return (word, *rest), parser

    def given(self, arguments: argparse.Namespace) -> Iterator[Given]:
        """Yield what differs from the defaults, options first; what every verb takes is left out."""
        for action in sorted(self._actions, key=lambda action: not action.option_strings):
            if action.dest in {*self.common, "help"} or action is self._commands:
                continue
            value = getattr(arguments, action.dest)
            if value == self.get_default(action.dest) or value == [] or self._says_otherwise(action, value):
                continue
            option = action.option_strings[-1] if action.option_strings else None
            yield Given(action.dest, value, option, self._takes.get(action.dest))

    @staticmethod
    def _says_otherwise(action: argparse.Action, value: Any) -> bool:
        """Tell whether this is --x where --no-x was said, or the other way round."""
        return action.nargs == 0 and action.const is not value

    def _spelled(self, words: Sequence[str]) -> Iterable[str]:
        """Yield the words with --x=true|false as --x and --no-x, which argparse understands."""
        rest = iter(words)
        for word in rest:
            option, is_assigned, value = word.partition("=")
            if is_assigned and option in self.flags:
                if value not in _BOOLEANS:
                    self.error(f"{option} takes true or false, not {value!r}")
                yield _BOOLEANS[value] + option.removeprefix("--")
            else:
                yield word
            if word == "--":
                break
        yield from rest


def add_common(parser: Parser) -> None:
    """Add what every verb takes. No defaults: the words before the verb have set them."""
    common = parser.add_argument_group("everywhere")
    common.add_argument(
        "--settings", metavar="FILE", default=argparse.SUPPRESS, help="where things are on this machine"
    )
    common.add_argument(
        "-n",
        "--nodes",
        dest="hosts",
        metavar="HOST,…",
        action=_Extend,
        default=argparse.SUPPRESS,
        help="run it on these nodes, over ssh",
    )
    for option, text in (
        ("json", "print one JSON object"),
        ("debug", "show where in the program an error came from"),
    ):
        common.add_argument(f"--{option}", action="store_true", default=argparse.SUPPRESS, help=text)
        common.add_argument(
            f"--no-{option}", dest=option, action="store_false", default=argparse.SUPPRESS, help=argparse.SUPPRESS
        )
        parser.flags.add(f"--{option}")
    parser.common |= {"settings", "hosts", "json", "debug"}


def verb_parser(verb: Verb) -> Parser:
    """Return the empty parser of `verb`; its module adds the options."""
    codes = ", ".join(str(code) for code in sorted((*EVERYWHERE, *verb.exit_codes)))
    parser = Parser(
        prog=f"luksctl {verb.name}",
        description=f"{verb.answers[:1].upper()}{verb.answers[1:]}.",
        epilog=f"destroys: {verb.destroys}\nexit codes: {codes} (docs/errors.md)",
    )
    add_common(parser)
    return parser


def split_words(values: Iterable[str]) -> tuple[str, ...]:
    """Return positional values with commas taken apart."""
    return tuple(part.strip() for value in values for part in value.split(",") if part.strip())
