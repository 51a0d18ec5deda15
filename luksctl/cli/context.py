"""What a verb works with: its output, the settings, and the node, each made only when it is asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress

from luksctl.cli.console import Console
from luksctl.errors import Refused, UsageError
from luksctl.hints import TYPE_CHECKING

if TYPE_CHECKING:
    from luksctl.model.config import Settings
    from luksctl.model.kms import KmsRoom
    from luksctl.model.step import Done
    from luksctl.node.node import Node, Paths


class Context:
    """One run. `settings_path` and `paths` None mean those of this machine."""

    def __init__(
        self,
        console: Console | None = None,
        settings_path: str | None = None,
        paths: Paths | None = None,
        kms: Callable[[], KmsRoom] | None = None,
    ) -> None:
        self.console = Console() if console is None else console
        self.settings_path = settings_path
        self.paths = paths
        self._kms = kms

    def kms(self) -> KmsRoom:
        """Return the KMS; UsageError where this entry of luksctl has none, which those for units have not."""
        if self._kms is None:
            raise UsageError(
                "there is no KMS in this entry of luksctl", hint="start it as luksctl, or python -m luksctl"
            )
        return self._kms()

    def settings(self) -> Settings:
        """Read the settings; ConfigError where they are wrong."""
        from luksctl.wiring import read_settings  # noqa: PLC0415  # validate, gen and --help need no libraries

        return read_settings(self.settings_path)

    def node(self) -> Node:
        """Join the node; every step taken is told on standard error."""
        from luksctl.cli.steps import told  # noqa: PLC0415  # as above
        from luksctl.wiring import build_node  # noqa: PLC0415

        def announce(done: Done) -> None:
            # Told between two writes to a disk: a reader that has gone away is no reason to stop there.
            with suppress(BrokenPipeError):
                self.console.note(told(done))

        return build_node(self.settings(), announce, self.paths, tell=self.console.note)

    def confirm(self, what: str, name: str, *, yes: bool) -> None:
        """Return if `yes`, or when the operator typed `name`; UsageError where nobody can be asked, Refused otherwise.

        `what` says in one sentence what is about to be lost.
        """
        if yes:
            return
        if self.console.json or not (sys.stdin.isatty() and self.console.err.isatty()):
            raise UsageError(f"{what}; nobody is here to confirm it", hint="add --yes if that is meant")
        self.console.err.write(f"{what}.\nType {name} to go on: ")
        self.console.err.flush()
        if sys.stdin.readline().strip() != name:
            raise Refused("not confirmed; nothing was touched")
