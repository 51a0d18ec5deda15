"""Fixtures and reports of the stories: machines and disks that are gone when a story ends, whatever happened in it."""

from __future__ import annotations

import faulthandler
import os
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from kms_at_host import Kms
from rig import firmware, host
from rig.cache import fingerprint
from rig.disk import Shelf
from rig.errors import LostVM, Precondition, RigError
from rig.image import image, image_key
from rig.machine import Machine, retried_boots

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from rig.spec import MachineSpec

STORY_TIMEOUT_S = 7200 if os.environ.get("FAULTS") == "all" else 900
LONGEST = (
    "test_power_cuts",
    "test_secure_boot",
    "test_tpm",
    "test_reset",
    "test_in_place",
    "test_rig_smoke",
    "test_sealing_cuts",
    "test_kms",
    "test_reencrypt",
    "test_disk_errors",
    "test_kms_service",
    "test_locked_ephemeral",
    "test_maintenance",
    "test_torn_meta",
    "test_other_machine",
    "test_state_config_wins",
    "test_modes",
    "test_recovery",
    "test_first_boot",
    "test_units",
    "test_failing_mkfs",
)
SMOKE = "test_rig_smoke"
MACHINES = pytest.StashKey[list[Machine]]()
SEEN = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line("markers", "vm: needs a guest; skipped by hand and failed in CI where none can run")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every story, and give it the time that an emulated machine takes; the longest files go first.

    Two workers take files in turn: a long one at the end would leave the other worker idle.
    """
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("vm")
            if item.path.stem == SMOKE and _passed_before(item):
                item.add_marker(pytest.mark.skip("passed here before, with the same rig, image and QEMU"))
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(STORY_TIMEOUT_S))


def _passed_before(item: pytest.Item) -> bool:
    """Tell whether a story of the rig itself passed with this rig, image and QEMU.

    Such a story knows nothing of luksctl: it is run again when what it is about has changed, or after make clean. On a
    build machine, where nothing may be skipped, it is run each time.
    """
    try:
        return not host.must_run() and _seen_to_pass(item).exists()
    except Precondition:  # rig_ready says what is missing
        return False


def _seen_to_pass(item: pytest.Item) -> Path:
    return host.CACHE / "smoke" / _rig_key() / item.name


@cache
def _rig_key() -> str:
    here = Path(__file__).parent
    sources = sorted([*(here / "rig").rglob("*.py"), here / f"{SMOKE}.py"])
    binary = Path(host.program(host.QEMU)).stat()
    parts = [image_key().encode(), f"{binary.st_size} {binary.st_mtime_ns}".encode()]
    return fingerprint([*parts, *(source.read_bytes() for source in sources)])[:32]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Keep the interpreter's stacks out of the report of a story that merely takes a minute."""
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="session", autouse=True)
def rig_ready() -> None:
    """Build the guest image if it is not there; skip, or fail in CI, where guests cannot run."""
    try:
        host.check_can_run()
        image()
    except Precondition as missing:
        if host.must_run():
            raise
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def secure_boot() -> None:
    """Skip where no guest with Secure Boot can be started, or fail in CI."""
    try:
        firmware.check_can_run()
    except Precondition as missing:
        if host.must_run():
            raise
        pytest.skip(str(missing))


@pytest.fixture
def disks() -> Iterator[Shelf]:
    """Return a place to make disks in."""
    with tempfile.TemporaryDirectory(prefix="rig-disks-") as directory:
        yield Shelf(Path(directory))


@pytest.fixture(scope="module")
def shared_disks() -> Iterator[Shelf]:
    """Return a place to make disks in that all stories of a file use."""
    with tempfile.TemporaryDirectory(prefix="rig-disks-") as directory:
        yield Shelf(Path(directory))


@pytest.fixture
def kms(tmp_path: Path) -> Iterator[Kms]:
    """Return a KMS that is off."""
    server = Kms(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def machine(request: pytest.FixtureRequest) -> Iterator[Callable[[MachineSpec], Machine]]:
    """Return what makes a machine (off) from a spec; all of a story's machines are gone when it ends."""
    yield from _machines(request.node, request.node.name)


@pytest.fixture(scope="module")
def shared_machine(request: pytest.FixtureRequest) -> Iterator[Callable[[MachineSpec], Machine]]:
    """Return what makes a machine for all stories of a file; never two that are on at once, see cache.guest_slot."""
    yield from _machines(request.node, request.path.stem)


def _machines(node: pytest.Item | pytest.Collector, name: str) -> Iterator[Callable[[MachineSpec], Machine]]:
    machines: list[Machine] = []
    node.stash[MACHINES] = machines

    def make(spec: MachineSpec) -> Machine:
        machines.append(Machine(spec, f"{name}-{len(machines) + 1}"))
        return machines[-1]

    yield make
    for each in machines:
        each.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach what the story's machines said last to a failure; note lost guests and retried boots.

    The notes are properties of the report, so they reach the summary from another process too.
    """
    report = yield
    seen = item.config.stash.get(SEEN, 0)
    report.user_properties = [("retried", line) for line in retried_boots[seen:]]
    item.config.stash[SEEN] = len(retried_boots)
    if item.path.stem == SMOKE and report.when == "call" and report.passed:
        _seen_to_pass(item).parent.mkdir(parents=True, exist_ok=True)
        _seen_to_pass(item).touch()
    if call.excinfo is not None and report.failed:
        if call.excinfo.errisinstance(LostVM):
            report.user_properties.append(("lost", item.nodeid))
        for each in (each for node in item.listchain() for each in node.stash.get(MACHINES, [])):
            report.sections.append((f"console of {each.name}", each.console()))
            if each.is_on:
                report.sections.append((f"journal of {each.name}", _journal(each)))
    return report


def _journal(machine: Machine) -> str:
    try:
        return machine.journal("--lines=60")
    except (RigError, AssertionError) as error:
        return f"not to be had: {error}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which boots were tried twice and which guests were lost: neither hides in a green or red line."""
    reports = [report for outcome in terminalreporter.stats.values() for report in outcome]
    notes = [note for report in reports for note in getattr(report, "user_properties", [])]
    retried = [line for kind, line in notes if kind == "retried"]
    lost = [line for kind, line in notes if kind == "lost"]
    for line in retried:
        terminalreporter.write_line(f"retried boot: {line}", yellow=True)
    for line in lost:
        terminalreporter.write_line(f"guest lost (its assertions were not reached): {line}", red=True)
    terminalreporter.write_line(f"boots retried: {len(retried)}, guests lost: {len(lost)}")
