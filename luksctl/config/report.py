"""Where findings about one text are gathered, so that all of them are told at once."""

from __future__ import annotations

from luksctl.errors import ConfigError, Problem
from luksctl.hints import final


@final
class Report:
    """The problems and warnings found in the text that came from `source`."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._problems: list[Problem] = []
        self._warnings: list[str] = []
        self._endpoints: list[tuple[int, str, str]] = []

    def error(self, line: int, path: str, message: str, hint: str | None = None) -> None:
        """Note what is wrong at the 1-based `line` and YAML `path`."""
        self._problems.append(Problem(path, message, file=self.source, line=line, hint=hint))

    def warn(self, text: str) -> None:
        """Note something that is allowed but should be known; said once, however often it is noted."""
        if text not in self._warnings:
            self._warnings.append(text)

    def note_endpoint(self, line: int, path: str, endpoint: str) -> None:
        """Remember an endpoint and its place: whether it may be in plain text, the policy says further down."""
        self._endpoints.append((line, path, endpoint))

    @property
    def endpoints(self) -> tuple[tuple[int, str, str], ...]:
        """Return line, path and text of every endpoint."""
        return tuple(self._endpoints)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return the warnings in the order they were noted."""
        return tuple(self._warnings)

    @property
    def failed(self) -> bool:
        """Tell whether there is any problem."""
        return bool(self._problems)

    def raise_problems(self) -> None:
        """Raise ConfigError with every problem, in order of line; do nothing where there is none."""
        if self._problems:
            raise ConfigError(tuple(sorted(self._problems, key=lambda problem: problem.line or 0)))
