"""check tries every configured key on real headers, says what became of each, and remembers it in STATE."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from luksctl.cryptsetup.device import Device
from luksctl.devices.locks import volume_lock
from luksctl.errors import TpmReason, TpmRejected
from luksctl.model.bookkeeping import Bookkeeping, Underway, encode
from luksctl.model.config import EPHEMERAL, META, STATE, ConfiguredKey, Filesystem, KeyKind
from luksctl.node.check import KeyCheck, NodeCheck, Outcome, check, check_volume
from luksctl.node.checked import FILE_NAME, read_checked
from luksctl.providers.static import StaticProvider
from luksctl.secret import Secret
from tests.cryptsetup.forging import forge_json, overwrite
from tests.marker import MARKER, shown_in
from tests.node.image_node import ImageNode, document, static
from tests.reconcile.providers import FakeProviders, kms

NOW = 1_800_000_000.0


@pytest.fixture
def node(tmp_path: Path) -> ImageNode:
    """Return a node whose STATE has two slots and is mounted; EPHEMERAL is blank."""
    made = ImageNode(tmp_path)
    made.format(STATE, {0: "first", 1: "second"})
    made.configure(document(STATE, static(0, "first"), static(1, "second")))
    return made


def _check(node: ImageNode, *volumes: str) -> NodeCheck:
    return check(node.node, volumes or (STATE,), lambda: NOW)


def _outcomes(result: NodeCheck) -> list[Outcome]:
    return [key.outcome for volume in result.volumes for key in volume.keys]


def _only(result: NodeCheck) -> KeyCheck:
    (key,) = result.volumes[0].keys
    return key


def test_keys_that_work_are_proven_and_nothing_is_written(node: ImageNode) -> None:
    """Code 0, one line told per key before it is tried, and not one byte of any image changed."""
    before = node.bytes_of()
    result = _check(node)
    assert (result.exit_code, _outcomes(result)) == (0, [Outcome.WORKS, Outcome.WORKS])
    assert node.told == ["STATE, slot 0 (static): trying the key", "STATE, slot 1 (static): trying the key"]
    assert node.bytes_of() == before


def test_one_key_of_two_that_does_not_fit_is_degraded(node: ImageNode) -> None:
    """Code 5: the volume opens, and not by every key."""
    node.configure(document(STATE, static(0, "first"), static(1, "wrong")))
    result = _check(node)
    assert (result.exit_code, _outcomes(result)) == (5, [Outcome.WORKS, Outcome.REJECTED])


def test_no_key_that_fits_is_locked(node: ImageNode) -> None:
    """Code 4, as a boot would end."""
    node.configure(document(STATE, static(0, "wrong"), static(1, "wrong")))
    assert _check(node).exit_code == 4


def test_a_slot_whose_change_is_unfinished_is_to_be_synced(node: ImageNode) -> None:
    """Its new key is in a spare until then, and its own slot holds the old one."""
    books = Bookkeeping(1, underway=(Underway(31, 1),))
    node.set_token(STATE, 30, encode(books, "0" * 64))
    node.configure(document(STATE, static(0, "first"), static(1, "new")))
    rejected = _check(node).volumes[0].keys[1]
    assert (rejected.outcome, rejected.hint) == (Outcome.REJECTED, "luksctl sync STATE")


def test_a_key_without_slot_is_not_tried(node: ImageNode) -> None:
    """It is named, and the command that adds it."""
    node.configure(document(STATE, static(0, "first"), static(7, "seventh")))
    result = _check(node)
    missing = result.volumes[0].keys[1]
    assert (missing.outcome, missing.hint) == (Outcome.SLOT_MISSING, "luksctl sync STATE")
    assert result.exit_code == 5
    assert len(node.told) == 1


def test_a_slot_without_bounds_is_named_and_its_provider_left_alone(node: ImageNode) -> None:
    """A forged cost is seen before anything is asked or derived."""
    forge_json(str(node.images[STATE]), lambda header: header["keyslots"]["0"]["kdf"].update(time=2**32 - 1))
    keys = FakeProviders()
    node.with_provider(keys.provider)
    result = _check(node)
    assert _outcomes(result)[0] is Outcome.OUT_OF_BOUNDS
    assert "time 4294967295" in (result.volumes[0].keys[0].cause or "")
    assert keys.asked == ["static 1"]


@pytest.mark.parametrize(
    ("state", "outcome", "code", "said"),
    [
        ("no token", Outcome.TOKEN_INVALID, 4, "the slot has no token"),
        ("down", Outcome.UNAVAILABLE, 6, "dial kms.example:4050: connection refused"),
        ("another key", Outcome.REJECTED, 4, "sealed on another machine"),
    ],
)
def test_what_the_provider_says_is_told(node: ImageNode, state: str, outcome: Outcome, code: int, said: str) -> None:
    """A token nobody can use, a service that is down, and a key that is another one: with the provider's words."""
    keys = FakeProviders(explain={0: "sealed on another machine"})
    if state == "down":
        keys.recovers_before_down[0] = 0
    if state != "no token":
        made = keys.make(STATE, kms(0))
        assert made.token is not None
        node.set_token(STATE, 0, made.token)
    node.with_provider(keys.provider)
    node.configure(document(STATE, "slot: 0, kms: {endpoint: 'https://kms.example:4050'}"))
    result = _check(node)
    key = _only(result)
    assert (key.outcome, result.exit_code) == (outcome, code)
    assert key.cause == said
    assert keys.left_open() <= 1  # the key that this test made


def test_a_key_that_a_tpm_gives_only_early_in_a_boot_alarms_nobody(node: ImageNode) -> None:
    """It was not proven, and that is no fault; what was proven before stays noted so."""

    class Past(FakeProviders):
        def recover(self, volume: str, key: ConfiguredKey, token: str | None) -> Iterator[Secret]:
            del volume, key, token
            raise TpmRejected("the boot is past what was signed", reason=TpmReason.PHASE_OVER)

    node.with_provider(lambda key: Past() if key.kind is KeyKind.TPM else StaticProvider())
    node.configure(document(STATE, "slot: 0, tpm: {}", static(1, "second")))
    result = _check(node)
    assert (result.exit_code, _outcomes(result)) == (0, [Outcome.NOT_NOW, Outcome.WORKS])


def test_a_key_area_that_was_overwritten_is_rejected(node: ImageNode) -> None:
    """The slot is listed and dead: only trying it tells."""
    with Device.open(str(node.images[STATE])) as device:
        offset = int(device.header.metadata()["keyslots"]["1"]["area"]["offset"])
    overwrite(str(node.images[STATE]), offset, b"\xff" * 4096)
    result = _check(node)
    assert (result.exit_code, _outcomes(result)) == (5, [Outcome.WORKS, Outcome.REJECTED])


def test_a_damaged_header_copy_is_not_mended_by_checking(node: ImageNode) -> None:
    """Keys are tried on the good copy, and the bad one stays as it is."""
    overwrite(str(node.images[STATE]), 4096, b"\0")
    before = node.bytes_of(STATE)
    assert _check(node).exit_code == 0
    assert node.bytes_of(STATE) == before


# ---- what cannot be tried -------------------------------------------------------------------------------------------


def test_a_plain_volume_has_nothing_to_prove(tmp_path: Path) -> None:
    """Code 0 where the config wants it plain, too; a blank one is not as configured."""
    node = ImageNode(tmp_path)
    node.configure()
    node.node.ports.disks.make_filesystem(
        str(node.images[EPHEMERAL]), Filesystem.EXT4, EPHEMERAL, uuid=None, size_bytes=0
    )
    assert check(node.node, (EPHEMERAL,)).exit_code == 0
    node.images[EPHEMERAL].write_bytes(b"")
    with node.images[EPHEMERAL].open("r+b") as image:
        image.truncate(64 << 20)
    result = check_volume(node.node, EPHEMERAL)
    assert (result.exit_code, result.keys) == (5, ())


def test_a_volume_that_is_not_there_has_its_own_code(node: ImageNode) -> None:
    """The other one is checked all the same."""
    node.configure(document(STATE, static(0, "first")), document(EPHEMERAL, static(0, "first")))
    node.images[EPHEMERAL].unlink()
    result = _check(node, STATE, EPHEMERAL)
    assert [volume.exit_code for volume in result.volumes] == [0, 9]
    assert result.exit_code == 9


def test_without_a_config_there_is_nothing_to_prove(tmp_path: Path) -> None:
    """12 in maintenance, 2 where the config is wrong: as every other verb."""
    node = ImageNode(tmp_path, mounted=False)
    assert _check(node).exit_code == 12
    Path(node.paths.machine_config).write_text("kind: VolumeConfig\nname: STATE\n", encoding="utf-8")
    result = _check(node)
    assert (result.exit_code, result.not_kept) == (2, "STATE is not mounted")


def test_a_volume_under_reencryption_is_left_alone(node: ImageNode) -> None:
    """Libcryptsetup opens it by any slot, so no slot could be told from another: refused, code 3."""
    forge_json(
        str(node.images[STATE]),
        lambda header: header["config"].update(requirements={"mandatory": ["online-reencrypt-v2"]}),
    )
    result = _check(node)
    assert (result.exit_code, result.volumes[0].keys) == (3, ())


# ---- others at work -------------------------------------------------------------------------------------------------


def test_a_lock_held_by_others_is_not_waited_for_while_keys_work(node: ImageNode) -> None:
    """A boot or a sync may take its time, and a check does not stand in its way."""
    with volume_lock(STATE, timeout_s=0, directory=node.paths.run_dir):
        assert _check(node).exit_code == 0


def test_a_key_that_fails_while_others_are_at_work_is_not_believed(node: ImageNode) -> None:
    """Busy (11) after the lock timeout: what was seen may be half of a change."""
    node.configure(document(STATE, static(0, "wrong")))
    with volume_lock(STATE, timeout_s=0, directory=node.paths.run_dir):
        result = _check(node)
    assert (result.exit_code, _outcomes(result)) == (11, [Outcome.REJECTED])


def test_a_slot_that_was_replaced_meanwhile_is_tried_again(node: ImageNode) -> None:
    """A sync between the look and the try makes a key fail that works now."""

    class Meanwhile(FakeProviders):
        """Somebody changes the slot just after its key failed."""

        def explain_rejection(self, volume: str, key: ConfiguredKey) -> str | None:
            if not self.explain:
                self.explain[key.slot] = "changed"
                node.replace_key(STATE, 1, "second", "rotated")
            return super().explain_rejection(volume, key)

    node.configure(document(STATE, static(1, "rotated")))
    node.with_provider(Meanwhile().provider)
    result = _check(node)
    assert (result.exit_code, _outcomes(result)) == (0, [Outcome.WORKS])
    assert any("changed meanwhile" in line for line in node.told)


# ---- what is remembered ---------------------------------------------------------------------------------------------


def test_proofs_are_kept_in_state(node: ImageNode) -> None:
    """The file names volume, slot, kind and times, and holds no key in any form."""
    node.format(STATE, {0: MARKER.decode()})
    node.configure(document(STATE, static(0, MARKER.decode())))
    result = _check(node)
    path = node.state / FILE_NAME
    assert result.kept == str(path)
    (entry,) = json.loads(path.read_bytes())["slots"]
    assert {name: entry[name] for name in ("volume", "slot", "kind", "outcome")} == {
        "volume": STATE,
        "slot": 0,
        "kind": "static",
        "outcome": "works",
    }
    assert entry["provenAt"] == entry["triedAt"] == "2027-01-15T08:00:00Z"
    assert path.stat().st_mode & 0o777 == 0o600
    assert shown_in(path.read_bytes()) == []


def test_a_failure_keeps_the_time_of_the_last_proof(node: ImageNode) -> None:
    """Until the slot is written again: then it is another slot, and nobody proved it."""
    _check(node)
    node.configure(document(STATE, static(0, "first"), static(1, "wrong")))
    check(node.node, (STATE,), lambda: NOW + 60)
    first, second = read_checked(str(node.state))
    assert (first.proven_s, first.tried_s) == (NOW + 60, NOW + 60)
    assert (second.proven_s, second.tried_s, second.outcome) == (NOW, NOW + 60, "rejected")
    node.format(STATE, {0: "first", 1: "second"})
    check(node.node, (STATE,), lambda: NOW + 120)
    assert [entry.proven_s for entry in read_checked(str(node.state))] == [NOW + 120, None]


def test_other_volumes_are_not_forgotten(node: ImageNode) -> None:
    """Each check replaces what is known of its own volumes."""
    node.format(EPHEMERAL, {3: "third"})
    node.configure(document(STATE, static(0, "first")), document(EPHEMERAL, static(3, "third")))
    _check(node, EPHEMERAL)
    _check(node, STATE)
    assert [(entry.volume, entry.slot) for entry in read_checked(str(node.state))] == [(EPHEMERAL, 3), (STATE, 0)]


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b'{"version": 2, "slots": []}', b'{"version": 1, "slots": [{"volume": "STATE"}]}', b"[" * 9999],
)
def test_a_file_that_nobody_understands_counts_as_none(node: ImageNode, text: bytes) -> None:
    """It is replaced by the next check, and keeps nobody from anything."""
    (node.state / FILE_NAME).write_bytes(text)
    assert read_checked(str(node.state)) == ()
    assert _check(node).kept is not None
    assert len(read_checked(str(node.state))) == 2


def test_a_leftover_of_a_cut_is_overwritten(node: ImageNode) -> None:
    """The file beside it that was not renamed yet stands for nothing."""
    (node.state / f"{FILE_NAME}.new").write_bytes(b"half")
    _check(node)
    assert len(read_checked(str(node.state))) == 2
    assert not (node.state / f"{FILE_NAME}.new").exists()


def test_a_state_that_takes_no_file_spoils_no_check(node: ImageNode) -> None:
    """The keys were proven all the same; why it is not kept is said."""
    (node.state / FILE_NAME).mkdir()
    result = _check(node)
    assert (result.exit_code, result.kept) == (0, None)
    assert "takes no file" in (result.not_kept or "")


def test_meta_is_only_read(node: ImageNode) -> None:
    """A blank META stays blank."""
    before = node.bytes_of(META)
    _check(node)
    assert node.bytes_of(META) == before
