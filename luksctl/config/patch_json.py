"""JSON patches (RFC 6902) on a document: jsonpatch works on plain values, and the tree follows what it did."""

from __future__ import annotations

from luksctl.config.patch_load import JsonPatch
from luksctl.config.report import Report
from luksctl.config.tree import MAX_DEPTH, Node
from luksctl.config.unfolding import Origin, Unfolded
from luksctl.hints import Any, Final, final

# So many values may come of a patch: more than any config has, and few enough to be copied in a moment.
_MAX_VALUES: Final = 200_000
_TOO_MUCH: Final = f"more than {_MAX_VALUES:,} values, or more than {MAX_DEPTH} levels of them, come of it"
_NEEDS: Final = {
    "add": ("path", "value"),
    "remove": ("path",),
    "replace": ("path", "value"),
    "move": ("from", "path"),
    "copy": ("from", "path"),
    "test": ("path", "value"),
}


def apply_json_patch(root: Node, patch: JsonPatch) -> Node:
    """Return `root` after every operation of `patch`; ConfigError, and nothing done, where one does not apply.

    Messages never quote a value, which could be a passphrase.
    """
    report = Report(patch.source)
    _expect_library(report)
    unfolded = Unfolded()
    value = unfolded.plain(root)
    for twin in unfolded.twins:
        report.error(1, "", f"JSON cannot tell two keys of the mapping in line {twin.line} of the config apart")
    report.raise_problems()
    bound = _Bound(value)
    for number, (operation, line) in enumerate(patch.operations, start=1):
        complaint = _complaint(operation)
        if complaint is None:
            value, complaint = _applied(value, operation)
        if complaint is None and bound.passed(value, operation):
            complaint = _TOO_MUCH
        if complaint is not None:
            report.error(line, f"operation {number}{_shown(operation)}", complaint)
            break
    report.raise_problems()
    line = patch.operations[0][1] if patch.operations else 1
    return unfolded.node(value, Origin(patch.source, line))


def _expect_library(report: Report) -> None:
    try:
        import jsonpatch  # noqa: F401, PLC0415  # few patches need it
    except ImportError:
        report.error(1, "", "JSON patches need the library jsonpatch", "pip install 'luksctl[edit]'")
        report.raise_problems()


@final
class _Bound:
    """Keeps operations from growing the values beyond all bounds, as copies of copies do."""

    def __init__(self, value: Any) -> None:
        self._count, self._depth = _measure(value)

    def passed(self, value: Any, operation: Any) -> bool:
        """Tell whether `value`, which came of the operation, is too large; it is only measured where it may be."""
        if operation["op"] in {"add", "replace"}:
            count, depth = _measure(operation["value"])
            self._count += count
            self._depth += depth
        if operation["op"] in {"copy", "move"} or self._is_too_much():
            self._count, self._depth = _measure(value)
        return self._is_too_much()

    def _is_too_much(self) -> bool:
        return self._count > _MAX_VALUES or self._depth > MAX_DEPTH


def _measure(value: Any) -> tuple[int, int]:
    """Return how many values there are, and how deep; of what is endless only that it is too much."""
    level, count, depth = [value], 0, 0
    while level and count <= _MAX_VALUES:
        count += len(level)
        depth += 1
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below += item.values()
            elif isinstance(item, list):
                below += item
        level = below
    return count, depth


def _complaint(operation: Any) -> str | None:
    """Return why this is no operation."""
    kind = operation.get("op")
    needs = _NEEDS.get(kind) if isinstance(kind, str) else None
    if needs is None:
        return f"op must be one of {', '.join(_NEEDS)}"
    missing = [field for field in needs if field not in operation]
    if missing:
        return f"{kind} needs {' and '.join(missing)}"
    if _measure(operation.get("value"))[1] > MAX_DEPTH:
        return _TOO_MUCH
    for field in ("path", "from"):
        pointer = operation.get(field, "")
        if field in needs and (not isinstance(pointer, str) or (pointer and not pointer.startswith("/"))):
            return f"{field} must be a pointer, which begins with /"
    return None


def _shown(operation: Any) -> str:
    kind, path = operation.get("op"), operation.get("path")
    return f" ({kind} {path})" if isinstance(kind, str) and kind in _NEEDS and isinstance(path, str) else ""


def _applied(value: Any, operation: Any) -> tuple[Any, str | None]:
    """Return the value after one operation, or why it does not apply."""
    from jsonpatch import (  # noqa: PLC0415  # few patches need it
        InvalidJsonPatch,
        JsonPatchConflict,
        JsonPatchTestFailed,
    )
    from jsonpatch import JsonPatch as Operations  # noqa: PLC0415
    from jsonpointer import JsonPointer, JsonPointerException  # noqa: PLC0415

    try:
        if operation["op"] == "test":
            found = JsonPointer(operation["path"]).resolve(value)
            return value, None if _identical(found, operation["value"]) else "the test failed: another value is there"
        if operation["op"] == "move" and f"{operation['path']}/".startswith(f"{operation['from']}/"):
            # Into itself is an error; onto itself nothing, if only it is there to be taken away.
            Operations([{"op": "remove", "path": operation["from"]}]).apply(value)
            return value, None if operation["path"] == operation["from"] else "a value cannot move into itself"
        return Operations([operation]).apply(value, in_place=True), None
    except JsonPatchTestFailed:
        return value, "the test failed"
    except (JsonPatchConflict, JsonPointerException, InvalidJsonPatch, KeyError, IndexError, TypeError):
        return value, "there is no such place in the config"


def _identical(left: Any, right: Any) -> bool:
    """Tell whether two plain values are equal as in RFC 6902: true is not 1, and 1 is 1.0."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_identical(left[name], right[name]) for name in left)
    if isinstance(left, list) and isinstance(right, list):
        pairs = zip(left, right, strict=False)
        return len(left) == len(right) and all(_identical(one, other) for one, other in pairs)
    return bool(left == right)
