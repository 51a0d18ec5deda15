"""Machines of image files that are reached by name over the sshd of these tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from luksctl.cli.main import main
from tests.cli.desk import Answer, Desk
from tests.cli.sshd import Server


class Nodes:
    """Machines that are reached by name, and the command line of somebody who reaches them."""

    def __init__(self, running: Server, directory: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.server = running
        self.directory = directory
        self.capture = capture

    def add(self, name: str, role: str | None = None) -> Desk:
        """Make a machine that this test knows as `name`; with the role, if any."""
        directory = self.directory / name
        directory.mkdir()
        made = Desk(directory, self.capture)
        self.server.add_host(self.host(name), directory, role)
        return made

    def host(self, name: str) -> str:
        """Return what the client calls it."""
        return f"{self.directory.name}-{name}".replace("_", "-")

    def run(self, names: str, *words: str) -> Answer:
        """Run `luksctl --nodes NAMES WORDS`."""
        hosts = ",".join(self.host(name) for name in names.split(","))
        self.capture.readouterr()
        code = main(("--nodes", hosts, *words))
        said = self.capture.readouterr()
        return Answer(code, said.out.replace(f"{self.directory.name}-".replace("_", "-"), ""), said.err)
