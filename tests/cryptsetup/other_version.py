"""The installed libcryptsetup, made to say that it is another version: those that corrupt data are not at hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from luksctl.cryptsetup.library import Library, version
from luksctl.cryptsetup.soundness import exact_version

_WITH_LIBRARY = """
import sys
from luksctl.cryptsetup.library import Library, open_library

open_library(Library.CRYPTSETUP, sys.argv.pop(1))
"""


def library_that_says(text: str, directory: Path) -> Path:
    """Return a copy of the library that has `text` where its version stands; all else of it is as it was."""
    told = exact_version()
    assert told is not None
    version(Library.CRYPTSETUP)
    maps = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    (path,) = {line.split(maxsplit=5)[5] for line in maps if "/libcryptsetup.so" in line}
    content = Path(path).read_bytes()
    before, after = (b"\0%s\0" % each.encode() for each in (told, text))
    assert content.count(before) == 1
    copy = directory / "libcryptsetup.so.12"
    copy.write_bytes(content.replace(before, after.ljust(len(before), b"\0")))
    return copy


def run_with_library(library: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `program` in a Python of its own that has opened `library`."""
    command = [sys.executable, "-c", _WITH_LIBRARY + program, str(library), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
