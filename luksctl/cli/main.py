# PYTHON_ARGCOMPLETE_OK
"""`luksctl VERB …`: find the verb, import its module and no other, and turn every error into a message and a code."""

from __future__ import annotations

import gc
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence

from luksctl.cli.command_line import Command, common_parser, understand
from luksctl.cli.console import Console
from luksctl.cli.context import Context
from luksctl.cli.verbs import VERBS, overview
from luksctl.errors import ConfigError, DeviceError, LuksctlError, UsageError
from luksctl.hints import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from luksctl.model.kms import KmsRoom
    from luksctl.node.node import Paths

_INTERRUPTED: Final = 130
_BROKEN_PIPE: Final = 141
_BUG: Final = 1
# Objects between two searches for garbage: imports leave none, and the usual 700 would search them a dozen times.
_COLLECT_AFTER: Final = 50_000


def start(kms: Callable[[], KmsRoom] | None = None) -> NoReturn:
    """Run and end the process."""
    sys.exit(run(kms))


def run(kms: Callable[[], KmsRoom] | None = None, paths: Paths | None = None) -> int:
    """Run the command line of this process and return its exit code; `kms` gives what `luksctl kms` works with."""
    gc.set_threshold(_COLLECT_AFTER)
    if "_ARGCOMPLETE" in os.environ:
        from luksctl.cli.complete import complete  # noqa: PLC0415  # only the shell asks for it

        complete()
    code = main(sys.argv[1:], paths, kms)
    # The process ends: the interpreter would search all modules once more, which is a tenth of a short verb.
    gc.freeze()
    return code


def main(words: Sequence[str], paths: Paths | None = None, kms: Callable[[], KmsRoom] | None = None) -> int:
    """Run `words` and return the exit code; never raises. `paths` None are those of this machine."""
    context = Context(Console(json="--json" in words), paths=paths, kms=kms)
    try:
        return _end(*_attempt(words, context), context.console)
    except BrokenPipeError:
        # Whoever read us is gone, and so is what the interpreter would still flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE


def _attempt(words: Sequence[str], context: Context) -> tuple[int, dict[str, object] | None]:
    """Run `words`, and return the exit code and what ended it, as plain values; that is told for people already."""
    debug = "--debug" in words
    try:
        return _dispatch(words, context), None
    except LuksctlError as error:
        return _tell(error, context.console, debug=debug)
    except KeyboardInterrupt:
        context.console.note("luksctl: interrupted")
        return _INTERRUPTED, {**LuksctlError("interrupted").fields(), "error": "Interrupted", "exitCode": _INTERRUPTED}
    except BrokenPipeError:
        raise
    except OSError as error:
        return _tell(_operating_system(error), context.console, debug=debug)
    except Exception as error:  # noqa: BLE001  # the outermost place; nothing is hidden, see below
        return _bug(error, context.console, debug=debug)


def _end(code: int, error: dict[str, object] | None, console: Console) -> int:
    """Print what is left to print, and return the code; an output that takes nothing is an error, too."""
    try:
        console.end(error)
    except BrokenPipeError:
        raise
    except OSError as lost:
        console.note(f"luksctl: standard output takes nothing: {lost.strerror}")
        return code or DeviceError.exit_code
    return code


def _dispatch(words: Sequence[str], context: Context) -> int:
    common = common_parser().parse(words)
    context.console.json = common.json
    if common.role is not None:
        from luksctl.cli.gate import admitted  # noqa: PLC0415  # only where sshd starts it

        command = admitted(common, os.environ, context.console)
        return 0 if command is None else _run(command, context)
    if common.version or common.help or common.verb is None:
        return _about(common, context.console)
    command = understand(common)
    return 0 if command is None else _run(command, context)


def _run(command: Command, context: Context) -> int:
    arguments = command.arguments
    context.console.json = arguments.json
    context.settings_path = arguments.settings
    if arguments.hosts:
        from luksctl.cli.nodes import run_there  # noqa: PLC0415  # ssh is for those who name nodes

        return run_there(command, context.console)
    if arguments.attached:
        from luksctl.cli.sending import receive  # noqa: PLC0415  # only where another machine started it

        receive(command)
    return command.module.run(arguments, context)


def _about(common: Namespace, console: Console) -> int:
    if common.version:
        from importlib.metadata import version  # noqa: PLC0415  # slow, and asked for once in a while

        console.document({"version": version("luksctl")})
        console.say(f"luksctl {version('luksctl')}")
        return 0
    if common.help:
        console.document({"verbs": [verb.name for verb in VERBS]})
        console.say(overview().rstrip())
        return 0
    console.say(overview().rstrip())
    raise UsageError("no verb", hint="luksctl --help")


# ---- errors ---------------------------------------------------------------------------------------------------------


def _tell(error: LuksctlError, console: Console, *, debug: bool) -> tuple[int, dict[str, object]]:
    """Print the error for people on standard error, and return its code and its fields."""
    if debug:
        _trace(error)
    if isinstance(error, ConfigError):
        for problem in error.problems:
            console.note(f"luksctl: {problem}")
            if problem.hint is not None:
                console.note(f"  hint: {problem.hint}")
    else:
        console.note(f"luksctl: {error}")
    for line in (*getattr(error, "__notes__", ()), *getattr(error, "log", ())):
        console.note(f"  {line}")
    if error.hint is not None:
        console.note(f"hint: {error.hint}")
    return error.exit_code, error.fields()


def _operating_system(error: OSError) -> LuksctlError:
    place = "" if error.filename is None else f"{error.filename}: "
    hint = "run it as root" if isinstance(error, PermissionError) and os.geteuid() != 0 else None
    return DeviceError(f"{place}{error.strerror or type(error).__name__}", hint=hint)


def _bug(error: Exception, console: Console, *, debug: bool) -> tuple[int, dict[str, object]]:
    """Say where, but not what: the text of an unforeseen error may hold anything."""
    if debug:
        _trace(error)
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    place = "" if last is None else f" at {last.tb_frame.f_code.co_filename}:{last.tb_lineno}"
    cause = f"a bug in luksctl: {type(error).__name__}{place}"
    return _tell(
        LuksctlError(cause, hint="please report it, with what the same command prints with --debug"),
        console,
        debug=False,
    )


def _trace(error: BaseException) -> None:
    import traceback  # noqa: PLC0415  # only for --debug

    traceback.print_exception(error)
