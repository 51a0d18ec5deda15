"""Take the secrets out of a config text and leave every other byte as it is: passphrases, and those of Talos itself."""

from __future__ import annotations

import re
from collections.abc import Iterator

from yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode, SequenceNode

from luksctl.config.nodes import is_merge_key
from luksctl.config.report import Report
from luksctl.config.spelling import nearest
from luksctl.config.yamltext import BYTE_ORDER_MARK, decode, load_documents
from luksctl.hints import Final

REDACTED: Final = "REDACTED"
_KEY_LIST: Final = "keys"
_STATIC: Final = "static"
_FIELD: Final = "passphrase"
# Of machine.token, cluster.secret, registries and WireGuard; and `key` beside `crt` below these.
_TALOS_SECRETS: Final = frozenset(
    {
        "token",
        "secret",
        "aescbcEncryptionSecret",
        "secretboxEncryptionSecret",
        "privateKey",
        "presharedKey",
        "password",
        "auth",
        "identityToken",
    }
)
_KEY_PAIRS: Final = frozenset({"ca", "aggregatorCA", "serviceAccount"})
# A node's marks include its anchor and tag; these stay.
_PROPERTIES: Final = re.compile(r"(?:[&!]\S*(?:\s+|#[^\r\n]*)+)*")


def redact(text: bytes) -> bytes:
    """Return `text` with REDACTED in place of static passphrases and of Talos' own secrets; comments are left alone.

    It need not be a valid config: whatever stands as `static` in an element of a list `keys` counts, and so does
    `passphrase`, rightly spelled or almost, below any `static`. Raises ConfigError where the text is not YAML: then
    nobody can say where a passphrase is, and the caller must not show it.
    """
    report = Report("config")
    characters = decode(text, report)
    roots = load_documents(characters, report)
    report.raise_problems()
    found = (node for root in roots for node in (*secret_scalars(root), *_talos_secrets(root)))
    spans = {span for node in found if (span := span_of(node, characters)) is not None}
    pieces: list[str] = [BYTE_ORDER_MARK] if text.startswith(BYTE_ORDER_MARK.encode()) else []
    copied = 0
    for start, end in sorted(spans):
        pieces += [characters[copied:start], _replacement(characters[start])]
        copied = end
    return "".join([*pieces, characters[copied:]]).encode()


def _replacement(first: str) -> str:
    """Return the word in the quotes of what it replaces, so that JSON stays JSON."""
    quote = first if first in "\"'" else ""
    return f"{quote}{REDACTED}{quote}"


def span_of(node: ScalarNode, characters: str) -> tuple[int, int] | None:
    """Return where the scalar's own text starts and ends, without anchor, tag and trailing lines; None when empty."""
    start, end = int(node.start_mark.index), int(node.end_mark.index)
    if not node.value:
        return None
    properties = _PROPERTIES.match(characters, start, end)
    if properties is not None:
        start = properties.end()
    return start, start + len(characters[start:end].rstrip())


def secret_scalars(root: Node) -> Iterator[ScalarNode]:
    """Yield every scalar that is or may be a static passphrase; aliases lead to the scalar they stand for."""
    pending: list[tuple[Node, bool]] = [(root, False)]
    visited: set[tuple[int, bool]] = set()
    while pending:
        node, is_key = pending.pop()
        if (id(node), is_key) in visited:
            continue
        visited.add((id(node), is_key))
        if isinstance(node, SequenceNode):
            pending += [(element, is_key) for element in node.value]
        elif isinstance(node, MappingNode):
            for key, value in node.value:
                name = key.value if isinstance(key, ScalarNode) else ""
                if name == _STATIC:
                    yield from _below_static(value, everything=is_key)
                pending += [(key, False), (value, name == _KEY_LIST)]


def _talos_secrets(root: Node) -> Iterator[ScalarNode]:
    """Yield the tokens, private keys and passwords that a Talos config holds beside those of volumes."""
    pending: list[tuple[Node, str]] = [(root, "")]
    visited: set[tuple[int, str]] = set()
    while pending:
        node, name = pending.pop()
        if (id(node), name) in visited:
            continue
        visited.add((id(node), name))
        if isinstance(node, SequenceNode):
            pending += [(element, name) for element in node.value]
        elif isinstance(node, MappingNode):
            for key, value in node.value:
                below = key.value if isinstance(key, ScalarNode) else ""
                secret = below in _TALOS_SECRETS or (below == "key" and name in _KEY_PAIRS)
                if secret and isinstance(value, ScalarNode):
                    yield value
                pending += [(key, ""), (value, below)]


def _below_static(root: Node, *, everything: bool) -> Iterator[ScalarNode]:
    if everything:
        yield from _scalars(root)
        return
    if not isinstance(root, MappingNode):
        return
    for key, value in root.value:
        if isinstance(key, ScalarNode) and nearest(key.value, (_FIELD,)):
            yield from _scalars(value)


def _scalars(root: Node) -> Iterator[ScalarNode]:
    """Yield the scalars of `root`; of a mapping the values only, unless a key could be a misplaced passphrase."""
    pending: list[Node] = [root]
    visited: set[int] = set()
    while pending:
        node = pending.pop()
        if id(node) in visited:
            continue
        visited.add(id(node))
        if isinstance(node, ScalarNode):
            yield node
        elif isinstance(node, MappingNode):
            for key, value in node.value:
                named = isinstance(key, ScalarNode) and nearest(key.value, (_FIELD,)) is not None
                pending += [value] if named or is_merge_key(key) else [key, value]
        elif isinstance(node, CollectionNode):
            pending += node.value
