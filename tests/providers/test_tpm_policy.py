"""Policy digests computed by us are the TPM's own, and what systemd-measure computes for the same image."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import tpm2_pytss  # type: ignore[import-untyped]
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luksctl.providers.tpm_device import Approval, Tpm
from luksctl.providers.tpm_phases import extended
from luksctl.providers.tpm_policy import PcrValues, Policy, pcr_policy, pcr_selection, policy_digest
from luksctl.providers.tpm_signatures import read_public_keys, read_signatures
from tests.providers.measured_boot import entry, extend, image_value, loaded_handles, pem, signing_key
from tests.providers.swtpm import Swtpm

SYSTEMD_MEASURE = "/usr/lib/systemd/systemd-measure"
ALL_PCRS = tuple(range(24))


@pytest.fixture(scope="module")
def measured() -> Iterator[tuple[Swtpm, PcrValues]]:
    """Start a TPM in which every PCR that can be extended has a value of its own."""
    with Swtpm() as tpm:
        for pcr in range(16):
            extend(tpm, pcr, b"event of PCR %d" % pcr)
        with Tpm(tpm.tcti) as opened:
            values = opened.pcr_values(ALL_PCRS)
        yield tpm, values
        assert loaded_handles(tpm) == []


def trial_digest(tpm: Swtpm, bound: tuple[int, ...], approval: Approval | None = None) -> bytes:
    """Return the policy digest as the TPM computes it from its present PCRs, asked through tpm2-pytss' own classes."""
    none = tpm2_pytss.ESYS_TR.NONE
    with tpm2_pytss.ESAPI(tpm.tcti) as esys:
        session = esys.start_auth_session(none, none, tpm2_pytss.TPM2_SE.TRIAL, "null", tpm2_pytss.TPM2_ALG.SHA256)
        if approval is not None:
            public, _ = tpm2_pytss.TPMT_PUBLIC.unmarshal(approval.public)
            key = esys.load_external(tpm2_pytss.TPM2B_PUBLIC(public), hierarchy=tpm2_pytss.ESYS_TR.OWNER)
            signature = tpm2_pytss.TPMT_SIGNATURE(
                sigAlg=tpm2_pytss.TPM2_ALG.RSASSA,
                signature=tpm2_pytss.TPMU_SIGNATURE(
                    rsassa=tpm2_pytss.TPMS_SIGNATURE_RSA(hash=tpm2_pytss.TPM2_ALG.SHA256, sig=approval.signature)
                ),
            )
            ticket = esys.verify_signature(key, hashlib.sha256(approval.digest).digest(), signature)
            esys.policy_pcr(session, b"", "sha256:11")
            esys.policy_authorize(
                policy_session=session,
                approved_policy=approval.digest,
                key_sign=esys.tr_get_name(key),
                check_ticket=ticket,
                policy_ref=b"",
            )
            esys.flush_context(key)
        if bound:
            esys.policy_pcr(session, b"", f"sha256:{','.join(map(str, bound))}")
        digest = bytes(esys.policy_get_digest(session))
        esys.flush_context(session)
        return digest


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pcrs=st.lists(st.sampled_from(ALL_PCRS), min_size=1, max_size=24, unique=True))
def test_pcr_policies_are_the_tpms_own(measured: tuple[Swtpm, PcrValues], pcrs: list[int]) -> None:
    """Any PCRs, in any order: the TPM goes by their numbers."""
    tpm, values = measured
    assert pcr_policy(values, tuple(pcrs)) == trial_digest(tpm, tuple(pcrs))


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("bound", [(), (7,), (0, 2, 4, 7, 9), ALL_PCRS])
def test_signed_policies_are_the_tpms_own(
    measured: tuple[Swtpm, PcrValues], bound: tuple[int, ...], number: int
) -> None:
    """PolicyAuthorize by keys of two sizes, then PolicyPCR."""
    tpm, values = measured
    key = signing_key(number)
    (public,) = read_public_keys(pem(key), "key.pem")
    (signature,) = read_signatures(json.dumps({"sha256": [entry(key, values[11])]}).encode())
    approval = Approval(public.public, signature.digest, signature.signature)
    policy = Policy(signed=True, bound=bound)
    assert trial_digest(tpm, bound, approval) == policy_digest(policy, public.name, values)


@given(pcrs=st.sets(st.sampled_from(ALL_PCRS)))
def test_a_selection_is_one_bank_of_three_bytes(pcrs: set[int]) -> None:
    """The bit of each PCR, lowest first (Part 2, 10.6.2)."""
    selection = pcr_selection(tuple(pcrs))
    assert selection[:7] == bytes.fromhex("00000001 000b 03")
    assert {pcr for pcr in ALL_PCRS if selection[7 + pcr // 8] >> pcr % 8 & 1} == pcrs


def test_a_digest_that_was_computed_elsewhere() -> None:
    """PolicyPCR over PCR 7 of zeros, as the TPM 2.0 specification's formula gives it, step by step."""
    held = hashlib.sha256(bytes(32)).digest()
    selected = bytes.fromhex("00000001 000b 03 800000")
    expected = hashlib.sha256(bytes(32) + bytes.fromhex("0000017f") + selected + held).digest()
    assert pcr_policy({7: bytes(32)}, (7,)) == expected


def test_what_systemd_measure_signs_is_what_we_look_for(tmp_path: Path) -> None:
    """Its values of PCR 11, its policies, its fingerprints and its signatures."""
    if not os.path.exists(SYSTEMD_MEASURE):
        pytest.skip("systemd-measure is not installed (Debian 12: systemd, later: systemd-boot-tools or systemd-ukify)")
    key = signing_key(0)
    private, public = tmp_path / "key.pem", tmp_path / "public.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(pem(key))
    (tmp_path / "linux").write_bytes(b"a kernel")
    (tmp_path / "cmdline").write_bytes(b"quiet")
    image = [f"--linux={tmp_path}/linux", f"--cmdline={tmp_path}/cmdline", "--bank=sha256"]
    phases = ["enter-initrd", "enter-initrd:leave-initrd", "enter-initrd:leave-initrd:enter-machined"]
    with Swtpm() as tpm:
        command = [SYSTEMD_MEASURE, "sign", *image, *(f"--phase={phase}" for phase in phases)]
        keys = [f"--private-key={private}", f"--public-key={public}", f"--tpm2-device={tpm.tcti}"]
        signed = subprocess.run([*command, *keys], check=True, stdout=subprocess.PIPE).stdout
    value = bytes(32)
    for section, content in ((b".linux\0", b"a kernel"), (b".cmdline\0", b"quiet")):
        for measured in (section, content):
            value = hashlib.sha256(value + hashlib.sha256(measured).digest()).digest()
    (read,) = read_public_keys(public.read_bytes(), str(public))
    entries = read_signatures(signed)
    assert {found.fingerprint for found in entries} == {read.fingerprint}
    values = [extended(value, phase.split(":")) for phase in phases]
    assert {found.digest for found in entries} == {pcr_policy({11: held}, (11,)) for held in values}
    ours = json.dumps({"sha256": [entry(key, held) for held in values]}).encode()
    assert set(read_signatures(ours)) == set(entries)


def test_image_values_of_the_tests_are_of_one_measurement() -> None:
    """The helper measures as `boot` does."""
    once = hashlib.sha256(bytes(32) + hashlib.sha256(b"image").digest()).digest()
    assert image_value(b"image", ()) == once
