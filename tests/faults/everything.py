"""Every cut of every operation, by several processes; the table of it goes into docs/reliability.md."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from tests.faults.operations import OPERATIONS
from tests.faults.recording import Kind, build_recorder
from tests.faults.trial import Trial

_DOCUMENT: Final = Path(__file__).parents[2] / "docs/reliability.md"
_BEGIN: Final = "<!-- the table of make faults begins -->\n"
_END: Final = "<!-- the table of make faults ends -->\n"
_SHOWN_FAILURES: Final = 5


@dataclass(frozen=True)
class Result:
    """What became of one operation."""

    name: str
    writes: int
    syncs: int
    boundaries: int
    tried: int
    failures: tuple[str, ...]

    def row(self) -> str:
        """Return its line of the table."""
        survived = self.tried - len(self.failures)
        return f"| {self.name} | {self.writes} | {self.syncs} | {self.boundaries} | {self.tried} | {survived} |\n"


def try_all(recorder: Path, seed: str, name: str) -> Result:
    """Boot from what every cut of one operation leaves."""
    with tempfile.TemporaryDirectory(prefix="faults-") as place:
        directory = Path(place) / "node"
        directory.mkdir()
        trial = Trial(recorder, directory, name, seed)
        failures = []
        for cut in trial.cuts:
            try:
                trial.boot_after(cut)
            except Exception as error:  # noqa: BLE001  # all of them are counted, and shown
                failures.append(f"{error!r} {' '.join(getattr(error, '__notes__', ()))}")
        kinds = [event.kind for event in trial.events]
        writes, syncs = kinds.count(Kind.WRITE), kinds.count(Kind.SYNC)
    return Result(name, writes, syncs, trial.boundaries, len(trial.cuts), tuple(failures))


def table(rows: Iterable[str]) -> Iterator[str]:
    """Yield the lines of the table."""
    yield "| Operation | Writes | Syncs | Boundaries | Media tried | Survived |\n|---|---|---|---|---|---|\n"
    yield from rows


def main(chosen: Sequence[str] = ()) -> int:
    """Try everything, or the `chosen` operations, renew the table as results come in, and return the exit code."""
    seed = os.environ.get("SEED", "0")
    failed = False
    with tempfile.TemporaryDirectory(prefix="faults-") as place:
        recorder = build_recorder(Path(place))
        workers = int(os.environ.get("JOBS") or os.cpu_count() or 1)
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            jobs = [pool.submit(try_all, recorder, seed, name) for name in chosen or OPERATIONS]
            for job in as_completed(jobs):
                result = job.result()
                failed |= bool(result.failures)
                print(result.row(), end="", flush=True)
                for failure in result.failures[:_SHOWN_FAILURES]:
                    print(f"  {failure}", flush=True)
                _renew(result)
    return 1 if failed else 0


def _renew(result: Result) -> None:
    """Put the row of one operation into the table; the others stay."""
    text = _DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = text.partition(_BEGIN)
    shown, _, after = rest.partition(_END)
    rows = {line.split("|")[1].strip(): line for line in shown.splitlines(keepends=True)[2:]}
    rows[result.name] = result.row()
    lines = table(rows[name] for name in OPERATIONS if name in rows)
    _DOCUMENT.write_text(before + _BEGIN + "".join(lines) + _END + after, encoding="utf-8")
