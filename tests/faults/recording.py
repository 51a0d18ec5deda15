"""Run an operation in a process of its own and write down what it really writes and syncs, in order (recorder.c)."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

_HEAD: Final = struct.Struct("<cBHQQ")
_ROOT: Final = Path(__file__).parents[2]


class Kind(Enum):
    """What a record is about, as recorder.c writes it."""

    WRITE = b"W"
    TRUNCATE = b"T"
    SYNC = b"S"
    CREATE = b"C"
    MKDIR = b"D"
    RENAME = b"R"
    UNLINK = b"U"


@dataclass(frozen=True)
class Event:
    """One call that changed or synced the file `name`; a rename has the new name as its data."""

    kind: Kind
    name: str
    offset: int = 0
    data: bytes = b""
    synchronous: bool = False


def build_recorder(directory: Path) -> Path:
    """Compile the recorder into `directory`."""
    made = directory / "recorder.so"
    source = Path(__file__).with_name("recorder.c")
    flags = ("-shared", "-fPIC", "-O1", "-D_LARGEFILE64_SOURCE", "-U_FORTIFY_SOURCE")
    subprocess.run([os.environ.get("CC", "cc"), *flags, "-o", str(made), str(source)], check=True)
    return made


def record(recorder: Path, directory: Path, operation: str) -> list[Event]:
    """Perform `operation` on the files in `directory`; return what it did to them, by names relative to it."""
    log = directory.with_name(f"{directory.name}.log")
    log.unlink(missing_ok=True)
    environment = {
        **os.environ,
        "LD_PRELOAD": str(recorder),
        "FAULTS_LOG": str(log),
        "FAULTS_UNDER": str(directory),
    }
    argv = [sys.executable, "-m", "tests.faults.perform", str(directory), operation]
    ended = subprocess.run(argv, check=False, env=environment, cwd=_ROOT, capture_output=True)
    if ended.returncode != 0:
        raise AssertionError(f"{operation}: {ended.stderr.decode()}")
    return list(_events(log.read_bytes(), str(directory)))


def _events(log: bytes, prefix: str) -> list[Event]:
    found = []
    at = 0
    while at < len(log):
        kind, flags, name_length, length, offset = _HEAD.unpack_from(log, at)
        at += _HEAD.size
        name = log[at : at + name_length].decode().removeprefix(prefix).strip("/")
        at += name_length
        data = log[at : at + length]
        at += length
        if kind == Kind.RENAME.value:
            data = data.decode().removeprefix(prefix).strip("/").encode()
        found.append(Event(Kind(kind), name, offset, data, bool(flags & 1)))
    return found
