"""Put another passphrase into a config text, and change nothing else of it.

The text is the operator's, so this is done only where it can be shown to be right: the new text is read again, and must
be the same nodes but for that one scalar, and want the same but for that one key.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode

from luksctl.config.documents import parse_machine_config
from luksctl.config.redaction import secret_scalars, span_of
from luksctl.config.report import Report
from luksctl.config.template import quote
from luksctl.config.yamltext import BYTE_ORDER_MARK, TAG_TEXT, decode, load_documents
from luksctl.errors import ConfigError
from luksctl.model.config import ConfiguredKey, MachineConfig, StaticKey
from luksctl.secret import Secret
from luksctl.value import replace


def with_passphrase(config: MachineConfig, volume: str, slot: int, passphrase: str) -> MachineConfig | None:
    """Return `config` with `passphrase` as the static key in `slot` of `volume`; every other byte of its text stays.

    None where its text does not allow it: the passphrase stands at an anchor that others refer to, or comes from one.
    """
    wanted = _wanted(config, volume, slot, passphrase)
    old = _static_key(config, volume, slot)
    characters = decode(config.text, Report(config.source))
    roots = _documents(characters, config.source)
    parents = _parents(roots)
    for scalar in dict.fromkeys(node for root in roots for node in secret_scalars(root)):
        span = span_of(scalar, characters)
        if span is None or not _is(scalar, old) or _shared(scalar, parents):
            continue
        changed = "".join((characters[: span[0]], quote(passphrase), characters[span[1] :]))
        if not _only_differs_in(roots, _documents(changed, config.source), scalar, passphrase):
            continue
        mark = BYTE_ORDER_MARK if config.text.startswith(BYTE_ORDER_MARK.encode()) else ""
        made = _parsed(f"{mark}{changed}".encode(), config.source)
        if made is not None and (made.encryption, made.policy) == (wanted.encryption, wanted.policy):
            return made
    return None


def _static_key(config: MachineConfig, volume: str, slot: int) -> ConfiguredKey:
    encryption = config.encryption_of(volume)
    found = [key for key in encryption.keys if key.slot == slot] if encryption is not None else []
    if not found or not isinstance(found[0].source, StaticKey):
        raise ValueError(f"slot {slot} of {volume} has no static key")
    return found[0]


def _wanted(config: MachineConfig, volume: str, slot: int, passphrase: str) -> MachineConfig:
    fresh = replace(_static_key(config, volume, slot), source=StaticKey(Secret.take(passphrase.encode())))
    encryption = tuple(
        (name, replace(entry, keys=tuple(fresh if key.slot == slot else key for key in entry.keys)))
        if name == volume
        else (name, entry)
        for name, entry in config.encryption
    )
    return replace(config, encryption=encryption)


def _documents(characters: str, source: str) -> list[Node]:
    report = Report(source)
    roots = load_documents(characters, report)
    return [] if report.failed else roots


def _parsed(text: bytes, source: str) -> MachineConfig | None:
    try:
        return parse_machine_config(text, source)
    except ConfigError:
        return None


def _is(scalar: ScalarNode, key: ConfiguredKey) -> bool:
    with Secret.take(scalar.value.encode()) as value:
        return isinstance(key.source, StaticKey) and key.source.passphrase == value


def _children(node: Node) -> Iterator[Node]:
    if isinstance(node, MappingNode):
        for key, value in node.value:
            yield from (key, value)
    elif isinstance(node, CollectionNode):
        yield from node.value


def _parents(roots: list[Node]) -> dict[int, list[Node]]:
    """Return for each node, by its id, what holds it: more than one where aliases refer to it."""
    found: dict[int, list[Node]] = defaultdict(list)
    pending, visited = list(roots), set[int]()
    while pending:
        node = pending.pop()
        if id(node) in visited:
            continue
        visited.add(id(node))
        for child in _children(node):
            found[id(child)].append(node)
            pending.append(child)
    return found


def _shared(node: Node, parents: dict[int, list[Node]]) -> bool:
    """Tell whether the node is reached in more than one way, itself or by what holds it."""
    passed: set[int] = set()
    while above := parents.get(id(node), []):
        if len(above) > 1 or id(node) in passed:
            return True
        passed.add(id(node))
        node = above[0]
    return False


def _only_differs_in(before: list[Node], after: list[Node], scalar: ScalarNode, passphrase: str) -> bool:
    """Tell whether both are the same nodes, but for `scalar`, which is `passphrase` now."""
    if len(before) != len(after):
        return False
    pending, visited = list(zip(before, after, strict=True)), set[int]()
    while pending:
        old, new = pending.pop()
        if id(old) in visited:
            continue
        visited.add(id(old))
        if type(old) is not type(new):
            return False
        if isinstance(old, ScalarNode):
            expected = (TAG_TEXT, passphrase) if old is scalar else (old.tag, old.value)
            if (new.tag, new.value) != expected:
                return False
            continue
        inside, inside_new = list(_children(old)), list(_children(new))
        if old.tag != new.tag or len(inside) != len(inside_new):
            return False
        pending += zip(inside, inside_new, strict=True)
    return True
