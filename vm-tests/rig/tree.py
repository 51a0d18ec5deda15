"""Lay the program under test out as a second erofs disk: the guest's root has it as if installed.

Everything comes from the running interpreter's environment (no network, no build): luksctl with its compiled module,
and the distributions that pyproject.toml names. Sources are compiled beforehand, for starting Python is slow in an
emulated guest. The guest sees /opt/luksctl/… and one script in /usr/bin for each entry of [project.scripts].
"""

from __future__ import annotations

import compileall
import functools
import importlib.metadata
import py_compile
import re
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

from rig import host
from rig.cache import built, fingerprint
from rig.errors import BuildFailed

EXTRAS = ("terminal", "tpm", "kms")
PREFIX = "opt/luksctl"
SHIPPED = {".py", ".so", ".typed", ".service", ".timer", ".target", ".mount", ".socket", ".path", ".rules", ".conf"}
NOT_AT_RUN_TIME = {"pycparser", "setuptools"}

SCRIPT = """#!/usr/bin/python3 -I
import sys

sys.path.insert(0, "/{prefix}")
from {module} import {function}

sys.exit({function}())
"""


@functools.cache
def tree() -> Path:
    """Return the disk image with the checkout as it is now, laid out anew (under 2 s) when its content changed.

    One process keeps to one tree, whatever is edited meanwhile: no story changes programs halfway.
    Raises BuildFailed when a distribution that pyproject.toml names is not installed here.
    """
    project = tomllib.loads((host.CHECKOUT / "pyproject.toml").read_text())["project"]
    files = package_files(host.CHECKOUT / "luksctl") | dependency_files(project)
    scripts = _scripts(project)
    parts: list[bytes] = [sys.version.encode()]
    for name in sorted(files):
        parts += [name.encode(), files[name].read_bytes()]
    parts += [text.encode() for item in sorted(scripts.items()) for text in item]

    def build(work: Path) -> None:
        with host.progress("laying out the program under test"):
            _build(work, files, scripts)

    return built("tree", fingerprint(parts), build) / "tree.erofs"


def package_files(package: Path) -> dict[str, Path]:
    """Return what a package ships, by its path below the package's parent."""
    return {
        str(file.relative_to(package.parent)): file
        for file in package.rglob("*")
        if file.is_file() and file.suffix in SHIPPED and "__pycache__" not in file.parts
    }


def dependency_files(project: dict[str, Any]) -> dict[str, Path]:
    """Return the installed files of everything the project needs at run time, directly or not."""
    wanted: list[str] = list(project["dependencies"])
    for extra in EXTRAS:
        wanted += project.get("optional-dependencies", {}).get(extra, [])
    optional = set(wanted) - set(project["dependencies"])
    files: dict[str, Path] = {}
    seen = set(NOT_AT_RUN_TIME)
    while wanted:
        requirement = wanted.pop()
        name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
        if name in seen or "extra ==" in requirement:
            continue
        seen.add(name)
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError as error:
            if requirement in optional:
                continue
            raise BuildFailed(f"{name} is not installed in {sys.prefix}, and luksctl needs it") from error
        wanted += distribution.requires or []
        for file in distribution.files or []:
            if file.suffix in SHIPPED and ".." not in file.parts:
                files[str(file)] = Path(str(file.locate()))
    return files


def _scripts(project: dict[str, Any]) -> dict[str, str]:
    entries: dict[str, str] = project.get("scripts", {})
    scripts = {}
    for name, entry in entries.items():
        module, _, function = entry.partition(":")
        scripts[name] = SCRIPT.format(prefix=PREFIX, module=module, function=function)
    return scripts


def _build(work: Path, files: dict[str, Path], scripts: dict[str, str]) -> None:
    top = work / "top"
    for name, source in files.items():
        target = top / PREFIX / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    # Unchecked, so that Python never asks for a source's time: the disk is made anew whenever a source changes.
    compileall.compile_dir(
        top / PREFIX,
        quiet=1,
        workers=0,
        stripdir=str(top),
        prependdir="/",
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    bin_directory = top / "usr" / "bin"
    bin_directory.mkdir(parents=True)
    for name, text in scripts.items():
        (bin_directory / name).write_text(text)
        (bin_directory / name).chmod(0o755)
    host.run(["mkfs.erofs", "-T0", "--all-root", str(work / "tree.erofs"), str(top)])
    shutil.rmtree(top)
