"""doctor at a volume that does not come up, at lines of others that want the same, and with its keys tried."""

from __future__ import annotations

from pathlib import Path

import pytest

from luksctl.devices.locks import volume_lock
from luksctl.devices.tables import TableLine
from luksctl.errors import Locked
from luksctl.model.config import EPHEMERAL, STATE, KeyKind
from luksctl.model.meta import TAG_UUID_OVERRIDE
from luksctl.node.check import check
from luksctl.node.finding import Weight
from luksctl.node.report import failure_report, write_report
from luksctl.providers.registry import Registry
from luksctl.providers.static import StaticProvider
from luksctl.secret import Secret
from luksctl.units import MIB
from luksctl.value import replace
from luksctl.wiring import meta_store
from tests.node.clinic import NOW, Bench, header_uuid, no_mkfs, only
from tests.node.image_node import document, static
from tests.reconcile.providers import FakeProviders, kms

RISK, BROKEN = Weight.RISK, Weight.BROKEN


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Return a node without findings."""
    return Bench(tmp_path)


# ---- a volume that does not come up ---------------------------------------------------------------------------------


@pytest.fixture
def closed(bench: Bench) -> Bench:
    """Return a node whose EPHEMERAL is closed, and would open with either of two keys."""
    bench.at.format(EPHEMERAL, {0: "first", 1: "second"})
    keys = (static(0, "first"), static(1, "second"))
    bench.at.configure(document(STATE, *keys), document(EPHEMERAL, *keys))
    check(bench.at.node, (EPHEMERAL,), lambda: NOW)
    bench.at.told.clear()
    return bench


def test_a_closed_volume_that_nobody_tried_is_to_be_opened(closed: Bench) -> None:
    """The fix is to open it."""
    found = closed.examine(EPHEMERAL)
    assert (only(found).what, only(found).fix, found.exit_code) == ("it is closed", "luksctl boot EPHEMERAL", 4)


def test_the_report_of_a_failed_attempt_explains_a_closed_volume(closed: Bench) -> None:
    """What the boot said is repeated, with its hint; it is not said again that the volume is closed."""
    write_report(closed.at.node, failure_report(EPHEMERAL, Locked("no configured key opened it", hint="look here")))
    finding = only(closed.examine(EPHEMERAL))
    assert (finding.weight, finding.fix) == (BROKEN, "look here")
    assert "no configured key opened it" in finding.what


def test_obstacles_are_broken_where_no_key_is_left(closed: Bench) -> None:
    """One key with an obstacle is a risk while another could serve; all of them are why it does not open."""
    closed.at.with_provider(FakeProviders(explain={1: "sealed elsewhere"}).provider)
    weights = {finding.slot: finding.weight for finding in closed.examine(EPHEMERAL).findings}
    assert weights[1] is RISK
    closed.at.with_provider(FakeProviders(explain={0: "sealed elsewhere", 1: "sealed elsewhere"}).provider)
    weights = {finding.slot: finding.weight for finding in closed.examine(EPHEMERAL).findings}
    assert (weights[0], weights[1]) == (BROKEN, BROKEN)


def test_another_machine_is_known_by_its_uuid(closed: Bench) -> None:
    """The real provider explains it: META remembers which machine formatted the volume."""
    closed.at.configure(document(STATE, static(0, "first")), document(EPHEMERAL, "slot: 0, nodeID: {}"))
    store = meta_store(closed.at.settings)
    store.write_tag(TAG_UUID_OVERRIDE, b"4c4c4544-0042-3510-8052-b7c04f4e3132")
    closed.at.node.note_machine()
    assert not any("another machine" in finding.what for finding in closed.examine(EPHEMERAL).findings)
    store.write_tag(TAG_UUID_OVERRIDE, b"11111111-2222-3333-8052-b7c04f4e3132")
    first = closed.examine(EPHEMERAL).findings[0]
    assert (first.weight, first.slot) == (BROKEN, 0)
    assert "formatted on another machine" in first.what


def test_a_key_without_its_token_is_found(closed: Bench) -> None:
    """A kms key is nowhere but in its token."""
    closed.at.configure(document(EPHEMERAL, "slot: 0, kms: {endpoint: 'https://kms.example:4050'}"))
    found = closed.examine(EPHEMERAL).findings
    assert any("no token to recover its key by" in finding.what and finding.weight is BROKEN for finding in found)


def test_a_refusal_is_told_with_its_hint(closed: Bench) -> None:
    """No device; foreign data: what the next boot would say."""
    closed.at.images[EPHEMERAL].write_bytes(b"somebody's data" * 99999)
    first = closed.examine(EPHEMERAL).findings[0]
    assert (first.weight, "holds data that no known signature explains" in first.what) == (BROKEN, True)
    closed.at.images[EPHEMERAL].unlink()
    first = closed.examine(EPHEMERAL).findings[0]
    assert "no device found" in first.what
    assert first.fix is not None


def test_a_blank_volume_needs_its_mkfs(closed: Bench) -> None:
    """A missing package is a risk for a volume that is there, and the cause where it is yet to be made."""
    closed.at.images[EPHEMERAL].write_bytes(bytes(64 * MIB))
    no_mkfs(closed)
    found = {finding.what: finding.weight for finding in closed.examine(EPHEMERAL).findings}
    assert found["it is not formatted yet"] is BROKEN
    assert found["its filesystem could not be made: mkfs.ext4 is not installed"] is BROKEN


# ---- fstab and crypttab ---------------------------------------------------------------------------------------------


def _line(bench: Bench, source: str, target: str, *, device: str | None = None) -> TableLine:
    names = {"IMAGE": str(bench.at.images[STATE]), "MOUNT": str(bench.at.state)}
    return TableLine("/etc/fstab", 7, names.get(source, source), names.get(target, target), names.get(device or ""))


@pytest.mark.parametrize(
    ("source", "target", "device"),
    [
        ("IMAGE", "/mnt", None),
        ("/dev/disk/by-id/virtio-disk", "/mnt", "IMAGE"),
        ("/dev/sdz1", "MOUNT", None),
        ("/dev/sdz1", "luks2-STATE", None),
        ("/dev/mapper/luks2-STATE", "/mnt", None),
        ("UUID=3C0A-inside", "/mnt", None),
    ],
)
def test_a_line_that_takes_what_is_ours_is_found(bench: Bench, source: str, target: str, device: str | None) -> None:
    """By device, by a link to it, by mount point, by name of the mapping, by what is inside; noauto waits."""
    line = _line(bench, source, target, device=device)
    bench.lines = (line,)
    finding = only(bench.examine())
    assert (finding.weight, finding.fix) == (RISK, "take line 7 out of /etc/fstab")
    bench.lines = (replace(line, automatic=False),)
    assert bench.examine().findings == ()


def test_the_uuid_of_the_header_is_ours(bench: Bench) -> None:
    """As crypttab mostly names a device."""
    uuid = header_uuid(bench)
    bench.lines = (TableLine("/etc/crypttab", 2, f"UUID={uuid}", "data"),)
    assert "/etc/crypttab, line 2 fights" in only(bench.examine()).what
    bench.lines = (TableLine("/etc/crypttab", 2, f"/dev/disk/by-uuid/{uuid}", "data"),)
    assert "/etc/crypttab, line 2 fights" in only(bench.examine()).what


def test_lines_of_others_are_theirs(bench: Bench) -> None:
    """The root, swap, and a bind mount from below our mount point."""
    bench.lines = (
        TableLine("/etc/fstab", 1, "UUID=1234", "/", "/dev/vda1"),
        TableLine("/etc/fstab", 2, "PARTLABEL=swap", "none"),
        TableLine("/etc/fstab", 3, f"{bench.at.state}/docker", "/var/lib/docker"),
    )
    assert bench.examine().findings == ()


# ---- with --check ---------------------------------------------------------------------------------------------------


def test_with_check_a_wrong_passphrase_is_found(closed: Bench) -> None:
    """Only trying it tells; where no key works, that is why the volume does not open."""
    keys = (static(0, "first"), static(1, "wrong"))
    closed.at.configure(document(STATE, static(0, "first"), static(1, "second")), document(EPHEMERAL, *keys))
    found = closed.examine(EPHEMERAL, with_check=True)
    tried = [finding for finding in found.findings if finding.slot == 1]
    assert [(finding.weight, "was tried: rejected" in finding.what) for finding in tried] == [(RISK, True)]
    keys = (static(0, "wrong"), static(1, "wrong"))
    closed.at.configure(document(STATE, static(0, "first"), static(1, "second")), document(EPHEMERAL, *keys))
    found = closed.examine(EPHEMERAL, with_check=True)
    assert [finding.weight for finding in found.findings if finding.slot is not None] == [BROKEN, BROKEN]


def test_with_check_a_key_is_not_complained_about_twice(closed: Bench) -> None:
    """An obstacle that is known without trying says it better."""
    keys = FakeProviders()
    token = keys.make(EPHEMERAL, kms(0)).token
    assert token is not None
    keys.recovers_before_down[0] = 0
    closed.at.set_token(EPHEMERAL, 0, token)
    closed.at.configure(document(EPHEMERAL, "slot: 0, kms: {endpoint: 'https://kms.example:4050'}"))
    closed.at.with_provider(keys.provider)
    found = closed.examine(EPHEMERAL, with_check=True)
    assert [finding.weight for finding in found.findings if finding.slot == 0] == [BROKEN]


def test_with_check_a_volume_in_use_by_another_run_is_a_note(closed: Bench) -> None:
    """What its keys did meanwhile is not believed."""
    closed.at.configure(document(EPHEMERAL, static(0, "wrong")))
    with volume_lock(EPHEMERAL, timeout_s=0, directory=closed.at.paths.run_dir):
        found = closed.examine(EPHEMERAL, with_check=True)
    assert any("could not be tried to the end" in finding.what for finding in found.findings)


class _Salts:
    """A STATE with a salt."""

    def existing(self) -> Secret:
        return Secret.take(b"salt of 32 bytes, as STATE has it")

    def existing_or_new(self) -> Secret:
        return self.existing()


def test_a_key_that_is_locked_to_state_is_no_obstacle_by_itself(closed: Bench) -> None:
    """Only a real try could tell that it does not fit, and none was made."""
    locked = f"{static(0, 'first')}, lockToState: true"
    closed.at.configure(document(STATE, static(0, "first")), document(EPHEMERAL, locked))
    closed.at.with_provider(Registry({KeyKind.STATIC: StaticProvider()}, _Salts))
    found = closed.examine(EPHEMERAL).findings
    assert not [finding for finding in found if finding.slot == 0 and finding.weight is not Weight.NOTE]
