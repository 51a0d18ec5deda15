"""The boot hook: `luksctl-boot VOLUME` opens one volume and exits, `luksctl-boot --retry VOLUME` tries until it opens.

Neither asks a KMS: there may be no network yet. `luksctl-boot --network VOLUME` does, and tries until it opens as well.

Its own entry, because it must start fast and depend on little: no argument parser, no tables, one line per step on
standard error with the journal's priority prefix. Exit codes are those of docs/errors.md.
"""

from __future__ import annotations

import sys
from contextlib import suppress

from luksctl.errors import DeviceError, LuksctlError, UsageError
from luksctl.model.config import EPHEMERAL, STATE
from luksctl.model.destroys import Destroys
from luksctl.model.step import Done
from luksctl.node.boot import open_volume
from luksctl.node.report import Report
from luksctl.node.waiting import boot_deadline
from luksctl.wiring import build_node, read_settings

_ERROR, _WARNING, _NOTICE, _INFO = "<3>", "<4>", "<5>", "<6>"


def run(arguments: list[str] | None = None) -> int:
    """Run the hook and return its exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        report = _run(words)
    except LuksctlError as error:
        return _failed(error)
    except OSError as error:
        place = "" if error.filename is None else f"{error.filename}: "
        return _failed(DeviceError(f"{place}{error.strerror or type(error).__name__}"))
    except Exception as error:  # noqa: BLE001  # the outermost place
        return _failed(LuksctlError(_bug(error), hint="please report it; luksctl boot VOLUME --debug says more"))
    for note in report.notes:
        _say(_WARNING, f"{report.volume}: {note}")
    if report.exit_code:
        return 0  # handed over, and told by then
    by = f", opened {report.opened_by}" if report.opened_by else ""
    _say(_NOTICE, f"{report.volume} is {report.state} ({report.device}){by}")
    _tell_systemd()
    return 0


def _tell_systemd() -> None:
    """Say that the work is done before the process has ended.

    A thread that asks a TPM which does not answer sits in the kernel and keeps the process from ending until the kernel
    gives the TPM up: minutes after another key opened the volume. Whoever waits for the volume need not wait for that.
    """
    from luksctl.sd_notify import READY, notify  # noqa: PLC0415  # the start is timed, and this is the end

    try:
        notify(READY)
    except OSError as error:
        _say(_WARNING, f"systemd could not be told that it is open: {error.strerror}")


def _failed(error: LuksctlError) -> int:
    _say(_ERROR, str(error))
    for line in (*getattr(error, "__notes__", ()), *getattr(error, "log", ())):
        _say(_ERROR, line)
    if error.hint is not None:
        _say(_NOTICE, f"next: {error.hint}")
    return error.exit_code


def _bug(error: Exception) -> str:
    """Say where, but not what: the text of an unforeseen error may hold anything."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    place = "" if last is None else f" at {last.tb_frame.f_code.co_filename}:{last.tb_lineno}"
    return f"a bug in luksctl: {type(error).__name__}{place}"


def _run(words: list[str]) -> Report:
    match words:
        case ["--retry", volume] if volume in (STATE, EPHEMERAL):
            from luksctl.node.retry import retry  # noqa: PLC0415  # the start of the other case is timed

            return retry(build_node(read_settings(), announce, tell=_tell, network=False), volume)
        case ["--network", volume] if volume in (STATE, EPHEMERAL):
            from luksctl.node.network import with_network  # noqa: PLC0415  # as above

            return with_network(build_node(read_settings(), announce, tell=_tell), volume)
        case [volume] if volume in (STATE, EPHEMERAL):
            node = build_node(read_settings(), announce, tell=_tell, network=False)
            return open_volume(node, volume, boot_deadline(node), booting=True)
        case _:
            raise UsageError(f"usage: luksctl-boot [--retry | --network] {STATE}|{EPHEMERAL}")


def announce(done: Done) -> None:
    """Say what was done, as one line of the journal."""
    step = done.step
    name = f"{step.volume}: {type(step).__name__}"
    slot = "" if done.slot is None else f" slot {done.slot}"
    if done.skipped is not None:
        _say(_WARNING, f"{name}{slot} skipped: {done.skipped}")
        return
    level = _NOTICE if step.destroys is Destroys.DATA else _INFO
    _say(level, f"{name}{slot} {done.detail}".rstrip())


def _tell(text: str) -> None:
    _say(_NOTICE, text)


def _say(priority: str, text: str) -> None:
    # Steps are told between two writes to a disk: a journal that has gone away is no reason to stop there.
    with suppress(OSError):
        for line in text.splitlines() or [""]:
            sys.stderr.write(f"{priority}{line}\n")
        sys.stderr.flush()
