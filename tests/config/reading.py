"""What the tests of this room share: indented text to bytes, and the problems of a text."""

from __future__ import annotations

from textwrap import dedent

from luksctl.config.documents import parse_machine_config
from luksctl.errors import ConfigError, Problem
from luksctl.model.config import MachineConfig


def yaml(text: str) -> bytes:
    """Return `text` without its common indentation and the line break after the opening quotes."""
    return dedent(text.removeprefix("\n")).encode()


def parse(text: str) -> MachineConfig:
    """Parse a valid machine config."""
    return parse_machine_config(yaml(text), "machine.yaml")


def problems(text: str | bytes) -> tuple[Problem, ...]:
    """Return the problems of a machine config, none for a valid one."""
    try:
        parse_machine_config(text if isinstance(text, bytes) else yaml(text), "machine.yaml")
    except ConfigError as error:
        return error.problems
    return ()


def volume_config(encryption: str, name: str = "EPHEMERAL") -> str:
    """Return a VolumeConfig document; `encryption` is flow YAML and stands in line 4."""
    return f"apiVersion: v1alpha1\nkind: VolumeConfig\nname: {name}\nencryption: {encryption}\n"


def one_key(key: str, name: str = "EPHEMERAL") -> str:
    """Return a VolumeConfig document whose only key, flow YAML, stands in line 7."""
    head = f"apiVersion: v1alpha1\nkind: VolumeConfig\nname: {name}\n"
    return f"{head}encryption:\n  provider: luks2\n  keys:\n    - {key}\n"
