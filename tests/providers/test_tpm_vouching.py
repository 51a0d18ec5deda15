"""What is known of a key that would be sealed in the place of a lost one: its state, the old one, and who vouches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from luksctl.errors import TokenInvalid, TpmReason, TpmRejected
from luksctl.model.config import ConfiguredKey, TpmKey, TpmPolicy
from luksctl.model.sealing import Vouching
from luksctl.providers.tpm_connection import TpmConnection
from tests.providers.measured_boot import IMAGE, IPL, KEY, Machine, boot, event_log, extend, image_value, loaded_handles
from tests.providers.swtpm import Swtpm

NEW_FIRMWARE = b"a dbx update"


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """Boot a machine from a signed image under Secure Boot."""
    with Swtpm() as tpm:
        machine = Machine(tpm, tmp_path)
        machine.files.sign(image_value(IMAGE))
        machine.set_secure_boot(1)
        boot(tpm)
        yield machine
        assert loaded_handles(machine.tpm) == []


def vouching(machine: Machine, token: str | None) -> Vouching:
    with TpmConnection(machine.tpm.tcti) as connection:
        return machine.provider(connection).vouching(KEY, token)


def test_a_key_that_is_in_place_would_be_bound_to_what_it_is(machine: Machine) -> None:
    """Both states are the same one."""
    said = vouching(machine, machine.make()[1])
    assert said.holds
    assert said.policy == said.was is not None


def test_other_firmware_is_another_state_and_the_code_is_vouched_for(machine: Machine) -> None:
    """The signature holds whatever PCR 7 is; and back again it is the first state."""
    _, token = machine.make()
    before = vouching(machine, token)
    boot(machine.tpm, firmware=NEW_FIRMWARE)
    after = vouching(machine, token)
    assert after.holds
    assert after.was == before.was
    assert after.policy != before.policy
    boot(machine.tpm)
    assert vouching(machine, token) == before


def test_another_tpm_is_another_state(machine: Machine) -> None:
    """With all PCRs the same."""
    _, token = machine.make()
    with Swtpm() as other:
        boot(other)
        machine.tpm.power_off()
        replaced = Machine(other, machine.files.directory.parent)
        said = vouching(replaced, token)
        machine.tpm.power_on()
    assert said.policy != said.was is not None


def test_what_was_may_be_unknown(machine: Machine) -> None:
    """A token that is none tells nothing."""
    for token in (None, "{}"):
        assert vouching(machine, token).was is None


@pytest.mark.parametrize(("secure_boot", "setup_mode"), [(0, 0), (1, 1), (None, 1)])
def test_without_secure_boot_nobody_vouches(machine: Machine, secure_boot: int | None, setup_mode: int) -> None:
    """The state is known all the same."""
    for path in machine.efivars.iterdir():
        path.unlink()
    machine.set_secure_boot(secure_boot, setup_mode)
    said = vouching(machine, None)
    assert not said.holds
    assert said.policy is not None


def test_literal_pcrs_are_vouched_for_by_a_signature_beside_them(machine: Machine) -> None:
    """And by nobody without one."""
    machine.policy = TpmPolicy(literal_pcrs=True)
    assert vouching(machine, None).holds
    boot(machine.tpm, image=b"another image")
    assert not vouching(machine, None).holds
    boot(machine.tpm, image=None, phases=())
    assert not vouching(machine, None).holds
    machine.files.remove()
    boot(machine.tpm)
    assert not vouching(machine, None).holds


def test_where_no_key_can_be_made_that_is_raised(machine: Machine) -> None:
    """An image that nobody signed, and phases that are past."""
    boot(machine.tpm, phases=("enter-initrd", "leave-initrd"))
    with pytest.raises(TpmRejected) as caught:
        vouching(machine, None)
    assert caught.value.reason is TpmReason.NO_SIGNATURE


@pytest.mark.parametrize("keys", [(0,), (1, 0)])
def test_past_the_signed_phase_it_is_known_what_the_next_boot_would_bind_to(
    machine: Machine, keys: tuple[int, ...]
) -> None:
    """The very state that a key made there is bound to; what PCR 11 became since does not count, nor who else signs."""
    machine.files.sign(image_value(IMAGE), keys=(0,), public=keys)
    machine.event_log.write_bytes(event_log((11, IPL, IMAGE)))
    _, token = machine.make()
    boot(machine.tpm, firmware=NEW_FIRMWARE, phases=("enter-initrd", "leave-initrd"))
    late = vouching(machine, token)
    assert (late.late, late.holds) == (True, False)
    boot(machine.tpm, firmware=NEW_FIRMWARE)
    _, made = machine.make()
    early = vouching(machine, made)
    assert (early.late, early.policy, early.was) == (False, late.policy, late.policy)
    assert late.was != late.policy


@pytest.mark.parametrize(
    ("made_for", "asked_for", "said"),
    [
        (None, (7,), None),
        ((4, 7), (7, 4, 4), None),
        ((), (), None),
        (None, (4, 7), "it is bound to PCR 7, and the config says PCR 4, 7"),
        ((7,), (), "it is bound to PCR 7, and the config says no listed PCR"),
    ],
)
def test_a_token_for_other_pcrs_deviates(
    machine: Machine, made_for: tuple[int, ...] | None, asked_for: tuple[int, ...], said: str | None
) -> None:
    """Order and repetition do not count."""
    extend(machine.tpm, 4, b"a boot loader")
    _, token = machine.make(ConfiguredKey(4, TpmKey(pcrs=made_for)))
    with TpmConnection(machine.tpm.tcti) as connection:
        assert machine.provider(connection).deviation(ConfiguredKey(4, TpmKey(pcrs=asked_for)), token) == said


def test_no_token_deviates_by_being_none(machine: Machine) -> None:
    """What cannot be read is not compared."""
    with TpmConnection(machine.tpm.tcti) as connection, pytest.raises(TokenInvalid):
        machine.provider(connection).deviation(KEY, "{}")
