"""What a signed image of the rig makes of PCR 11, and that its signatures are for exactly that."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from rig import cache, host, uki
from rig.firmware import EVERY_PHASE, OPENING, WORDS, Keys, keys

from luksctl.providers.tpm_policy import pcr_policy
from luksctl.providers.tpm_signatures import read_public_keys, read_signatures

MEASURE = "/usr/lib/systemd/systemd-measure"
SECTIONS = {name: f"content of {name}".encode() for name in uki.MEASURED}


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """Return keys that nobody else uses."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (host, cache):
            patch.setattr(module, "CACHE", tmp_path_factory.mktemp("cache"))
        return keys()


def test_values_are_those_that_systemd_measure_computes(tmp_path: Path) -> None:
    """For every phase of a boot; it measures sections in the order of the stub."""
    if not os.path.exists(MEASURE):
        pytest.skip("systemd-measure is not installed (Debian 12: systemd, later: systemd-boot-tools or systemd-ukify)")
    command = [MEASURE, "calculate", "--json=short", "--bank=sha256"]
    for name, content in SECTIONS.items():
        (tmp_path / name).write_bytes(content)
        command.append(f"--{name.removeprefix('.')}={tmp_path / name}")
    command += [f"--phase={':'.join(words)}" for words in EVERY_PHASE]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    values = [entry["hash"] for entry in json.loads(done.stdout)["sha256"]]
    assert values == [uki.pcr_value(SECTIONS, words).hex() for words in EVERY_PHASE]


def test_signatures_are_for_the_values_of_their_phases(signer: Keys) -> None:
    """Luksctl reads them as those of the one key, and each is for the policy that luksctl computes."""
    text = uki.signatures(SECTIONS, signer, EVERY_PHASE)
    found = read_signatures(text)
    (public,) = read_public_keys(signer.pcr_public(), "the image")
    assert {entry.fingerprint for entry in found} == {public.fingerprint}
    expected = [pcr_policy({11: uki.pcr_value(SECTIONS, words)}, (11,)) for words in EVERY_PHASE]
    assert [entry.digest for entry in found] == expected
    for entry in json.loads(text)["sha256"]:
        signature = base64.b64decode(entry["sig"])
        signer.pcr_key().public_key().verify(
            signature, bytes.fromhex(entry["pol"]), padding.PKCS1v15(), hashes.SHA256()
        )


def test_any_other_content_is_another_value() -> None:
    """Each section counts, and each word."""
    values = {uki.pcr_value({**SECTIONS, name: b"other"}, OPENING) for name in SECTIONS}
    values |= {uki.pcr_value(SECTIONS, WORDS[:count]) for count in range(len(WORDS) + 1)}
    assert len(values) == len(SECTIONS) + len(WORDS) + 1


def test_private_keys_are_private(signer: Keys) -> None:
    """Nobody else on a shared host can sign with them."""
    private = sorted(signer.directory.glob("*.key"))
    assert [file.stat().st_mode & 0o777 for file in private] == [0o600] * len(private)
