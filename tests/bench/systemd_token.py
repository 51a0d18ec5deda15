"""A volume whose key systemd sealed, opened by systemd's plugin in libcryptsetup: what luksctl is measured beside."""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path

from luksctl.providers.tpm_files import PUBLIC_KEY, SIGNATURE
from tests.bench.images import PASSPHRASE, blank

_ANY_TOKEN = -1
_ANY_PCRS = 0xFFFFFFFF
# Argon2id at its least, since it is not measured; the digest's cost is still found by cryptsetup itself, as by default.
_SLOT = "--pbkdf argon2id --pbkdf-force-iterations 4 --pbkdf-memory 32 --pbkdf-parallel 1"


class _PluginParameters(ctypes.Structure):
    """struct systemd_tpm2_plugin_params (systemd v252, src/cryptsetup/cryptsetup-tokens/luks2-tpm2.h)."""

    _fields_ = (("search_pcr_mask", ctypes.c_uint32), ("device", ctypes.c_char_p), ("signature_path", ctypes.c_char_p))


class SystemdVolume:
    """Format an image as cryptsetup does by default, and enrol the TPM: PCR 11 as it was signed, and PCR 7."""

    def __init__(self, path: Path, tcti: str, policy_files: Path) -> None:
        """`policy_files` is a directory with the public key and the signatures; CalledProcessError."""
        blank(path)
        key_file = path.with_suffix(".key")
        key_file.write_bytes(PASSPHRASE)
        self._path = str(path).encode()
        self._parameters = _PluginParameters(_ANY_PCRS, tcti.encode(), str(policy_files / SIGNATURE).encode())
        self._library = ctypes.CDLL("libcryptsetup.so.12")
        self._library.crypt_free.argtypes = [ctypes.c_void_p]
        formatting = ["cryptsetup", "luksFormat", "--batch-mode", "--type", "luks2", *_SLOT.split()]
        subprocess.run([*formatting, str(path), str(key_file)], check=True, capture_output=True)
        enrolling = ["systemd-cryptenroll", f"--tpm2-device={tcti}", "--tpm2-pcrs=7", "--tpm2-public-key-pcrs=11"]
        enrolling += [f"--tpm2-public-key={policy_files / PUBLIC_KEY}", f"--tpm2-signature={policy_files / SIGNATURE}"]
        environment = {**os.environ, "PASSWORD": PASSPHRASE.decode()}
        subprocess.run([*enrolling, str(path)], check=True, capture_output=True, env=environment)

    def unlock(self) -> None:
        """Do what systemd-cryptsetup does once it runs, up to the volume key; RuntimeError where it fails."""
        device = ctypes.c_void_p()
        try:
            rc = self._library.crypt_init(ctypes.byref(device), self._path)
            rc = rc or self._library.crypt_load(device, b"LUKS2", None)
            if rc == 0:
                parameters = ctypes.byref(self._parameters)
                rc = self._library.crypt_activate_by_token_pin(
                    device, None, b"systemd-tpm2", _ANY_TOKEN, None, ctypes.c_size_t(0), parameters, 0
                )
            if rc < 0:
                raise RuntimeError(f"systemd's token does not open it: {rc}")
        finally:
            self._library.crypt_free(device)
