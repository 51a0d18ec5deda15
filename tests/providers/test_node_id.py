"""The nodeID provider: Talos' bytes, refusal of guessable UUIDs, and what it says on another machine."""

from __future__ import annotations

import re
import uuid as uuids
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luksctl.errors import KeyRejected, ProviderUnavailable
from luksctl.model.config import ConfiguredKey, NodeIdKey, StaticKey
from luksctl.model.meta import MachineCheck
from luksctl.providers.node_id import NodeIdProvider, make_machine_check, matches, short_hash
from luksctl.secret import Secret
from tests.marker import shown_in

UUID = "12345678-1234-5678-1234-567812345678"
SWAPPED = "78563412-3412-7856-1234-567812345678"
OTHER = "4c4c4544-0042-3510-8051-b4c04f4e5731"
KEY = ConfiguredKey(1, NodeIdKey())


def content(secret: Secret) -> bytes:
    """Return the bytes of `secret` and close it."""
    with secret, secret.view() as view:
        return bytes(view)


def test_the_passphrase_is_that_of_talos() -> None:
    """UUID text and volume name, without anything between them."""
    made = NodeIdProvider(lambda: UUID).make("EPHEMERAL", KEY)
    assert content(made.key) == b"12345678-1234-5678-1234-567812345678EPHEMERAL"
    assert made.token is None


def test_the_other_byte_order_comes_second() -> None:
    """Firmware and kernels disagreed on the order of the first three fields."""
    found = [content(secret) for secret in NodeIdProvider(lambda: UUID).recover("STATE", KEY, None)]
    assert found == [f"{UUID}STATE".encode(), f"{SWAPPED}STATE".encode()]


def test_a_uuid_that_reads_the_same_both_ways_is_tried_once() -> None:
    """One key derivation less."""
    palindrome = "12343412-1212-2121-8051-b4c04f4e5731"
    found = list(NodeIdProvider(lambda: palindrome).recover("STATE", KEY, None))
    assert len(found) == 1


@given(st.uuids())
def test_the_other_order_is_an_involution(uuid: uuids.UUID) -> None:
    """Swapping twice gives the first back, and agrees with the library's own little-endian form."""
    found = [content(secret) for secret in NodeIdProvider(lambda: str(uuid), override=None).recover("", KEY, None)]
    assert found[0] == str(uuid).encode()
    assert found[-1] == str(uuids.UUID(bytes=uuid.bytes_le)).encode()


@pytest.mark.parametrize("override", ["any text at all", "UPPER-Case-Stays", "bytes \udcff\udc80", "line\n"])
def test_an_override_is_taken_as_it_stands(override: str) -> None:
    """No check of its form, no folding of case, one byte order; SMBIOS is not asked."""

    def never() -> str | None:
        raise AssertionError("asked SMBIOS")

    provider = NodeIdProvider(never, override=override)
    (found,) = provider.recover("STATE", KEY, None)
    assert content(found) == override.encode("utf-8", "surrogateescape") + b"STATE"
    (warning,) = provider.warnings()
    assert "in clear on this disk" in warning
    assert shown_in(warning, override.encode("utf-8", "surrogateescape")) == []


@pytest.mark.parametrize("override", [None, ""])
def test_no_override_is_no_warning(override: str | None) -> None:
    """An empty tag 15 counts as none, as in Talos."""
    provider = NodeIdProvider(lambda: UUID, override=override)
    assert provider.warnings() == ()
    assert content(provider.make("STATE", KEY).key).startswith(UUID.encode())


@pytest.mark.parametrize(
    "uuid",
    [
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "11111111-1111-1111-1111-1a2b3c4d5e6f",
        "aaaab",
    ],
)
def test_a_guessable_uuid_is_refused_without_showing_it(uuid: str) -> None:
    """One character in more than half of the text; the message has the hash only. An override is no exception."""
    for provider in (NodeIdProvider(lambda: uuid), NodeIdProvider(lambda: UUID, override=uuid)):
        for attempt in (lambda: provider.make("STATE", KEY), lambda: provider.recover("STATE", KEY, None)):  # noqa: B023
            with pytest.raises(KeyRejected, match=f"hash {short_hash(uuid)}") as caught:
                attempt()
            assert uuid not in str(caught.value.fields())


def test_exactly_half_is_enough_entropy() -> None:
    """Talos counts more than half: 18 of 36 pass, 19 do not."""
    half, more = "11111111-1111-1111-1123-456789abcdef", "11111111-1111-1111-1112-3456789abcde"
    assert (half.count("1"), more.count("1")) == (18, 19)
    assert NodeIdProvider(lambda: half).make("STATE", KEY).key
    with pytest.raises(KeyRejected):
        NodeIdProvider(lambda: more).make("STATE", KEY)


@pytest.mark.parametrize("uuid", [None, ""])
def test_no_uuid_is_for_good(uuid: str | None) -> None:
    """Retrying does not help, and the hint says what does."""
    provider = NodeIdProvider(lambda: uuid)
    with pytest.raises(KeyRejected, match="no SMBIOS UUID") as caught:
        provider.recover("STATE", KEY, None)
    assert caught.value.hint is not None
    assert caught.value.slot == 1
    assert provider.new_machine_check() is None
    assert provider.explain_rejection("STATE", KEY) is None


def test_a_source_that_cannot_be_read_now_is_passed_on() -> None:
    """Its ProviderUnavailable is not turned into a rejection."""

    def unreadable() -> str | None:
        raise ProviderUnavailable("cannot read it")

    with pytest.raises(ProviderUnavailable):
        NodeIdProvider(unreadable).make("STATE", KEY)


@given(st.uuids(), st.uuids())
def test_a_machine_check_knows_its_machine(uuid: uuids.UUID, other: uuids.UUID) -> None:
    """Always its own, in both byte orders; hardly ever another; two checks of one machine differ."""
    check = make_machine_check(str(uuid))
    assert matches(check, str(uuid))
    assert matches(check, str(uuids.UUID(bytes=uuid.bytes_le)))
    assert check != make_machine_check(str(uuid))
    assert re.fullmatch(r"[0-9a-f]{32}", check.salt)
    assert re.fullmatch(r"[0-9a-f]{4}", check.mac)
    checks = [make_machine_check(str(uuid)) for _ in range(4)]
    assert uuid == other or other.bytes_le == uuid.bytes or not all(matches(each, str(other)) for each in checks)


def test_the_machine_check_is_two_bytes_of_a_salted_hmac() -> None:
    """HMAC-SHA256 with the salt's text as the key: a record of one release is read by the next."""
    # printf %s UUID | openssl dgst -sha256 -hmac 00000000000000000000000000000000
    assert matches(MachineCheck("00" * 16, "5721"), UUID)
    assert not matches(MachineCheck("01" * 16, "5721"), UUID)


@pytest.mark.parametrize(
    ("check_of", "present", "explained"),
    [
        (lambda: make_machine_check(UUID), UUID, False),
        (lambda: make_machine_check(SWAPPED), UUID, False),
        (lambda: None, OTHER, False),
        (lambda: MachineCheck("00", "nope"), OTHER, True),
    ],
)
def test_a_rejection_on_another_machine_is_explained(
    check_of: Callable[[], MachineCheck | None], present: str, *, explained: bool
) -> None:
    """Only when the record shows it; the present UUID appears as its hash."""
    text = NodeIdProvider(lambda: present, machine_check=check_of()).explain_rejection("STATE", KEY)
    assert (text is not None) == explained
    if text is not None:
        assert "formatted on another machine" in text
        assert short_hash(present) in text
        assert present not in text


def test_the_check_is_of_the_identity_that_makes_the_keys() -> None:
    """With an override it is the override's."""
    check = NodeIdProvider(lambda: UUID, override=OTHER).new_machine_check()
    assert check is not None
    assert matches(check, OTHER)


def test_a_key_of_another_kind_is_a_bug() -> None:
    """The registry never does it."""
    with pytest.raises(TypeError, match="static"):
        NodeIdProvider(lambda: UUID).make("STATE", ConfiguredKey(0, StaticKey(Secret.take(b"pw"))))
