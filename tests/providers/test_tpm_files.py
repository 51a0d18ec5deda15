"""The files of a signed PCR policy: found where systemd looks or where they were named, and read with suspicion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from luksctl.providers.tpm_files import DIRECTORIES, PUBLIC_KEY, SIGNATURE, PolicyFiles
from luksctl.providers.tpm_signatures import read_public_keys, read_signatures
from tests.providers.measured_boot import Files, entry, image_value, pem, signing_key
from tests.providers.test_tpm_token import JSON_VALUES

VALUE = image_value(b"image")


@pytest.fixture
def two(tmp_path: Path) -> tuple[Files, Files]:
    """Make two of the directories that are looked into."""
    return Files(tmp_path / "etc"), Files(tmp_path / "run")


def read(*files: Files) -> PolicyFiles:
    return PolicyFiles(directories=tuple(str(each.directory) for each in files))


# ---- where they are -------------------------------------------------------------------------------------------------


def test_systemds_places_are_looked_into() -> None:
    """In systemd's order, and last where systemd-stub leaves what is in the image."""
    assert DIRECTORIES == ("/etc/systemd", "/run/systemd", "/usr/lib/systemd", "/.extra")
    assert PolicyFiles().places().startswith("/etc/systemd/tpm2-pcr-public-key.pem, /run/systemd/tpm2-pcr")


def test_whatever_lies_in_any_of_them_counts(two: tuple[Files, Files]) -> None:
    """Keys in the order of the places, each once; signatures likewise."""
    first, second = two
    first.sign(VALUE, keys=(1,))
    second.sign(VALUE, keys=(0, 1))
    found = read(first, second).read()
    ours = [read_public_keys(pem(signing_key(number)), "")[0].fingerprint for number in (1, 0)]
    assert [key.fingerprint for key in found.keys] == ours
    assert [key.source for key in found.keys] == [str(each.directory / PUBLIC_KEY) for each in two]
    assert [signature.fingerprint for signature in found.signatures] == ours
    assert found.problems == ()


def test_nothing_anywhere_is_no_problem(two: tuple[Files, Files]) -> None:
    """Most nodes have no signed policy."""
    assert read(*two).read() == PolicyFiles(directories=()).read()


def test_files_that_were_named_are_the_only_ones(two: tuple[Files, Files], tmp_path: Path) -> None:
    """One that is missing is a problem then."""
    two[0].sign(VALUE)
    named = str(tmp_path / "named.pem")
    Path(named).write_bytes(pem(signing_key(1)))
    missing = str(tmp_path / "missing.json")
    found = PolicyFiles((named,), (missing,), (str(two[0].directory),)).read()
    assert [key.source for key in found.keys] == [named]
    assert found.signatures == ()
    assert found.problems == (f"{missing}: there is no such file",)


def test_a_file_that_is_no_use_spoils_no_other(two: tuple[Files, Files]) -> None:
    """Each problem names its file."""
    first, second = two
    second.sign(VALUE)
    (first.directory / PUBLIC_KEY).write_bytes(b"no key")
    (first.directory / SIGNATURE).write_bytes(b"{")
    found = read(first, second).read()
    assert len(found.keys) == len(found.signatures) == 1
    assert [problem.partition(": ")[0] for problem in found.problems] == [
        str(first.directory / PUBLIC_KEY),
        str(first.directory / SIGNATURE),
    ]


def test_what_cannot_be_read_or_is_huge_is_said(two: tuple[Files, Files]) -> None:
    """A directory in the place of a file, and a file that no image has."""
    first, _ = two
    (first.directory / PUBLIC_KEY).mkdir()
    with (first.directory / SIGNATURE).open("wb") as target:
        target.truncate((1 << 20) + 1)
    problems = read(first).read().problems
    assert [problem.partition(": ")[2] for problem in problems] == ["Is a directory", "larger than 1 MiB"]


# ---- what is in them ------------------------------------------------------------------------------------------------


def public_half(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "no public key"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "."),
        (public_half(ec.generate_private_key(ec.SECP256R1())), "not RSA"),
    ],
)
def test_what_is_no_rsa_key_is_refused(content: bytes, told: str) -> None:
    """With the reason."""
    with pytest.raises(ValueError, match=told):
        read_public_keys(content, "")


def test_text_around_a_key_does_not_matter() -> None:
    """PEM files have comments, and several keys one after the other."""
    both = b"# ours\n" + pem(signing_key(0)) + b"# theirs\n" + pem(signing_key(1))
    assert [key.fingerprint for key in read_public_keys(both, "")] == [
        entry(signing_key(number), VALUE)["pkfp"] for number in (0, 1)
    ]


@given(content=st.binary() | JSON_VALUES.map(lambda value: json.dumps(value).encode()) | st.just(b"[" * 200_000))
def test_any_content_is_read_or_refused(content: bytes) -> None:
    """Nothing but ValueError is raised."""
    try:
        found = read_signatures(content)
    except ValueError:
        return
    assert isinstance(found, tuple)


@pytest.mark.parametrize("name", ["pcrs", "pkfp", "pol", "sig"])
@given(value=JSON_VALUES)
def test_an_entry_that_makes_no_sense_is_passed_over(name: str, value: Any) -> None:
    """The good one beside it counts."""
    good = entry(signing_key(0), VALUE)
    (expected,) = read_signatures(json.dumps({"sha256": [good]}).encode())
    assert expected in read_signatures(json.dumps({"sha256": [{**good, name: value}, good]}).encode())


def test_entries_of_other_banks_and_other_pcrs_are_passed_over() -> None:
    """A TPM with SHA-1 only gets nothing."""
    good = entry(signing_key(0), VALUE)
    others = {"sha1": [good], "sha384": [good], "sha256": [{**good, "pcrs": [11, 12]}, {**good, "sig": "A" * 800}]}
    assert read_signatures(json.dumps(others).encode()) == ()
