"""A volume whose key systemd sealed, opened by systemd's plugin in libcryptsetup: what luksctl is measured beside.

In a process of its own, which loads nothing of luksctl: luksctl has libcryptsetup load no plugins.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ANY_TOKEN = -1
_ANY_PCRS = 0xFFFFFFFF
# Little for a slot that is not measured; cryptsetup finds out by itself what the digest is to cost, as by default.
_SLOT = "--pbkdf pbkdf2 --iter-time 10"
_PASSPHRASE = "a passphrase for measuring"


class SystemdVolume:
    """A formatted image with a token of systemd's, and a process that opens it when asked."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def unlock(self) -> float:
        """Return the milliseconds of processor time that a process which runs already needs; RuntimeError."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("systemd's token does not open it")
        return float(answer)


@contextmanager
def systemd_volume(image: Path, tcti: str, public_key: Path, signature: Path) -> Iterator[SystemdVolume]:
    """Format `image` as cryptsetup does by default, and enrol the TPM: PCR 11 as it was signed, and PCR 7 as it is."""
    key_file = image.with_suffix(".key")
    key_file.write_text(_PASSPHRASE)
    formatting = ["cryptsetup", "luksFormat", "--batch-mode", "--type", "luks2", *_SLOT.split()]
    subprocess.run([*formatting, str(image), str(key_file)], check=True, capture_output=True)
    enrolling = ["systemd-cryptenroll", f"--tpm2-device={tcti}", "--tpm2-pcrs=7", "--tpm2-public-key-pcrs=11"]
    enrolling += [f"--tpm2-public-key={public_key}", f"--tpm2-signature={signature}", str(image)]
    environment = {**os.environ, "PASSWORD": _PASSPHRASE}
    subprocess.run(enrolling, check=True, capture_output=True, env=environment)
    asked = [sys.executable, __file__, str(image), tcti, str(signature)]
    with subprocess.Popen(asked, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield SystemdVolume(process)


class _PluginParameters(ctypes.Structure):
    """struct systemd_tpm2_plugin_params (systemd v252, src/cryptsetup/cryptsetup-tokens/luks2-tpm2.h)."""

    _fields_ = (("search_pcr_mask", ctypes.c_uint32), ("device", ctypes.c_char_p), ("signature_path", ctypes.c_char_p))


def _serve(image: str, tcti: str, signature: str) -> None:
    library = ctypes.CDLL("libcryptsetup.so.12")
    library.crypt_free.argtypes = [ctypes.c_void_p]
    parameters = _PluginParameters(_ANY_PCRS, tcti.encode(), signature.encode())
    for _ in sys.stdin:
        begun = time.process_time()
        _unlock(library, image, parameters)
        print((time.process_time() - begun) * 1000, flush=True)


def _unlock(library: ctypes.CDLL, image: str, parameters: _PluginParameters) -> None:
    """Do what systemd-cryptsetup does once it runs, up to the volume key."""
    device = ctypes.c_void_p()
    try:
        rc = library.crypt_init(ctypes.byref(device), image.encode())
        rc = rc or library.crypt_load(device, b"LUKS2", None)
        if rc == 0:
            rc = library.crypt_activate_by_token_pin(
                device, None, b"systemd-tpm2", _ANY_TOKEN, None, ctypes.c_size_t(0), ctypes.byref(parameters), 0
            )
        if rc < 0:
            raise RuntimeError(f"libcryptsetup: {rc}")
    finally:
        library.crypt_free(device)


if __name__ == "__main__":
    _serve(*sys.argv[1:])
