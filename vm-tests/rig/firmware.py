"""UEFI firmware with Secure Boot on and nobody's keys in it but the rig's: how a machine owner sets one up.

The keys are made where they are used, kept under .cache/vm like the guest image, and protect nothing.
"""

from __future__ import annotations

import datetime as dt
import sys
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from rig import host
from rig.cache import built, fingerprint
from rig.errors import BuildFailed, Precondition

CODE = Path("/usr/share/OVMF/OVMF_CODE_4M.secboot.fd")
BLANK_VARIABLES = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
STUB = Path("/usr/lib/systemd/boot/efi/linuxx64.efi.stub")
FORMAT = b"1"  # raise when the keys below are made otherwise

# Who owns the machine, who signs images for it, and somebody whose images it may also boot from some day on.
OWNER, EXCHANGE, IMAGES, OTHERS = "PK", "KEK", "images", "others"
# Whose signatures over PCR 11 count; a key of its own, since it lives where images are built.
PCRS = "pcrs"
CERTIFIED = (OWNER, EXCHANGE, IMAGES, OTHERS)
_OWNER_GUID = "6f1c7a9e-3c55-4b0a-9d0f-5a1c0de07a05"
_KEY_BITS = 2048
_VALID = dt.timedelta(days=3650)
_BEFORE = dt.timedelta(days=1)

# The words that a boot extends PCR 11 with (systemd-pcrphase), and how far it is when volumes are opened.
WORDS = ("enter-initrd", "leave-initrd", "sysinit", "ready")
OPENING = WORDS[:2]
EVERY_PHASE = tuple(WORDS[:count] for count in range(1, len(WORDS) + 1))


@dataclass(frozen=True, slots=True)
class SecureBoot:
    """Boot by UEFI with Secure Boot on, from one signed file that holds kernel, initramfs and kernel arguments.

    allowed names the certificates whose images the firmware boots (another list is another PCR 7), signed_by whose key
    signed this one. phases are those of the boot for which the image brings a signature of its PCR 11; systemd-measure
    signs them all unless told otherwise. signatures, where given, are what it brings instead.
    """

    allowed: tuple[str, ...] = (IMAGES,)
    signed_by: str = IMAGES
    phases: tuple[tuple[str, ...], ...] = EVERY_PHASE
    signatures: bytes | None = None


@dataclass(frozen=True, slots=True)
class Keys:
    """Name the files of the rig's keys."""

    directory: Path

    def certificate(self, name: str) -> Path:
        """Return the path of a certificate."""
        return self.directory / f"{name}.crt"

    def private(self, name: str) -> Path:
        """Return the path of a private key."""
        return self.directory / f"{name}.key"

    def pcr_key(self) -> rsa.RSAPrivateKey:
        """Return the key that signs PCR 11."""
        key = load_pem_private_key(self.private(PCRS).read_bytes(), None)
        if not isinstance(key, rsa.RSAPrivateKey):
            raise BuildFailed(f"{self.private(PCRS)} is no RSA key")
        return key

    def pcr_public(self) -> bytes:
        """Return the public half of the key that signs PCR 11, in PEM."""
        return self.pcr_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def check_can_run() -> None:
    """Raise Precondition unless machines with Secure Boot can be started here."""
    for name in ("sbsign", "objcopy", "swtpm"):
        host.program(name)
    for path in (CODE, BLANK_VARIABLES, STUB):
        if not path.exists():
            raise Precondition(f"{path} is not there; vm-tests/packages.txt lists the Debian packages the rig needs")


def keys() -> Keys:
    """Return the rig's keys, making them first if nobody has."""
    return Keys(
        built("secure-boot", fingerprint([FORMAT, *(name.encode() for name in (*CERTIFIED, PCRS))]), _make_keys)
    )


def _make_keys(work: Path) -> None:
    made = Keys(work)
    for name in (*CERTIFIED, PCRS):
        key = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        made.private(name).touch(mode=0o600)
        made.private(name).write_bytes(pem)
        if name in CERTIFIED:
            made.certificate(name).write_bytes(_certified(name, key).public_bytes(Encoding.PEM))


def _certified(name: str, key: rsa.RSAPrivateKey) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"rig {name}")])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    return builder.not_valid_before(now - _BEFORE).not_valid_after(now + _VALID).sign(key, hashes.SHA256())


def write_variables(secure_boot: SecureBoot, target: Path) -> None:
    """Write the firmware's variables: the owner's keys, the certificates that are allowed, Secure Boot on."""
    found = keys()
    command = [sys.executable, "-m", "virt.firmware.vars", "--loglevel", "warning"]
    command += ["--input", str(BLANK_VARIABLES), "--output", str(target), "--secure-boot"]
    command += ["--set-pk", _OWNER_GUID, str(found.certificate(OWNER))]
    command += ["--add-kek", _OWNER_GUID, str(found.certificate(EXCHANGE))]
    for name in secure_boot.allowed:
        command += ["--add-db", _OWNER_GUID, str(found.certificate(name))]
    host.run(command)
