"""The rules of editing a text that somebody has to accept: errors come back into the editor, and nothing is lost.

saved as it was, or empty          nothing is done
not accepted                       the editor opens again, with the reason on top
not accepted, and saved unchanged  that is the end, and the text is kept
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from luksctl.config.yamltext import BYTE_ORDER_MARK
from luksctl.errors import ConfigError, LuksctlError, Refused
from luksctl.hints import Final, final
from luksctl.value import replace

SOURCE: Final = "the edited config"
_NAME: Final = "machine.yaml"
_MARK: Final = "# luksctl:"
# A byte order mark is one at the very beginning of a file alone.
_ORDER_MARK: Final = BYTE_ORDER_MARK.encode()
_ABOUT: Final = (
    f"{_MARK} These lines are dropped. To leave everything as it is, save the text",
    f"{_MARK} unchanged, or save nothing at all.",
)


@final
class Editing:
    """One text in one file, in a directory of its own that only its owner can read."""

    def __init__(self, directory: str, edit: Callable[[str], None], tell: Callable[[str], None]) -> None:
        """`directory` is where the file's directory is made: one in memory, since the text holds passphrases.

        `edit` has the file edited, and `tell` says where it is kept.
        """
        self._directory = os.path.join(directory, f"edit-{os.urandom(6).hex()}")
        self._edit = edit
        self._tell = tell
        self.path = os.path.join(self._directory, _NAME)

    def run(
        self, text: bytes, take: Callable[[bytes], int], *, keep: bool, held: Callable[[bytes], bool]
    ) -> int | None:
        """Have `text` edited until `take` accepts it, and return what `take` did; None where nothing was changed.

        `take` refuses with ConfigError or Refused; any other error ends the editing. A changed text is kept where
        `keep` says so, and after an error, unless `held` says that somebody else has it. Cut: nothing, as the file is
        in memory.
        """
        os.makedirs(self._directory, mode=0o700)
        try:
            code = self._until_taken(text, take)
        except BaseException:
            saved = self._saved(text)
            self._end(worth_it=saved != text and _content(saved) and not held(saved))
            raise
        self._end(worth_it=keep and code is not None)
        return code

    def _end(self, *, worth_it: bool) -> None:
        """Say where the text is, or remove it, and what an editor left beside it."""
        if worth_it:
            self._tell(f"the edited text is kept in {self.path}, until the next boot")
            return
        for name in os.listdir(self._directory):
            os.unlink(os.path.join(self._directory, name))
        os.rmdir(self._directory)

    def _until_taken(self, text: bytes, take: Callable[[bytes], int]) -> int | None:
        shown, refusal = text, None
        while True:
            self._write(shown, refusal)
            self._edit(self.path)
            saved = self._saved(shown)
            if saved == text or not _content(saved):
                return None
            if refusal is not None and saved == shown:
                raise refusal
            try:
                return take(saved)
            except (ConfigError, Refused) as error:
                shown, refusal = saved, error

    def _write(self, text: bytes, refusal: LuksctlError | None) -> None:
        head = [*_ABOUT, *(() if refusal is None else _reasons(refusal))]
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        front = _ORDER_MARK if text.startswith(_ORDER_MARK) else b""
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(front + "".join(f"{line}\n" for line in head).encode() + text.removeprefix(_ORDER_MARK))

    def _saved(self, otherwise: bytes) -> bytes:
        """Return the text without our own lines on top."""
        try:
            with open(self.path, "rb") as stream:
                saved = stream.read()
        except FileNotFoundError:
            return otherwise
        front = _ORDER_MARK if saved.startswith(_ORDER_MARK) else b""
        lines = saved.removeprefix(_ORDER_MARK).splitlines(keepends=True)
        mark = _MARK.encode()
        while lines and lines[0].startswith(mark):
            del lines[0]
        return front + b"".join(lines)


def _content(text: bytes) -> bool:
    """Tell whether there is anything but comments and empty lines."""
    lines = text.removeprefix(_ORDER_MARK).splitlines()
    return any(line.strip() and not line.lstrip().startswith(b"#") for line in lines)


def _reasons(error: LuksctlError) -> list[str]:
    """Return why the text was not taken, as lines to put in front, with the line numbers that the file will have."""
    told = list(_told(error, 0))
    shift = len(_ABOUT) + len(told)
    return [f"{_MARK} {line}" for line in _told(error, shift)]


def _told(error: LuksctlError, shift: int) -> Iterator[str]:
    yield "It was not taken:"
    if isinstance(error, ConfigError):
        for problem in error.problems:
            moved = problem.file == SOURCE and problem.line is not None
            shown = replace(problem, file=None, line=(problem.line or 0) + shift) if moved else problem
            yield f"  line {shown}" if moved else f"  {shown}"
            if problem.hint is not None:
                yield f"    hint: {problem.hint}"
    else:
        yield from (f"  {line}" for line in str(error).splitlines())
    if error.hint is not None:
        yield f"  hint: {error.hint}"
