"""A machine that boots measured images: PCRs extended as by firmware and systemd-stub, files signed as by systemd."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from luksctl.model.config import ConfiguredKey, TpmKey, TpmPolicy
from luksctl.providers.tpm import TpmProvider
from luksctl.providers.tpm_connection import TpmConnection
from luksctl.providers.tpm_files import PUBLIC_KEY, SIGNATURE
from luksctl.providers.tpm_phases import extended
from luksctl.providers.tpm_policy import PcrValues, pcr_policy
from tests.providers.swtpm import Swtpm

FIRMWARE = b"secure boot is on, and these keys count"
IMAGE = b"an image with kernel, initrd and command line"
PHASE = ("enter-initrd",)
# The type of event by which systemd-stub notes the parts of an image: EV_IPL.
IPL = 0x0D
VOLUME = "EPHEMERAL"
KEY = ConfiguredKey(4, TpmKey())
NO_PCRS = ConfiguredKey(4, TpmKey(pcrs=()))


@cache
def signing_key(number: int) -> rsa.RSAPrivateKey:
    """Return the `number`th key of whoever signs images; making one takes a while."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048 if number == 0 else 3072)


def pem(key: rsa.RSAPrivateKey) -> bytes:
    """Return the public half as it lies beside the signatures."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def entry(key: rsa.RSAPrivateKey, pcr_11: bytes) -> dict[str, object]:
    """Return what systemd-measure writes for one value of PCR 11."""
    digest = pcr_policy({11: pcr_11}, (11,))
    encoded = key.public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)
    return {
        "pcrs": [11],
        "pkfp": hashlib.sha256(encoded).hexdigest(),
        "pol": digest.hex(),
        "sig": base64.b64encode(key.sign(digest, padding.PKCS1v15(), SHA256())).decode(),
    }


def image_value(image: bytes, phases: Iterable[str] = PHASE) -> bytes:
    """Return what PCR 11 holds after `image` was measured in one piece and the boot went through `phases`."""
    return extended(hashlib.sha256(bytes(32) + hashlib.sha256(image).digest()).digest(), phases)


def extend(tpm: Swtpm, pcr: int, *events: bytes) -> None:
    """Extend `pcr` with the SHA-256 of each event."""
    import tpm2_pytss  # type: ignore[import-untyped]  # noqa: PLC0415  # the provider decides when it is loaded first

    with tpm2_pytss.ESAPI(tpm.tcti) as esys:
        for event in events:
            hashed = tpm2_pytss.TPMT_HA(
                hashAlg=tpm2_pytss.TPM2_ALG.SHA256,
                digest=tpm2_pytss.TPMU_HA(sha256=hashlib.sha256(event).digest()),
            )
            esys.pcr_extend(tpm2_pytss.ESYS_TR(pcr), tpm2_pytss.TPML_DIGEST_VALUES([hashed]))


def event_log(*events: tuple[int, int, bytes]) -> bytes:
    """Return what firmware writes of events with these PCRs, types and contents, in two banks."""
    banks = struct.pack("<IHHHH", 2, 0x0004, 20, 0x000B, 32)
    first = b"Spec ID Event03\0" + bytes(4) + b"\0\2\0\2" + banks + b"\0"
    log = struct.pack("<II20sI", 0, 3, bytes(20), len(first)) + first
    for pcr, kind, content in events:
        log += struct.pack("<III", pcr, kind, 2)
        log += struct.pack("<H20s", 0x0004, hashlib.sha1(content, usedforsecurity=False).digest())
        log += struct.pack("<H32sI", 0x000B, hashlib.sha256(content).digest(), len(content)) + content
    return log


def boot(tpm: Swtpm, *, firmware: bytes = FIRMWARE, image: bytes | None = IMAGE, phases: Iterable[str] = PHASE) -> None:
    """Turn the machine off and on, and measure what it boots."""
    tpm.restart()
    extend(tpm, 7, firmware)
    if image is not None:
        extend(tpm, 11, image)
    extend(tpm, 11, *(word.encode() for word in phases))


class Files:
    """A directory of public keys and signatures, as /etc/systemd is one."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(exist_ok=True)

    def sign(self, *values: bytes, keys: tuple[int, ...] = (0,), public: tuple[int, ...] | None = None) -> None:
        """Have `keys` sign `values` of PCR 11, and put the public halves of `public` (default: the same) beside."""
        entries = [entry(signing_key(number), value) for number in keys for value in values]
        (self.directory / SIGNATURE).write_text(json.dumps({"sha256": entries}), encoding="ascii")
        halves = b"".join(pem(signing_key(number)) for number in (keys if public is None else public))
        (self.directory / PUBLIC_KEY).write_bytes(halves)

    def remove(self) -> None:
        """Remove both files."""
        for name in (SIGNATURE, PUBLIC_KEY):
            with suppress(FileNotFoundError):
                (self.directory / name).unlink()


class Noted:
    """Remembers PCR values as the bookkeeping would."""

    def __init__(self) -> None:
        self.values: dict[bytes, PcrValues] = {}

    def note(self, policy_hash: bytes, values: PcrValues) -> None:
        """Note the values."""
        self.values[policy_hash] = values

    def recall(self, policy_hash: bytes) -> PcrValues | None:
        """Return them."""
        return self.values.get(policy_hash)


class Machine:
    """A machine with its TPM and its files; each call of `make` and `recover` opens the TPM and closes it again."""

    def __init__(self, tpm: Swtpm, directory: Path) -> None:
        self.tpm = tpm
        self.files = Files(directory / "systemd")
        self.efivars = directory / "efivars"
        self.event_log = directory / "binary_bios_measurements"
        self.policy = TpmPolicy()
        self.noted: Noted | None = None

    def set_secure_boot(self, secure_boot: int | None, setup_mode: int = 0) -> None:
        """Have the firmware's variables say so; None: there is no such variable."""
        self.efivars.mkdir(exist_ok=True)
        for name, value in (("SecureBoot", secure_boot), ("SetupMode", setup_mode)):
            if value is not None:
                path = self.efivars / f"{name}-8be4df61-93ca-11d2-aa0d-00e098032b8c"
                path.write_bytes(b"\x06\0\0\0" + bytes([value]))

    def provider(self, connection: TpmConnection) -> TpmProvider:
        """Return the provider as the machine is configured."""
        return TpmProvider(
            connection,
            self.policy,
            directories=(str(self.files.directory),),
            efivars=str(self.efivars),
            event_log=str(self.event_log),
            sealed_pcrs=self.noted,
        )

    def make(self, key: ConfiguredKey = KEY) -> tuple[bytes, str]:
        """Return the bytes of a fresh key, and its token."""
        with TpmConnection(self.tpm.tcti) as connection:
            made = self.provider(connection).make(VOLUME, key)
        assert made.token is not None
        with made.key as secret, secret.view() as view:
            return bytes(view), made.token

    def recover(self, token: str | None, key: ConfiguredKey = KEY) -> bytes:
        """Return the bytes of the one candidate."""
        with TpmConnection(self.tpm.tcti) as connection:
            (candidate,) = self.provider(connection).recover(VOLUME, key, token)
        with candidate, candidate.view() as view:
            return bytes(view)


def loaded_handles(tpm: Swtpm) -> list[int]:
    """Return every object and session that somebody left in the TPM."""
    import tpm2_pytss  # noqa: PLC0415  # as above

    found = []
    with tpm2_pytss.ESAPI(tpm.tcti) as esys:
        for first in (0x02000000, 0x03000000, 0x80000000):
            # The list points into the answer, so the answer stays referenced.
            _, answer = esys.get_capability(tpm2_pytss.TPM2_CAP.HANDLES, first, 64)
            handles = answer.data.handles
            found += [int(handles[index]) for index in range(len(handles))]
    return found
