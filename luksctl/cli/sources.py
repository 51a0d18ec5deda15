"""Read a machine config that the operator names: a file, or - for standard input."""

from __future__ import annotations

from luksctl.cli.attached import read_bytes
from luksctl.config.documents import parse_machine_config
from luksctl.config.yamltext import MAX_BYTES
from luksctl.errors import ConfigError, Problem
from luksctl.model.config import MachineConfig


def read_config(path: str) -> MachineConfig:
    """Return the config in `path`; ConfigError with every problem, also where the file cannot be read."""
    return parse_machine_config(*read_text(path))


def read_text(path: str) -> tuple[bytes, str]:
    """Return what is in `path`, and its name for messages; of a text that is too long only as much as shows it."""
    try:
        return read_bytes(path, MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError((Problem("", f"the config cannot be read: {error.strerror}", file=path),)) from error
