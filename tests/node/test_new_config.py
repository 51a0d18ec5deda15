"""A newer config for a running node: it is stored only if the next boot can open with it what is encrypted now."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from luksctl.config.documents import parse_machine_config
from luksctl.errors import Degraded, DeviceError, MetaError, NotConverged, ProviderUnavailable, Refused
from luksctl.model.config import EPHEMERAL, STATE, MachineConfig, VolumeSettings
from luksctl.node.apply_config import apply_config
from luksctl.node.report import read_report
from luksctl.node.sources import forget_previous, store_config
from luksctl.node.sync import sync
from luksctl.reconcile.desire import desire
from luksctl.value import replace
from tests.node.nodes import MEMORY_KIB, Bench, bench, config
from tests.reconcile.world import DEVICE


def _with_ephemeral(words: str = "correct horse", slot: int = 0, kind: str = "") -> MachineConfig:
    """Return the config of `nodes`, with a key for EPHEMERAL too."""
    ephemeral = (
        "---\napiVersion: v1alpha1\nkind: VolumeConfig\nname: EPHEMERAL\nencryption:\n  provider: luks2\n  keys:\n"
        f"    - slot: {slot}\n      {kind or f'static: {{passphrase: {words}}}'}\n"
    )
    return parse_machine_config(config().text + ephemeral.encode(), "given by hand")


@pytest.fixture
def node(tmp_path: Path) -> Bench:
    """Return a running node; the one device of its world answers to EPHEMERAL as well, with the same keyslots."""
    found = bench(tmp_path)
    with pytest.raises(Degraded):
        apply_config(found.node, config(), insecure=True)
    del found.world.fail[f"find {EPHEMERAL} in {found.node.settings.volume(EPHEMERAL).location} for 0 s"]
    (found.state / "config.yaml").write_bytes(_with_ephemeral().text)
    found.world.power.writes.clear()
    return found


def _is_refused(node: Bench, given: MachineConfig, because: str) -> None:
    before = node.stored()
    with pytest.raises(Refused, match=because) as refused:
        apply_config(node.node, given, insecure=False)
    assert refused.value.volume == EPHEMERAL
    assert refused.value.hint is not None
    assert node.stored() == before
    assert node.world.power.writes == []


def test_a_config_that_no_key_leads_to_is_refused(node: Bench) -> None:
    """Neither the new keys nor those in STATE open EPHEMERAL, so nothing is stored over what stands there."""
    (node.state / "config.yaml").write_bytes(_with_ephemeral("never the passphrase").text)
    _is_refused(node, _with_ephemeral("another passphrase"), "no configured key opens the volume")
    _is_refused(node, _with_ephemeral(slot=3), "has no such keyslot")


@pytest.mark.parametrize("slot", [0, 3])
def test_an_only_key_is_replaced_in_one_step(node: Bench, slot: int) -> None:
    """The key of the config in STATE opens EPHEMERAL; the new one is added, proven, and the old one removed."""
    given = _with_ephemeral("another passphrase", slot=slot)
    applied = apply_config(node.node, given, insecure=False)
    assert (applied.stored, applied.notes) == (True, ())
    assert node.stored() == given.text
    found = node.world.medium.copies().best
    assert found is not None
    assert [entry.number for entry in found.keyslots] == [slot]
    assert node.world.medium.areas[slot].key == b"another passphrase"
    assert list((node.state / "previous").iterdir()) == []


def test_what_fails_after_the_config_was_stored_is_tried_again_at_the_next_boot(node: Bench) -> None:
    """A key that cannot be made leaves the slot as it is, and the config before stays at hand."""
    node.world.keys.make_down.add(0)
    given = _with_ephemeral("another passphrase")
    with pytest.raises(Degraded, match="the config was stored, and the next boot tries again"):
        apply_config(node.node, given, insecure=False)
    assert node.stored() == given.text
    assert node.world.medium.areas[0].key == b"correct horse"
    assert [path.read_bytes() for path in (node.state / "previous").iterdir()] == [_with_ephemeral().text]


def test_a_config_that_forgets_the_encryption_of_ephemeral_is_refused(node: Bench) -> None:
    """Else the next boot refuses the volume, and nobody has its key any more."""
    _is_refused(node, config(), "it has no key for EPHEMERAL, which is encrypted")


def test_a_broken_stored_config_is_replaced_by_one_whose_keys_open(node: Bench) -> None:
    """Keys are proven where nobody can tell what the old config listed."""
    (node.state / "config.yaml").write_bytes(b"kind: [")
    assert apply_config(node.node, _with_ephemeral(), insecure=False).stored
    assert "volume_key 0" in node.world.calls


def test_keys_that_stay_the_same_are_not_asked_for(node: Bench) -> None:
    """Nothing is lost where the list is the same, so that EPHEMERAL may well be locked, and no KDF runs for it."""
    given = parse_machine_config(b"# a comment\n" + _with_ephemeral().text, "given by hand")
    node.world.calls.clear()
    assert apply_config(node.node, given, insecure=False).stored
    assert not any(call.startswith("volume_key") for call in node.world.calls)
    assert node.stored() == given.text


def test_a_provider_that_is_down_is_not_a_wrong_key(node: Bench) -> None:
    """Trying again later may help, and the exit code says so."""
    given = _with_ephemeral(kind="kms: {endpoint: https://kms.example}")
    node.world.keys.recovers_before_down[0] = 0
    with pytest.raises(ProviderUnavailable):
        apply_config(node.node, given, insecure=False)
    assert node.stored() == _with_ephemeral().text


def test_a_device_that_cannot_be_read_keeps_the_old_config(node: Bench) -> None:
    """It may be readable again tomorrow, with the old keys."""
    node.world.fail[f"header_copies {DEVICE.path}"] = DeviceError("input/output error")
    with pytest.raises(DeviceError):
        apply_config(node.node, _with_ephemeral("another passphrase"), insecure=False)
    assert node.stored() == _with_ephemeral().text


def test_while_meta_is_absent_no_config_is_stored(node: Bench) -> None:
    """META could not follow it, and no key of STATE would have been proven."""
    node.world.meta.absent = True
    with pytest.raises(MetaError, match="META could not follow it"):
        apply_config(node.node, _with_ephemeral(), insecure=False)
    assert node.stored() == _with_ephemeral().text


def test_without_a_mount_point_the_first_config_formats_nothing(tmp_path: Path) -> None:
    """STATE could not hold the config afterwards, so that is said first."""
    blank = bench(tmp_path)
    settings = replace(
        blank.node.settings,
        volumes=tuple(
            (name, VolumeSettings(volume.location) if name == STATE else volume)
            for name, volume in blank.node.settings.volumes
        ),
    )
    with pytest.raises(NotConverged, match="no mount point"):
        apply_config(replace(blank.node, settings=settings), config(), insecure=True)
    assert blank.world.power.writes == []


def test_the_wish_compares_by_value() -> None:
    """Two parses of one text are the same keys: what decides whether a proof is needed."""
    first, second = (desire(EPHEMERAL, _with_ephemeral(), memory_kib=MEMORY_KIB) for _ in range(2))
    assert first == second


def test_syncing_state_keeps_the_earlier_keys_of_ephemeral(node: Bench) -> None:
    """They are all that opens EPHEMERAL while its change is unfinished; STATE's being in sync says nothing about it."""
    node.world.keys.make_down.add(0)
    with pytest.raises(Degraded):
        apply_config(node.node, _with_ephemeral("another passphrase"), insecure=False)
    kept = list((node.state / "previous").iterdir())
    assert kept
    assert [synced.in_sync for synced in sync(node.node, (STATE,))] == [True]
    assert list((node.state / "previous").iterdir()) == kept
    node.world.keys.make_down.clear()
    assert [synced.in_sync for synced in sync(node.node, (EPHEMERAL,))] == [True]
    assert list((node.state / "previous").iterdir()) == []


def _with_second_key(words: str) -> MachineConfig:
    """Return the config of `nodes`, with one more key for STATE."""
    first = b"correct horse"
    text = _with_ephemeral().text.decode()
    entry = next(line for line in text.splitlines() if first.decode() in line)
    number = next(line for line in text.splitlines() if "slot: 0" in line)
    more = "\n".join((number.replace("0", "1"), entry.replace(first.decode(), words)))
    return parse_machine_config(text.replace(entry, f"{entry}\n{more}", 1).encode(), "given by hand")


def test_a_failed_sync_of_state_is_reported_until_it_succeeds(node: Bench) -> None:
    """The same config given again is not passed over, and ends like the first time; then it is in sync."""
    node.world.keys.make_down.add(1)
    given = _with_second_key("more")
    for _ in range(2):
        with pytest.raises(Degraded, match="the config was stored"):
            apply_config(node.node, given, insecure=False)
        report = read_report(node.node, STATE)
        assert report is not None
        assert report.in_sync is False
    node.world.keys.make_down.clear()
    assert apply_config(node.node, given, insecure=False).stored
    report = read_report(node.node, STATE)
    assert report is not None
    assert report.in_sync is True


def test_what_another_process_keeps_meanwhile_stays(node: Bench) -> None:
    """A config that is replaced while an earlier one comes in sync may be all that opens EPHEMERAL then."""
    node.world.keys.make_down.add(0)
    second, third = _with_ephemeral("another passphrase"), _with_ephemeral("a third passphrase")
    with pytest.raises(Degraded):
        apply_config(node.node, second, insecure=False)
    node.world.keys.make_down.clear()

    def meanwhile() -> None:
        del node.world.after["volume_key 0"]
        store_config(str(node.state), third)

    node.world.after["volume_key 0"] = meanwhile
    assert [synced.in_sync for synced in sync(node.node, (EPHEMERAL,))] == [True]
    assert node.world.medium.areas[0].key == b"another passphrase"
    assert [path.read_bytes() for path in (node.state / "previous").iterdir()] == [second.text]


def test_half_written_leftovers_go_unless_somebody_writes_them(tmp_path: Path) -> None:
    """They hold passphrases; one that is locked is about to be renamed, and not ours to remove."""
    kept = tmp_path / "previous"
    kept.mkdir()
    for path in (kept / "000002.yaml.new", tmp_path / "config.yaml.new"):
        path.write_bytes(b"half of a passphrase")
    with (tmp_path / "config.yaml.new").open("wb") as writing:
        fcntl.flock(writing, fcntl.LOCK_EX)
        forget_previous(str(tmp_path), ())
        assert sorted(os.listdir(tmp_path)) == ["config.yaml.new", "previous"]
        assert os.listdir(kept) == []
    forget_previous(str(tmp_path), ())
    assert os.listdir(tmp_path) == ["previous"]
