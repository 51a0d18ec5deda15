"""Unified kernel images as systemd-stub boots them: one signed file, and signatures for what it makes of PCR 11.

The stub measures the name and the content of each section into PCR 11, and puts .pcrpkey and .pcrsig where the
initramfs finds them (systemd-stub(7), Unified Kernel Image specification). The signatures are as systemd-measure signs.
"""

from __future__ import annotations

import base64
import hashlib
import json
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from rig import cpio, host
from rig.errors import BuildFailed
from rig.firmware import STUB, Keys, keys
from rig.spec import MachineSpec, kernel_line, overlay_files

if TYPE_CHECKING:
    from rig.firmware import SecureBoot
    from rig.image import Image

Sections = dict[str, bytes]

PCR = 11
# In the order in which the stub measures them, whatever their order in the file. What .pcrsig holds cannot be measured.
MEASURED = (".linux", ".osrel", ".cmdline", ".initrd", ".pcrpkey")
SIGNATURES = ".pcrsig"
RELEASE = b'ID=rig\nVERSION_ID=1\nPRETTY_NAME="the guest of the VM rig"\n'
# Behind the stub's own sections, which end below 128 KiB.
_FIRST_ADDRESS = 0x20000
_PAGE = 0x1000
_POLICY_PCR = 0x17F
_SHA256 = 0x0B


def initrd(spec: MachineSpec, image: Image) -> bytes:
    """Return the initramfs of a guest: the image's own, and the spec's files behind it."""
    return base_initrd(image.initrd) + cpio.archive(overlay_files(spec))


@lru_cache(maxsize=1)
def base_initrd(path: Path) -> bytes:
    """Return the initramfs of an image."""
    return path.read_bytes()


def measured(spec: MachineSpec, image: Image) -> Sections:
    """Return the sections of a guest's image that go into PCR 11."""
    return {
        ".linux": image.kernel.read_bytes(),
        ".osrel": RELEASE,
        ".cmdline": kernel_line(spec).encode(),
        ".initrd": initrd(spec, image),
        ".pcrpkey": keys().pcr_public(),
    }


def pcr_value(sections: Sections, words: tuple[str, ...]) -> bytes:
    """Return what PCR 11 holds when the boot has come past `words`."""
    value = bytes(32)
    for name in MEASURED:
        for part in (name.encode() + b"\0", sections[name]):
            value = _extended(value, part)
    for word in words:
        value = _extended(value, word.encode())
    return value


def _extended(value: bytes, content: bytes) -> bytes:
    return hashlib.sha256(value + hashlib.sha256(content).digest()).digest()


def _policy(value: bytes) -> bytes:
    """Return the digest of PolicyPCR over PCR 11 having `value` (TPM 2.0 Library, part 3, TPM2_PolicyPCR)."""
    selection = (1).to_bytes(4) + _SHA256.to_bytes(2) + bytes([3]) + (1 << PCR).to_bytes(3, "little")
    return hashlib.sha256(bytes(32) + _POLICY_PCR.to_bytes(4) + selection + hashlib.sha256(value).digest()).digest()


def signatures(sections: Sections, signer: Keys, phases: tuple[tuple[str, ...], ...]) -> bytes:
    """Return tpm2-pcr-signature.json for an image of `sections` in each of `phases`."""
    key = signer.pcr_key()
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)
    entries = []
    for words in phases:
        policy = _policy(pcr_value(sections, words))
        signature = base64.b64encode(key.sign(policy, padding.PKCS1v15(), hashes.SHA256())).decode()
        fingerprint = hashlib.sha256(public).hexdigest()
        entries.append({"pcrs": [PCR], "pkfp": fingerprint, "pol": policy.hex(), "sig": signature})
    return json.dumps({"sha256": entries}).encode()


def signatures_of(spec: MachineSpec, image: Image) -> bytes:
    """Return the tpm2-pcr-signature.json that the image of a guest brings along."""
    wanted = _secure_boot(spec)
    if wanted.signatures is not None:
        return wanted.signatures
    return signatures(measured(spec, image), keys(), wanted.phases)


def build(spec: MachineSpec, image: Image, target: Path) -> None:
    """Write the signed image that a guest boots from; another file at each power-on, for its files are in it."""
    sections = measured(spec, image)
    sections[SIGNATURES] = signatures_of(spec, image)
    signer = _secure_boot(spec).signed_by
    with tempfile.TemporaryDirectory(dir=target.parent) as name:
        work = Path(name)
        unsigned = work / "unsigned.efi"
        host.run(["objcopy", *_placed(sections, work), str(STUB), str(unsigned)])
        signing = ["--key", str(keys().private(signer)), "--cert", str(keys().certificate(signer))]
        host.run(["sbsign", *signing, "--output", str(target), str(unsigned)])


def _placed(sections: Sections, work: Path) -> list[str]:
    """Return objcopy's arguments that put the sections into the stub, one behind the other."""
    command: list[str] = []
    address = _FIRST_ADDRESS
    for name, content in sections.items():
        file = work / name
        file.write_bytes(content)
        command += [f"--add-section={name}={file}", f"--change-section-vma={name}={address:#x}"]
        address += -(-len(content) // _PAGE) * _PAGE
    return command


def _secure_boot(spec: MachineSpec) -> SecureBoot:
    if spec.secure_boot is None:
        raise BuildFailed("a machine without Secure Boot is started with a kernel, and has no unified image")
    return spec.secure_boot
