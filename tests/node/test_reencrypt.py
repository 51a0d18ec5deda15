"""A node gives a volume a new volume key: held to a rate, told to status, stopped, gone on with, and left to a boot."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from luksctl.cryptsetup.device import Device
from luksctl.errors import DeviceError, Locked, ProviderUnavailable, ReencryptionRunning, Refused
from luksctl.model import probe
from luksctl.model.config import EPHEMERAL, STATE, ConfiguredKey
from luksctl.model.observed import ReencryptStage
from luksctl.model.ports import MadeKey
from luksctl.node.header_backup import keep_before_removal, kept_backups
from luksctl.node.node import Node
from luksctl.node.recovery import add_recovery_key, remove_recovery_key, replace_recovery_key
from luksctl.node.reencrypt import Options, announced, begin, go_on, how_far, start_service
from luksctl.node.reencrypt_pace import Pace, rate_path, read_rate
from luksctl.node.reencrypt_progress import ReencryptProgress, duration
from luksctl.node.reencrypt_unit import go_on_later
from luksctl.node.report import Report, VolumeState, read_report, write_report
from luksctl.node.rotate import rotate_slot
from luksctl.node.status import node_status
from luksctl.node.sync import adopt, sync
from luksctl.node.volume_status import VolumeStatus
from luksctl.providers.static import StaticProvider
from luksctl.secret import Secret
from luksctl.units import KIB, MIB
from luksctl.value import replace
from tests.node.image_node import POLICY, ImageNode, MadeUpSystem, document, static
from tests.providers.operators import operator
from tests.providers.stock import opens

DATA_BYTES = 4 * MIB
# What a machine of so little memory derives keys with takes no time.
KDF_KIB = 1024


class Clock(MadeUpSystem):
    """Time goes by only while somebody sleeps; `meanwhile` happens then."""

    now_s = 0.0
    slept_s = 0.0
    meanwhile: Callable[[], None] | None = None

    def monotonic_s(self) -> float:
        """Return what the clock shows."""
        return self.now_s

    def sleep(self, seconds: float) -> None:
        """Let it go on."""
        self.now_s += seconds
        self.slept_s += seconds
        if self.meanwhile is not None:
            self.meanwhile()


class Starting(MadeUpSystem):
    """Notes which units are started, or fails."""

    def __init__(self, problem: str = "") -> None:
        super().__init__()
        self.asked: list[str] = []
        self.problem = problem

    def reset_failed(self, unit: str) -> None:
        """Note it."""
        self.asked.append(f"forget that {unit} failed")

    def start_soon(self, unit: str) -> None:
        """Note it, or fail."""
        if self.problem:
            raise DeviceError(self.problem)
        self.asked.append(f"start {unit}")


class NotHere:
    """A provider that makes and recovers nothing."""

    def make(self, volume: str, key: ConfiguredKey) -> MadeKey:
        """Fail."""
        raise ProviderUnavailable("it is not here", volume=volume, slot=key.slot)

    def recover(self, volume: str, key: ConfiguredKey, token: str | None) -> Iterator[Secret]:  # noqa: ARG002
        """Fail."""
        raise ProviderUnavailable("it is not here", volume=volume, slot=key.slot)

    def explain_rejection(self, volume: str, key: ConfiguredKey) -> str | None:  # noqa: ARG002
        """Return None: nothing was rejected."""
        return None


@pytest.fixture
def image(tmp_path: Path) -> ImageNode:
    """Return a running node whose volumes are ours; each has two passphrases."""
    found = ImageNode(tmp_path)
    found.system.memory = KDF_KIB
    found.configure(*(document(volume, static(0, "one"), static(1, "two")) for volume in (STATE, EPHEMERAL)))
    for volume in (STATE, EPHEMERAL):
        found.format(volume, {0: "one", 1: "two"})
        adopt(found.node, volume)
    return found


@pytest.fixture
def clock(image: ImageNode) -> Clock:
    """Return the clock of the node."""
    found = Clock(mounts=image.system.mounts, memory=KDF_KIB)
    image.node = replace(image.node, system=found)
    return found


def begun(image: ImageNode, options: Options | None = None) -> Node:
    """Begin it on EPHEMERAL with keys that every provider has."""
    assert not begin(image.node, EPHEMERAL, options or Options(), lambda _: None, lambda *_: None)
    return image.node


def volume_key(image: ImageNode, passphrase: str) -> bytes:
    """Return EPHEMERAL's volume key."""
    with (
        Device.open(str(image.images[EPHEMERAL])) as device,
        Secret.take(passphrase.encode()) as key,
        device.volume_key(key) as found,
        found.view() as view,
    ):
        return bytes(view)


def shown(node: Node) -> VolumeStatus:
    """Return EPHEMERAL's status."""
    (volume,) = node_status(node, (EPHEMERAL,)).volumes
    return volume


def slots(node: Node) -> dict[int, str]:
    """Return the kinds of EPHEMERAL's keyslots."""
    return {slot.keyslot.number: slot.kind for slot in shown(node).slots}


# ---- from the beginning to the end ----------------------------------------------------------------------------------


def test_it_is_announced_until_every_key_is_back(image: ImageNode) -> None:
    """Running after `begin`, nothing afterwards; the keys at their numbers, the volume key another one."""
    before = volume_key(image, "one")
    node = begun(image)
    assert announced(node, EPHEMERAL) is ReencryptStage.RUNNING
    assert go_on(node, EPHEMERAL)
    assert announced(node, EPHEMERAL) is None
    assert not go_on(node, EPHEMERAL)
    assert slots(node) == {0: "static", 1: "static"}
    assert volume_key(image, "one") == volume_key(image, "two") != before


def test_a_key_that_stopped_to_work_is_passed_over_by_the_run(image: ImageNode) -> None:
    """The service goes on with the next one of the config, as a boot does, and not only with the first."""
    node = begun(image, Options(given_up=(0,)))
    image.configure(*(document(volume, static(0, "forgotten"), static(1, "two")) for volume in (STATE, EPHEMERAL)))
    assert go_on(node, EPHEMERAL)
    assert slots(node) == {0: "static", 1: "static"}
    assert opens(image.images[EPHEMERAL], b"forgotten")
    assert not opens(image.images[EPHEMERAL], b"one")


def test_without_any_key_it_stays_as_it_is(image: ImageNode) -> None:
    """Locked, with the reason for each slot, and nothing written; a recovery key goes on."""
    texts = []
    add_recovery_key(image.node, EPHEMERAL, lambda _, key: texts.append(Secret.join(key)))
    (recovery,) = texts
    with recovery:
        begin(image.node, EPHEMERAL, Options(), lambda _: Secret.join(recovery), lambda *_: None)
        image.configure(*(document(volume, static(0, "a"), static(1, "b")) for volume in (STATE, EPHEMERAL)))
        before = image.bytes_of()
        with pytest.raises(Locked, match=r"slot 0.*slot 1"):
            go_on(image.node, EPHEMERAL)
        assert image.bytes_of() == before
        assert go_on(image.node, EPHEMERAL, recovery)
    assert sorted(slots(image.node).values()) == ["recovery", "static", "static"]
    assert opens(image.images[EPHEMERAL], b"a")


def test_a_stop_is_no_failure_and_the_next_run_goes_on(image: ImageNode, clock: Clock) -> None:
    """Ctrl-C, as `systemctl stop`: half of it is done, nobody tells a rate any more, and the next run ends it."""

    def stop() -> None:
        progress = how_far(image.node, EPHEMERAL)
        if progress is not None and progress.done_bytes >= DATA_BYTES // 2:
            raise KeyboardInterrupt

    node = begun(image, Options(max_rate_bytes_s=MIB))
    clock.meanwhile = stop
    with pytest.raises(KeyboardInterrupt):
        go_on(node, EPHEMERAL)
    progress = how_far(node, EPHEMERAL)
    assert progress is not None
    assert DATA_BYTES // 2 <= progress.done_bytes < progress.total_bytes == DATA_BYTES
    assert (progress.stage, progress.running, progress.remaining_s) == (ReencryptStage.RUNNING, False, None)
    clock.meanwhile = None
    assert go_on(node, EPHEMERAL)
    assert slots(node) == {0: "static", 1: "static"}


def test_header_backups_of_before_are_dropped(image: ImageNode) -> None:
    """They are of the old volume key: put back, they would cost all data. Those of other volumes stay."""
    recipient = "".join(f"    {line}\n" for line in operator("x25519").public_pem().decode().splitlines())
    documents = (document(volume, static(0, "one"), static(1, "two")) for volume in (STATE, EPHEMERAL))
    text = "---\n".join((*documents, f"{POLICY}headerBackup:\n  recipient: |\n{recipient}"))
    (image.state / "config.yaml").write_text(text, encoding="utf-8")
    for volume in (STATE, EPHEMERAL):
        found = image.node.ports.disks.find(volume, image.settings.volume(volume), timeout_s=0)
        assert isinstance(found, probe.Device)
        keep_before_removal(image.node, found)
    assert {kept.volume for kept in kept_backups(image.node)} == {STATE, EPHEMERAL}
    assert go_on(begun(image), EPHEMERAL)
    assert [kept.volume for kept in kept_backups(image.node)] == [STATE]


def test_a_volume_of_one_copy_is_mended_first(image: ImageNode) -> None:
    """Where both header copies differ a boot has to look at it, and nothing is written here."""
    with image.images[EPHEMERAL].open("r+b") as file:
        file.seek(16 * KIB + 4096)
        file.write(b"\0")
    before = image.bytes_of()
    with pytest.raises(Refused, match="do not agree"):
        begun(image)
    assert image.bytes_of() == before


def test_whatever_changes_keys_waits_for_it(image: ImageNode) -> None:
    """Rotation, sync, adoption and recovery keys are refused as running; neither a byte nor the config is changed."""
    texts = []
    place = add_recovery_key(image.node, EPHEMERAL, lambda _, key: texts.append(Secret.join(key)))
    with texts[0] as recovery:
        begin(image.node, EPHEMERAL, Options(), lambda _: Secret.join(recovery), lambda *_: None)
    before, config = image.bytes_of(), (image.state / "config.yaml").read_bytes()
    node = image.node
    attempts: list[Callable[[], object]] = [
        lambda: sync(node, (EPHEMERAL,)),
        lambda: adopt(node, EPHEMERAL),
        lambda: rotate_slot(node, EPHEMERAL, 0, lambda: Secret.take(b"three"), lambda *_: None),
        lambda: add_recovery_key(node, EPHEMERAL, lambda *_: None),
        lambda: remove_recovery_key(node, EPHEMERAL, place.slot),
        lambda: replace_recovery_key(node, EPHEMERAL, place.slot, lambda *_: None),
        lambda: begin(node, EPHEMERAL, Options(), lambda _: None, lambda *_: None),
    ]
    for attempt in attempts:
        with pytest.raises(ReencryptionRunning):
            attempt()
    assert (image.bytes_of(), (image.state / "config.yaml").read_bytes()) == (before, config)


# ---- rate and remaining time ----------------------------------------------------------------------------------------


def test_it_is_held_to_its_rate(image: ImageNode, clock: Clock) -> None:
    """4 MiB at 1 MiB a second take four seconds, whatever the machine could do; without a limit nobody waits."""
    go_on(begun(image, Options(max_rate_bytes_s=MIB)), EPHEMERAL)
    assert clock.slept_s == pytest.approx(DATA_BYTES / MIB)
    clock.slept_s = 0.0
    go_on(begun(image), EPHEMERAL)
    assert clock.slept_s == 0


def test_status_tells_rate_and_remaining_time_while_it_runs(image: ImageNode, clock: Clock) -> None:
    """Bytes done by the header, the rate by the run; what is left takes as long as that rate says."""
    seen: list[ReencryptProgress] = []

    def look() -> None:
        progress = shown(image.node).reencryption
        assert progress is not None
        if not seen or seen[-1].done_bytes != progress.done_bytes:
            seen.append(progress)

    node = begun(image, Options(max_rate_bytes_s=MIB))
    clock.meanwhile = look
    go_on(node, EPHEMERAL)
    assert [progress.done_bytes for progress in seen] == sorted(progress.done_bytes for progress in seen)
    assert all(progress.running for progress in seen)
    told = [progress for progress in seen if progress.remaining_s is not None]
    assert told
    for progress in told:
        assert progress.bytes_per_s == pytest.approx(MIB)
        assert progress.remaining_s == pytest.approx((DATA_BYTES - progress.done_bytes) / (progress.bytes_per_s or 0))
        assert "/s, " in progress.text()
        assert "left" in progress.text()
    assert shown(node).reencryption is None


def test_keyslots_are_said_to_be_in_sync_once_it_has_ended(image: ImageNode) -> None:
    """A boot that found it running could not say; status is silent about that meanwhile, and all is well afterwards."""
    node = begun(image)
    write_report(node, Report(EPHEMERAL, VolumeState.OPEN, in_sync=False))
    assert not any("not those of the config" in finding for finding in shown(node).findings)
    go_on(node, EPHEMERAL)
    report = read_report(node, EPHEMERAL)
    assert report is not None
    assert report.in_sync
    assert not any("not those of the config" in finding for finding in shown(node).findings)


def test_a_key_that_could_not_be_made_anew_is_told_when_it_has_ended(image: ImageNode) -> None:
    """The slot was given up, and its provider still fails: the run ends all the same, and status says what is left."""
    node = begun(image, Options(given_up=(1,)))
    write_report(node, Report(EPHEMERAL, VolumeState.OPEN, in_sync=True))

    failing = image.with_provider(lambda key: NotHere() if key.slot == 1 else StaticProvider())
    assert go_on(failing, EPHEMERAL)
    assert slots(failing) == {0: "static"}
    assert announced(failing, EPHEMERAL) is None
    assert any("not those of the config" in finding for finding in shown(failing).findings)


def test_a_rate_that_cannot_be_told_stops_nothing(image: ImageNode) -> None:
    """A full /run, or something else at its place: the run goes on, and says once what is the matter."""
    Path(rate_path(image.node, EPHEMERAL)).mkdir(parents=True)
    pace = Pace(image.node, EPHEMERAL, 0)
    pace(1, 2)
    assert any("cannot be written" in line for line in image.told)
    assert read_rate(image.node, EPHEMERAL) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"bytesPerSecond": "fast", "toldSeconds": 1}', "null"])
def test_a_rate_that_is_torn_is_none(text: str, image: ImageNode) -> None:
    """The file is a help for people: whatever is in it, status goes on."""
    path = Path(rate_path(image.node, EPHEMERAL))
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    assert read_rate(image.node, EPHEMERAL) is None


def test_a_rate_of_nothing_leaves_no_time(image: ImageNode) -> None:
    """One that has just begun, or stands still, has no remaining time, and status says none."""
    node = begun(image)
    path = Path(rate_path(node, EPHEMERAL))
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"bytesPerSecond": 0.0, "toldSeconds": 1}), encoding="utf-8")
    progress = how_far(node, EPHEMERAL)
    assert progress is not None
    assert (progress.running, progress.remaining_s) == (True, None)
    assert progress.text() == "re-encrypted: 0 % of 4 MiB, 0 B/s"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (90061, "25 h 1 min"),
    ],
)
def test_a_time_is_said_in_its_two_largest_units(seconds: float, text: str) -> None:
    """Seconds, minutes and seconds, hours and minutes."""
    assert duration(seconds) == text


# ---- the service ----------------------------------------------------------------------------------------------------


def test_the_service_is_started_though_it_failed_before(image: ImageNode) -> None:
    """Without waiting for it."""
    system = Starting()
    start_service(replace(image.node, system=system), EPHEMERAL)
    unit = "luksctl-reencrypt@EPHEMERAL.service"
    assert system.asked == [f"forget that {unit} failed", f"start {unit}"]


def test_a_boot_that_cannot_start_it_says_so(image: ImageNode) -> None:
    """The volume is open all the same: no failure, but a finding with what to type."""
    assert go_on_later(replace(image.node, system=Starting()), EPHEMERAL) == ()
    (finding,) = go_on_later(replace(image.node, system=Starting("no such unit")), EPHEMERAL)
    assert finding == (
        "it is being re-encrypted, and nothing goes on with that: no such unit (luksctl reencrypt EPHEMERAL)"
    )
