"""Import the module of one verb, and no other."""

from __future__ import annotations

from argparse import Namespace
from importlib import import_module

from luksctl.cli.context import Context
from luksctl.cli.parser import Parser
from luksctl.cli.verbs import Verb
from luksctl.hints import Protocol, cast


class VerbModule(Protocol):
    """What the module of a verb has."""

    def configure(self, parser: Parser) -> None:
        """Add the options of the verb."""

    def run(self, arguments: Namespace, context: Context) -> int:
        """Do it, and return the exit code."""


def load(verb: Verb) -> VerbModule:
    """Import the module of `verb`."""
    return cast("VerbModule", import_module(f"luksctl.cli.{verb.module}"))
