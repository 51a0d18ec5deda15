"""Tokens that read well and hold garbage: what a real TPM makes of them is told apart, and leaves nothing in it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luksctl.errors import TokenInvalid, TpmReason, TpmRejected
from luksctl.providers.tpm_public import sized
from tests.providers.measured_boot import IMAGE, Machine, boot, image_value, loaded_handles
from tests.providers.swtpm import Swtpm

SLOW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Machine, str]]:
    """Make one key that all examples damage the token of; it opens at the end as at the beginning."""
    directory: Path = tmp_path_factory.mktemp("machine")
    with Swtpm() as tpm:
        machine = Machine(tpm, directory)
        machine.files.sign(image_value(IMAGE))
        boot(tpm)
        key, token = machine.make()
        yield machine, token
        assert machine.recover(token) == key
        assert loaded_handles(tpm) == []


def reason(machine: Machine, token: str, **fields: Any) -> TpmReason:
    """Return why the token with these fields of its data is refused."""
    document = json.loads(token)
    for name, content in fields.items():
        document["UserData"][name] = base64.b64encode(content).decode() if isinstance(content, bytes) else content
    with pytest.raises(TpmRejected) as caught:
        machine.recover(json.dumps(document))
    return caught.value.reason


def field(token: str, name: str) -> bytes:
    """Return the bytes in one field."""
    return base64.b64decode(json.loads(token)["UserData"][name])


@SLOW
@given(content=st.binary(min_size=1, max_size=2000))
def test_any_other_private_part_is_damage(sealed: tuple[Machine, str], content: bytes) -> None:
    """Of any length, also one that the library has no room for."""
    assert reason(*sealed, sealed_blob_private=sized(content)) is TpmReason.DAMAGED


@SLOW
@given(data=st.data())
def test_any_other_bit_is_damage(sealed: tuple[Machine, str], data: st.DataObject) -> None:
    """The TPM's own integrity check covers the private part, and with it the public one."""
    machine, token = sealed
    name = data.draw(st.sampled_from(["sealed_blob_private", "sealed_blob_public"]))
    content = bytearray(field(token, name))
    bit = data.draw(st.integers(16, len(content) * 8 - 1))
    content[bit // 8] ^= 1 << bit % 8
    try:
        assert reason(machine, token, **{name: bytes(content)}) is TpmReason.DAMAGED
    except TokenInvalid:
        # In these places of the public part it is seen before the TPM is asked.
        assert name == "sealed_blob_public"


@SLOW
@given(name=st.binary(min_size=34, max_size=34))
def test_any_other_root_key_is_another_tpm(sealed: tuple[Machine, str], name: bytes) -> None:
    """Whatever else the token says."""
    assert reason(*sealed, key_name=sized(name)) is TpmReason.SRK_CHANGED


@SLOW
@given(pcrs=st.sets(st.integers(0, 23)).map(sorted).filter(lambda pcrs: pcrs != [7]))
def test_any_other_list_of_pcrs_fits_nothing(sealed: tuple[Machine, str], pcrs: list[int]) -> None:
    """A PCR that nothing was measured into is named, else it looks like other values of these PCRs."""
    if not pcrs:
        expected = TpmReason.KEY_UNKNOWN
    elif {7, 11}.issuperset(pcrs):
        expected = TpmReason.PCR_MISMATCH
    else:
        expected = TpmReason.NOT_MEASURED
    assert reason(*sealed, pcrs=pcrs) is expected
