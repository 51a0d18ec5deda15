"""The command line: argparse with errors of our own, booleans as --x, --no-x and --x=true|false, lists with commas."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Sequence

from luksctl.cli.verbs import Verb
from luksctl.errors import UsageError
from luksctl.hints import Any, Final, NoReturn

EVERYWHERE: Final = (0, 1, 64)
_COLUMNS: Final = 80
_BOOLEANS: Final = {"true": "--", "false": "--no-"}


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
        self._commands: argparse._SubParsersAction[Parser] | None = None

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        raise UsageError(message, hint=f"{self.prog} --help")

    def add_flag(self, option: str, *, text: str, default: bool = False, dest: str | None = None) -> None:
        """Add a boolean: `option` without dashes in front."""
        name = dest or option.replace("-", "_")
        both = self.add_mutually_exclusive_group()
        both.add_argument(f"--{option}", dest=name, action="store_true", default=argparse.SUPPRESS, help=text)
        both.add_argument(
            f"--no-{option}", dest=name, action="store_false", default=argparse.SUPPRESS, help=argparse.SUPPRESS
        )
        self.set_defaults(**{name: default})
        self.flags.add(f"--{option}")

    def add_list(self, option: str, *, metavar: str, text: str, default: tuple[str, ...] | None = None) -> None:
        """Add an option that takes commas and repetition; its value is a tuple, `default` where it is not given."""
        dest = option.replace("-", "_")
        self.add_argument(f"--{option}", dest=dest, action=_Extend, default=default, metavar=metavar, help=text)

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
    for option, text in (
        ("json", "print one JSON object"),
        ("debug", "show where in the program an error came from"),
    ):
        common.add_argument(f"--{option}", action="store_true", default=argparse.SUPPRESS, help=text)
        common.add_argument(
            f"--no-{option}", dest=option, action="store_false", default=argparse.SUPPRESS, help=argparse.SUPPRESS
        )
        parser.flags.add(f"--{option}")


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
