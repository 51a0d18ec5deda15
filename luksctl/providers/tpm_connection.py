"""The TPM of this machine: which device it is, opened once for all volumes of a run, used by one thread at a time."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from types import TracebackType

from luksctl.errors import TpmReason, TpmRejected, TpmUnavailable
from luksctl.hints import Final, final
from luksctl.providers.tpm_device import Tpm

# Through the kernel's resource manager first: it keeps programs out of each other's way.
DEVICES: Final = ("/dev/tpmrm0", "/dev/tpm0")
VERSION: Final = "/sys/class/tpm/tpm0/tpm_version_major"
_TPM_1: Final = "1"


@final
class TpmConnection:
    """Open the TPM when it is first used, and keep it open until `close`; one that failed is opened anew.

    `tcti` names it as TSS2 writes it; without one it is the first of `devices` that is there.
    """

    def __init__(
        self, tcti: str | None = None, *, devices: tuple[str, ...] = DEVICES, version_path: str = VERSION
    ) -> None:
        self._tcti = tcti
        self._devices = devices
        self._version_path = version_path
        self._lock = Lock()
        self._tpm: Tpm | None = None

    def __enter__(self) -> TpmConnection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def use(self) -> Iterator[Tpm]:
        """Lend the open TPM; TpmUnavailable where there is none, TpmRejected for one that can never serve."""
        with self._lock:
            if self._tpm is None:
                self._tpm = Tpm(self._tcti or _find(self._devices, self._version_path))
            try:
                yield self._tpm
            except TpmUnavailable:
                self._drop()
                raise

    def close(self) -> None:
        """Close the TPM; the next use opens it again."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        tpm, self._tpm = self._tpm, None
        if tpm is not None:
            tpm.close()


def _find(devices: tuple[str, ...], version_path: str) -> str:
    """Return the TCTI of the first device that can be opened; the library would not say why one cannot."""
    for path in devices:
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.ENODEV, errno.ENXIO}:
                continue
            raise _unopened(path, error) from error
        if _version(version_path) == _TPM_1:
            raise TpmRejected(
                f"{path} is a TPM 1.2",
                reason=TpmReason.NOT_TPM2,
                hint="some firmware offers a TPM 2.0 in its setup; else use another kind of key",
            )
        return f"device:{path}"
    raise TpmUnavailable(
        f"this machine has no TPM device ({', '.join(devices)})",
        reason=TpmReason.NO_DEVICE,
        hint="switch the TPM on in the firmware's setup, and see that its driver (tpm_crb, tpm_tis) is loaded",
    )


def _unopened(path: str, error: OSError) -> TpmUnavailable:
    if error.errno == errno.EBUSY:
        return TpmUnavailable(f"{path} is held by another program", reason=TpmReason.BUSY, hint=f"fuser -v {path}")
    return TpmUnavailable(f"{path}: {error.strerror}", reason=TpmReason.FAILED, hint="only root may use the TPM")


def _version(path: str) -> str | None:
    try:
        with open(path, encoding="ascii") as source:
            return source.read().strip()
    except FileNotFoundError:
        # Kernels before 5.6 do not say; the TPM's first answer will.
        return None
