"""Probes of the node as a whole: its config, META, what it needs installed, and the timer that proves keys."""

from __future__ import annotations

from collections.abc import Iterator

from luksctl.hints import Final
from luksctl.model.config import STATE
from luksctl.model.meta import MetaState
from luksctl.node.finding import Finding, NodeFacts, Weight
from luksctl.node.units import CHECK_SERVICE, CHECK_TIMER

CHECK_UNITS: Final = (CHECK_TIMER, CHECK_SERVICE)


def no_config(facts: NodeFacts) -> Iterator[Finding]:
    """Find a node that waits for its first config."""
    reason = facts.known.waiting_for_config
    if reason is not None:
        yield Finding(Weight.BROKEN, f"no machine config: {reason}", "luksctl apply-config --insecure -f FILE")


def wrong_config(facts: NodeFacts) -> Iterator[Finding]:
    """Find every problem of the config that rules."""
    error = facts.known.view.problem
    if error is not None:
        for problem in error.problems:
            yield Finding(Weight.BROKEN, f"the machine config is wrong: {problem}", problem.hint or error.hint)


def bad_meta(facts: NodeFacts) -> Iterator[Finding]:
    """Find a META that is not there, torn, or without usable keys of STATE."""
    meta = facts.known.meta
    because = "" if meta.problem is None else f" ({meta.problem})"
    match meta.state:
        case MetaState.OK | MetaState.BLANK:
            pass
        case MetaState.UNREADABLE:
            what = f"META is unreadable{because}: nothing is formatted, and no plain volume is mounted"
            yield Finding(Weight.BROKEN, what, "luksctl meta list; put its 1 MiB back from a copy")
        case MetaState.ABSENT:
            what = f"META is not there{because}: without a config at hand nothing opens STATE, and nothing is formatted"
            yield Finding(Weight.RISK, what, "put its disk back, or name it in the settings")
        case MetaState.FIRST_ONLY | MetaState.SECOND_ONLY | MetaState.DIFFER:
            what = f"META is {meta.state}{because}: it serves, and one more failure would lose it"
            yield Finding(Weight.RISK, what, f"luksctl boot {STATE}")
    if meta.tag9_problem is not None:
        what = f"META's tag 9, the keys of STATE, cannot be used: {meta.tag9_problem}"
        yield Finding(Weight.RISK, what, "luksctl apply-config -f FILE writes it anew")


def meta_behind(facts: NodeFacts) -> Iterator[Finding]:
    """Find a META without the keys by which the config in STATE opens STATE."""
    view, meta = facts.known.view, facts.known.meta
    if view.ruling is None or not view.stored or meta.state in (MetaState.ABSENT, MetaState.UNREADABLE):
        return
    if meta.tag9_problem is None and view.ruling.encryption_of(STATE) != meta.state_encryption:
        what = "META does not hold the keys of STATE that the config in STATE lists: a boot may not open it"
        yield Finding(Weight.RISK, what, f"luksctl sync {STATE}")


def unreadable_expectations(facts: NodeFacts) -> Iterator[Finding]:
    """Find a record of what must be encrypted that nobody understands."""
    if not facts.expected_is_readable:
        what = "the record of which volumes must be encrypted cannot be understood, so nothing plain is mounted"
        yield Finding(Weight.RISK, what, "luksctl enable --encrypted VOLUME,…")


def old_library(facts: NodeFacts) -> Iterator[Finding]:
    """Find a libcryptsetup that is not there or too old."""
    problem = facts.library_problem
    if problem is not None:
        yield Finding(Weight.BROKEN, problem.cause, problem.hint)


def unreadable_tables(facts: NodeFacts) -> Iterator[Finding]:
    """Find an fstab or crypttab that nobody could look at."""
    if facts.lines is None:
        yield Finding(Weight.NOTE, "/etc/fstab or /etc/crypttab cannot be read", "run it as root")


def check_timer(facts: NodeFacts) -> Iterator[Finding]:
    """Find a timer that does not run, and a last check that failed."""
    if facts.units is None:
        yield Finding(Weight.NOTE, "systemd does not answer, so its units were not looked at", "systemctl status")
        return
    timer, service = (facts.units.get(name) for name in CHECK_UNITS)
    if timer is None or not timer.present:
        yield Finding(Weight.RISK, f"nothing proves the keys from time to time: no {CHECK_TIMER}", "luksctl enable")
    elif timer.active != "active":
        what = f"nothing proves the keys from time to time: {CHECK_TIMER} is {timer.active}"
        yield Finding(Weight.RISK, what, f"systemctl start {CHECK_TIMER}")
    if service is not None and service.active == "failed":
        yield Finding(Weight.RISK, f"the last check failed ({CHECK_SERVICE})", "luksctl check")
