"""The documents of a config as they stand after some patches: found by apiVersion, kind and name, merged or removed."""

from __future__ import annotations

from luksctl.config.patch_json import apply_json_patch
from luksctl.config.patch_load import JsonPatch, StrategicPatch
from luksctl.config.patch_merge import Merger, is_delete, without_deletions
from luksctl.config.policy import KIND as POLICY_KIND
from luksctl.config.report import Report
from luksctl.config.split import DIRECTIVE, MACHINE_KEYS
from luksctl.config.tree import Document, Mapping, Node, Scalar, Sequence, is_null, solid
from luksctl.hints import Final, final
from luksctl.model.config import PatchKeys

_NO_JSON: Final = "JSON patches do not work on a config of several documents; write a strategic merge patch"
# apiVersion, kind and name; empty for the machine configuration proper.
_Identity = tuple[str, str, str]


@final
class Stand:
    """The documents as they stand after some patches: those of the text by their place, then those that were added."""

    def __init__(self, documents: list[Document], report: Report, *, keys_by_slot: bool) -> None:
        self.documents = documents
        self.roots: list[Node | None] = [document.root for document in documents]
        self.notes: list[str] = []
        self._keys_by_slot = keys_by_slot
        for root in documents:
            if not isinstance(root.root, Mapping):
                line = 1 if root.root is None else root.root.line
                what = "a list" if isinstance(root.root, Sequence) else "a value"
                report.error(line, "", f"a document must be a mapping, not {what}")
        report.raise_problems()

    def apply(self, patch: StrategicPatch | JsonPatch) -> None:
        """Apply one patch; ConfigError where it does not apply."""
        report = Report(patch.source)
        if isinstance(patch, JsonPatch):
            places = [index for index, root in enumerate(self.roots) if root is not None]
            root = self.roots[places[0]] if len(places) == 1 else None
            if root is None:
                report.error(1, "", _NO_JSON if places else "there is no document to patch")
            else:
                self.roots[places[0]] = apply_json_patch(root, patch)
        else:
            self._strategic(patch, report)
        report.raise_problems()
        self.notes += report.warnings

    def _strategic(self, patch: StrategicPatch, report: Report) -> None:
        """Delete from the machine configuration first, then go through the documents of the patch in their order."""
        left: list[tuple[_Identity, Mapping]] = []
        for document in patch.documents:
            identity = _identity(document)
            if identity is None:
                hint = f"a patch has one of {', '.join(MACHINE_KEYS)}, or apiVersion and kind"
                report.error(document.line, "", "this part of the patch belongs to no document", hint)
            elif not any(identity):
                rest = self._deleted(identity, document, report)
                left += [] if rest is None else [(identity, rest)]
            else:
                left.append((identity, document))
        for identity, document in left:
            if is_delete(document):
                self._remove(identity, document, report)
                continue
            rest = self._deleted(identity, document, report) if any(identity) else document
            if rest is not None:
                self._merge(identity, rest, report)

    def _place(self, identity: _Identity) -> int | None:
        for index, root in enumerate(self.roots):
            if isinstance(root, Mapping) and _identity(root) == identity:
                return index
        return None

    def _remove(self, identity: _Identity, document: Mapping, report: Report) -> None:
        if not any(identity):
            message = "the machine configuration itself cannot be deleted"
            report.error(document.line, DIRECTIVE, message, "delete the fields that are meant")
            return
        place = self._place(identity)
        if place is not None:
            self.roots[place] = None

    def _deleted(self, identity: _Identity, document: Mapping, report: Report) -> Mapping | None:
        """Delete what `document` asks to, and return the rest of it."""
        if is_delete(document):
            return document
        place = self._place(identity)
        base = None if place is None else self.roots[place]
        if place is None or base is None:
            # As in Talos: what is not there need not be deleted.
            rest = without_deletions(document)
        else:
            self.roots[place], rest = self._merger(identity, report).delete(base, document)
        return rest if isinstance(rest, Mapping) else None

    def _merge(self, identity: _Identity, document: Mapping, report: Report) -> None:
        place = self._place(identity)
        if place is None:
            self.roots.append(document)
            return
        base = self.roots[place]
        assert base is not None
        self.roots[place] = self._merger(identity, report).merge(base, document)

    def _merger(self, identity: _Identity, report: Report) -> Merger:
        _, kind, name = identity
        return Merger(kind, f"{kind}/{name}" if name else kind, report, keys_by_slot=self._by_slot())

    def _by_slot(self) -> bool:
        if self._keys_by_slot:
            return True
        policies = (root for root in self.roots if isinstance(root, Mapping) and _word(root, "kind") == POLICY_KIND)
        return any(_word(policy, "patchKeys") == PatchKeys.BY_SLOT for policy in policies)


def _identity(root: Mapping) -> _Identity | None:
    """Return apiVersion, kind and name; all empty for the machine configuration proper, None where it is neither."""
    version, kind = _word(root, "apiVersion"), _word(root, "kind")
    if version and kind:
        return version, kind, _word(root, "name")
    if version or kind or not any(root.find(name) is not None for name in MACHINE_KEYS):
        return None
    return "", "", ""


def _word(root: Mapping, name: str) -> str:
    found = root.find(name)
    below = None if found is None else solid(found)
    return below.value if isinstance(below, Scalar) and not is_null(below) else ""
