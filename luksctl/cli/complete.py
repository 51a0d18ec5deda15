"""Completion in the shell, by argcomplete where it is installed: eval "$(register-python-argcomplete luksctl)"."""

from __future__ import annotations

import argparse

from luksctl.cli.loading import load
from luksctl.cli.parser import Parser, add_common
from luksctl.cli.verbs import VERBS


def full_parser() -> argparse.ArgumentParser:
    """Return one parser of everything; it imports every verb."""
    parser = Parser(prog="luksctl")
    add_common(parser)
    verbs = parser.add_subparsers(dest="verb", parser_class=Parser)
    for verb in VERBS:
        inner = verbs.add_parser(verb.name, aliases=list(verb.aliases), help=verb.answers)
        add_common(inner)
        load(verb).configure(inner)
    return parser


def complete() -> None:
    """Answer the shell and end the process, if argcomplete is there; else do nothing."""
    try:
        import argcomplete  # noqa: PLC0415  # optional
    except ImportError:
        return
    argcomplete.autocomplete(full_parser())
