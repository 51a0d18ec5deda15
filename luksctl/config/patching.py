"""Apply patches to a config text: the seam that every verb uses. With no patch, not a byte changes."""

from __future__ import annotations

import re
from collections.abc import Sequence

from luksctl.config.documents import parse_machine_config
from luksctl.config.edits import Edit
from luksctl.config.patch_documents import Stand
from luksctl.config.patch_load import PatchText, load_patch
from luksctl.config.patch_write import written as written_text
from luksctl.config.report import Report
from luksctl.config.tree import grow
from luksctl.config.yamltext import BYTE_ORDER_MARK, decode
from luksctl.errors import ConfigError, Problem
from luksctl.hints import Final
from luksctl.model.config import MachineConfig
from luksctl.value import field, frozen, replace

# What a problem says of another line, which is one of the result as well.
_EARLIER: Final = re.compile(r"(?<=first in line )\d+")
# What the parser counts as the end of a line.
_BREAK: Final = re.compile("\r\n|[\n\r\x85\u2028\u2029]")


@frozen
class Patched:
    """A patched text. `notes` say what a patch asks for without an effect; `edits` are what was done to `base`."""

    text: bytes = field(repr=False)
    source: str
    base: str = field(repr=False, default="")
    edits: tuple[Edit, ...] = field(repr=False, default=())
    notes: tuple[str, ...] = ()

    def config(self) -> MachineConfig:
        """Return the config; ConfigError where it is not valid, with the place in the base or patch of each problem."""
        try:
            config = parse_machine_config(self.text, self.source)
        except ConfigError as error:
            raise ConfigError(tuple(self._traced(problem) for problem in error.problems)) from error
        return replace(config, warnings=(*self.notes, *config.warnings))

    def _traced(self, problem: Problem) -> Problem:
        if problem.line is None or not self.edits:
            return problem
        file, line = _trace(self, problem.line)
        message = _EARLIER.sub(lambda found: self._earlier(int(found[0]), file), problem.message)
        return replace(problem, message=message, file=file, line=line)

    def _earlier(self, line: int, here: str) -> str:
        file, first = _trace(self, line)
        return str(first) if file == here else f"{first} of {file}"


def apply_patches(text: bytes, source: str, patches: Sequence[PatchText], *, keys_by_slot: bool = False) -> Patched:
    """Return `text` with `patches` applied in their order; `source` names it in messages.

    `keys_by_slot` merges the keys of a volume by slot; without it, they are appended as in Talos, unless the policy in
    the text says `patchKeys: bySlot`. Raises ConfigError where the text or a patch cannot be read, and where a patch
    does not apply. The result may still be an invalid config: see `Patched.config`.
    """
    loaded = [load_patch(patch) for patch in patches]
    if not loaded:
        return Patched(text, source)
    report = Report(source)
    characters = decode(text, report)
    documents = grow(characters, report)
    if not documents and not report.failed:
        report.error(1, "", "there is no document to patch", "a file that was cut to nothing is no config")
    report.raise_problems()
    stand = Stand(documents, report, keys_by_slot=keys_by_slot)
    for patch in loaded:
        stand.apply(patch)
    written = written_text(characters, stand.documents, stand.roots)
    if written is None:
        message = "the patched config cannot be written as YAML that reads the same"
        hint = "write the text in a simpler form, and patch it then"
        raise ConfigError((Problem("", message, file=source, hint=hint),))
    mark = BYTE_ORDER_MARK if text.startswith(BYTE_ORDER_MARK.encode()) else ""
    notes = (*stand.notes, *([f"{source}: written anew, without its comments"] if written.anew else []))
    return Patched((mark + written.text).encode(), source, characters, written.edits, notes)


def _trace(patched: Patched, line: int) -> tuple[str, int]:
    """Return the file and line that a line of the result comes from: the patch, where it brought in any of it."""
    text = patched.text.decode().removeprefix(BYTE_ORDER_MARK)
    breaks = list(_BREAK.finditer(text))
    start = 0 if line == 1 else breaks[line - 2].end()
    stop = breaks[line - 1].start() if line <= len(breaks) else len(text)
    shift = 0  # how much further a place is in the result than in the base
    for edit in patched.edits:
        begin = edit.start + shift
        if begin >= stop:
            break
        if edit.lines and start < begin + len(edit.text):
            number = _breaks(text, begin, max(start, begin))
            return edit.lines[min(number, len(edit.lines) - 1)]
        shift += len(edit.text) - (edit.end - edit.start)
    return patched.source, _breaks(patched.base, 0, max(start - shift, 0)) + 1


def _breaks(text: str, start: int, stop: int) -> int:
    return sum(1 for _ in _BREAK.finditer(text, start, stop))
