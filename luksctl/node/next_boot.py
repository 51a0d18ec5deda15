"""What the next boot does beside opening the volumes: what was staged, tried or announced before it. Reads only."""

from __future__ import annotations

from collections.abc import Iterator

from luksctl.errors import ConfigError, MetaError
from luksctl.hints import Final, assert_never
from luksctl.model.intent import (
    MAX_ATTEMPTS,
    DecryptIntent,
    FormatIntent,
    InPlaceIntent,
    Intent,
    ReencryptIntent,
    ReencryptKind,
    ResetIntent,
)
from luksctl.model.meta import NodeRecord
from luksctl.node.node import Node
from luksctl.node.sources import parse_config, state_directory
from luksctl.node.staged import staged_config
from luksctl.node.trial import pending

_OF_KIND: Final = {
    ReencryptKind.RENEW: "its re-encryption goes on",
    ReencryptKind.ENCRYPT: "its encryption in place goes on",
    ReencryptKind.DECRYPT: "its decryption in place goes on",
}


def left_to_the_next_boot(node: Node) -> tuple[str, ...]:
    """Return one sentence for each thing; META that cannot be read and a staged config that is wrong are told as well.

    OSError where STATE cannot be read.
    """
    return (*_staged(node), *_announced(node))


def _staged(node: Node) -> Iterator[str]:
    directory = state_directory(node)
    waiting = None if directory is None else staged_config(directory)
    if waiting is None:
        return
    try:
        parse_config(waiting.text, "the staged config", "staged.yaml")
    except ConfigError as problem:
        yield f"the staged config is wrong, and stays where it is: {problem}"
    else:
        yield "the config that is staged becomes STATE's own"


def _announced(node: Node) -> Iterator[str]:
    try:
        meta = node.ports.meta.load()
    except MetaError as error:
        yield f"META cannot be read, and what it announces is not known: {error.cause}"
        return
    if not meta.readable:
        yield f"META cannot be read, and what it announces is not known: {meta.problem}"
    if pending(node, meta) is not None:
        yield "the machine config on trial is taken back"
    yield from _work(meta.record)


def _work(record: NodeRecord) -> Iterator[str]:
    for intent in record.intents:
        if not isinstance(intent, ReencryptIntent) and intent.attempt >= MAX_ATTEMPTS:
            yield f"{intent.volume}: left alone after {intent.attempt} attempts (luksctl retry {intent.volume})"
        else:
            yield f"{intent.volume}: {_goes_on(intent)}"


def _goes_on(intent: Intent) -> str:
    match intent:
        case FormatIntent():
            return "its first format goes on"
        case ResetIntent():
            return "what is left of it is erased"
        case InPlaceIntent():
            return _OF_KIND[ReencryptKind.ENCRYPT]
        case DecryptIntent():
            return _OF_KIND[ReencryptKind.DECRYPT]
        case ReencryptIntent():
            return _OF_KIND[intent.kind]
        case _:
            assert_never(intent)
