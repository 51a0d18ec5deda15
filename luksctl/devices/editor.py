"""Start the editor of the person at the terminal, which is theirs to choose, and wait until it has ended."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping

from luksctl.errors import DeviceError
from luksctl.hints import Final

# The first that is set; Talos looks at the first two.
_VARIABLES: Final = ("TALOS_EDITOR", "EDITOR")
_OTHERWISE: Final = "vi"


def editor_of(environment: Mapping[str, str]) -> str:
    """Return the command of the editor, arguments included."""
    return next((environment[name] for name in _VARIABLES if environment.get(name)), _OTHERWISE)


def edit_file(path: str) -> None:
    """Have the file at `path` edited at this terminal; DeviceError where the editor fails.

    Unlike other programs it sees all of the environment: terminal, locale and home are what an editor needs.
    """
    import subprocess  # noqa: PLC0415  # few verbs start a program

    command = editor_of(os.environ)
    try:
        done = subprocess.run([*shlex.split(command), path], check=False)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "its command cannot be understood"
        raise DeviceError(f"the editor {command} could not be started: {reason}", hint="export EDITOR=nano") from error
    if done.returncode != 0:
        raise DeviceError(f"the editor {command} ended with {done.returncode}")
