"""How long a boot waits for the clock, as Talos words it: machine.time, or a TimeSyncConfig document.

    machine: {time: {disabled: false, servers: […], bootTimeout: 2m}}
    apiVersion: v1alpha1, kind: TimeSyncConfig, enabled: true, bootTimeout: 2m

Who synchronises it, and with which servers, is the distribution's matter; the rest is carried.
"""

from __future__ import annotations

from collections.abc import Sequence

from luksctl.config.block import Block
from luksctl.config.report import Report
from luksctl.config.split import Document
from luksctl.hints import Final
from luksctl.model.config import CLOCK_WAIT_S
from luksctl.units import parse_duration_s

_KIND: Final = "TimeSyncConfig"
_TIMEOUT: Final = "bootTimeout"
# Talos may wait for ever; a node that is to come up without its KMS must not.
LONGEST_S: Final = 3600.0


def read_clock_wait_s(documents: Sequence[Document], report: Report) -> float:
    """Return the seconds, 0 where the clock is not synchronised at all; the document goes before machine.time."""
    wait_s = CLOCK_WAIT_S
    for document in sorted(documents, key=lambda document: document.kind is None):
        block = _block(document)
        if block is None:
            continue
        off = block.scalar("disabled") == "true" if document.kind == "" else block.scalar("enabled") == "false"
        wait_s = 0.0 if off else _timeout_s(block, report)
    return wait_s


def _block(document: Document) -> Block | None:
    if document.kind == "":
        machine = document.block.block("machine")
        return machine.block("time") if machine is not None and machine.given("time") else None
    return document.block if document.kind is None and document.block.scalar("kind") == _KIND else None


def _timeout_s(block: Block, report: Report) -> float:
    text = block.scalar(_TIMEOUT)
    try:
        given_s = parse_duration_s(text) if text else 0.0
    except ValueError as error:
        report.warn(f"{_TIMEOUT}: {error}; the clock is waited for {CLOCK_WAIT_S:.0f} s")
        return CLOCK_WAIT_S
    if given_s > LONGEST_S:
        report.warn(f"{_TIMEOUT}: the clock is waited for {LONGEST_S:.0f} s at most")
    return min(given_s, LONGEST_S) or CLOCK_WAIT_S
