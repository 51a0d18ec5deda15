"""Split a machine config into its documents, say what each is, and refuse keys and documents that are given twice."""

from __future__ import annotations

from collections.abc import Iterator

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from luksctl.config import policy
from luksctl.config.block import Block
from luksctl.config.nodes import is_merge_key, is_null, join, kind_of
from luksctl.config.report import Report
from luksctl.config.spelling import nearest
from luksctl.config.yamltext import decode, line_of, load_documents
from luksctl.hints import Final
from luksctl.value import frozen

DIRECTIVE: Final = "$patch"
TALOS_API_VERSION: Final = "v1alpha1"
# The machine configuration proper has neither apiVersion nor kind; Talos knows it by one of these.
MACHINE_KEYS: Final = ("machine", "cluster", "debug", "persist")
VOLUME_KINDS: Final = ("VolumeConfig", "UserVolumeConfig", "RawVolumeConfig", "SwapVolumeConfig")
ROOTS_KIND: Final = "TrustedRootsConfig"
_API_VERSION_OF: Final = {
    **dict.fromkeys((*VOLUME_KINDS, ROOTS_KIND), TALOS_API_VERSION),
    policy.KIND: policy.API_VERSION,
}


@frozen
class Document:
    """One document. `kind` is empty for the machine configuration proper, None for one that is only carried."""

    kind: str | None
    name: str
    block: Block


# apiVersion, kind and name; empty for the machine configuration proper.
_Identity = tuple[str, str, str]


def split(text: bytes, report: Report) -> list[Document]:
    """Return the documents of `text`; null documents are left out, those that cannot be told are noted."""
    documents: list[Document] = []
    first_lines: dict[_Identity, int] = {}
    characters = decode(text, report)
    patched = DIRECTIVE in characters
    for root in load_documents(characters, report):
        if is_null(root):
            continue
        if not isinstance(root, MappingNode):
            report.error(line_of(root), "", f"a document must be a mapping, not {kind_of(root)}")
            continue
        document = _identify(Block(report, root, "", line_of(root)), first_lines)
        if document is not None:
            documents.append(document)
        path = "" if document is None else document.block.path
        refuse_duplicate_keys(root, path, report)
        if patched:
            _refuse_directives(root, path, report)
    return documents


def _identify(block: Block, first_lines: dict[_Identity, int]) -> Document | None:
    """Return what the document is and give its block the path that names it; None where a problem was noted."""
    if not block.given("apiVersion") and not block.given("kind"):
        if not any(block.has(key) for key in MACHINE_KEYS):
            _note_unknown_document(block)
            return None
        document, identity = Document("", "", block), ("", "", "")
    else:
        for name in ("apiVersion", "kind"):
            if not block.given(name):
                block.error(name, f"{name} is missing", "a document has both apiVersion and kind")
        api_version, kind = block.text("apiVersion"), block.text("kind")
        if api_version is None or kind is None:
            return None
        name = block.scalar("name")
        block.path = f"{kind}/{name}" if name else kind
        document, identity = Document(_known_kind(block, api_version, kind), name, block), (api_version, kind, name)
    if identity in first_lines:
        block.error(None, f"this document is given twice, first in line {first_lines[identity]}")
        return None
    first_lines[identity] = block.line
    return document


def _note_unknown_document(block: Block) -> None:
    meant = next((near for name in block.names if (near := nearest(name, MACHINE_KEYS))), None)
    hint = f"did you mean {meant}?" if meant else f"a machine configuration has one of {', '.join(MACHINE_KEYS)}"
    block.error(None, "neither a machine configuration nor a document with apiVersion and kind", hint)


def _known_kind(block: Block, api_version: str, kind: str) -> str | None:
    """Return `kind` where it is one of ours, else None; almost ours is a problem, for it would not do a thing."""
    meant = kind if kind in _API_VERSION_OF else nearest(kind, _API_VERSION_OF)
    if meant is None:
        if api_version == policy.API_VERSION:
            block.error("kind", f"unknown kind {kind!r}", f"the only kind of {api_version} is {policy.KIND}")
        return None
    if kind != meant:
        block.error("kind", f"unknown kind {kind!r}", f"did you mean {meant}?")
        return None
    if api_version != _API_VERSION_OF[kind]:
        hint = f"write apiVersion: {_API_VERSION_OF[kind]}"
        block.error("apiVersion", f"{kind} has no apiVersion {api_version!r}", hint)
        return None
    return kind


def refuse_duplicate_keys(root: Node, path: str, report: Report) -> None:
    """Note every key that a mapping below `root` holds twice; YAML readers disagree on which one counts."""
    for mapping, here in _mappings(root, path):
        first_lines: dict[tuple[str, str], int] = {}
        for key, _ in mapping.value:
            if not isinstance(key, ScalarNode):
                continue
            identity = (key.tag, key.value)
            if identity not in first_lines:
                first_lines[identity] = line_of(key)
            elif not is_merge_key(key):
                message = f"this key is given twice, first in line {first_lines[identity]}"
                report.error(line_of(key), join(here, key.value), message)


def _refuse_directives(root: Node, path: str, report: Report) -> None:
    """Note what only a patch says: in a config it would be carried, and nothing deleted."""
    for mapping, here in _mappings(root, path):
        for key, _ in mapping.value:
            if isinstance(key, ScalarNode) and key.value == DIRECTIVE:
                hint = "give a patch with -p, or --config-patch"
                report.error(line_of(key), join(here, DIRECTIVE), "this belongs into a patch, not a config", hint)


def _mappings(root: Node, path: str) -> Iterator[tuple[MappingNode, str]]:
    """Yield each mapping below `root` once, with the path of the first place it stands at."""
    pending: list[tuple[Node, str]] = [(root, path)]
    visited: set[int] = set()
    while pending:
        node, here = pending.pop()
        if id(node) in visited:
            continue
        visited.add(id(node))
        if isinstance(node, SequenceNode):
            pending += reversed([(element, f"{here}[{index}]") for index, element in enumerate(node.value)])
        elif isinstance(node, MappingNode):
            yield node, here
            pending += reversed(list(_below(node, here)))


def _below(mapping: MappingNode, path: str) -> Iterator[tuple[Node, str]]:
    for key, value in mapping.value:
        if isinstance(key, ScalarNode):
            yield value, join(path, key.value)
        else:
            yield key, path
            yield value, path
