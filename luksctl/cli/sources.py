"""Read a machine config that the operator names: a file, or - for standard input."""

from __future__ import annotations

import sys

from luksctl.config.documents import parse_machine_config
from luksctl.errors import ConfigError, Problem
from luksctl.model.config import MachineConfig

STANDARD_INPUT = "standard input"


def read_config(path: str) -> MachineConfig:
    """Return the config in `path`; ConfigError with every problem, also where the file cannot be read."""
    if path == "-":
        return parse_machine_config(sys.stdin.buffer.read(), STANDARD_INPUT)
    try:
        with open(path, "rb") as source:
            text = source.read()
    except OSError as error:
        raise ConfigError((Problem("", f"the config cannot be read: {error.strerror}", file=path),)) from error
    return parse_machine_config(text, path)
