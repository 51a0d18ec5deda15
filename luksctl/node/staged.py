"""A config that waits for the next boot: `staged.yaml` in STATE, beside the one that rules until then.

Its first line says in which boot it was staged; only another one makes it STATE's own. The rest is the config, byte for
byte.
"""

from __future__ import annotations

import os
from contextlib import suppress

from luksctl.errors import ConfigError
from luksctl.hints import Final
from luksctl.model.config import MachineConfig
from luksctl.node.files import read_file, replace_file, sync_directory
from luksctl.node.node import Node
from luksctl.node.sources import STAGED_NAME, parse_config, store_config
from luksctl.value import field, frozen

_HEAD: Final = b"# staged by luksctl in boot "


@frozen
class Staged:
    """The text that waits, and the boot in which it was staged; empty where the file does not say."""

    text: bytes = field(repr=False)
    boot_id: str


def stage_config(node: Node, directory: str, config: MachineConfig) -> None:
    """Leave `config` to the next boot, in place of any that waits. Cut: the one that waited before, or this one."""
    head = _HEAD + node.system.boot_id().encode() + b"\n"
    replace_file(os.path.join(directory, STAGED_NAME), head + config.text)


def staged_config(directory: str) -> Staged | None:
    """Return the config that waits in STATE's `directory`, or None; not parsed."""
    text = read_file(os.path.join(directory, STAGED_NAME))
    if text is None:
        return None
    head, _, rest = text.partition(b"\n")
    if not head.startswith(_HEAD):
        return Staged(text, "")
    return Staged(rest, head.removeprefix(_HEAD).decode("ascii", "replace"))


def forget_staged(directory: str) -> bool:
    """Remove the config that waits; tell whether there was one. Cut: it waits, or not."""
    with suppress(FileNotFoundError):
        os.unlink(os.path.join(directory, STAGED_NAME))
        sync_directory(directory)
        return True
    return False


def take_staged(node: Node, directory: str) -> tuple[str, ...]:
    """Make a config that was staged before this boot STATE's own; return what there is to say about it.

    One that is wrong stays where it is: it was right for the luksctl that staged it. Cut: it waits still, or is STATE's
    own already, and is stored once more.
    """
    found = staged_config(directory)
    if found is None or found.boot_id == node.system.boot_id():
        return ()
    path = os.path.join(directory, STAGED_NAME)
    try:
        config = parse_config(found.text, "the staged config", path)
    except ConfigError as problem:
        return (f"the staged config is wrong and was left where it is: {problem}",)
    store_config(directory, config)
    forget_staged(directory)
    return ("the config that was staged is STATE's own now",)
