"""Secure Boot as the firmware's variables tell it (UEFI 2.10, section 3.3)."""

from __future__ import annotations

from luksctl.hints import Final
from luksctl.value import frozen

EFIVARS: Final = "/sys/firmware/efi/efivars"
_GLOBAL: Final = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
_ATTRIBUTES_BYTES: Final = 4


@frozen
class SecureBoot:
    """SecureBoot and SetupMode; None where there is no such variable (no UEFI), or it cannot be read."""

    secure_boot: int | None
    setup_mode: int | None

    @property
    def enforced(self) -> bool:
        """Tell whether only signed code was booted, and who may sign is settled."""
        return self.secure_boot == 1 and self.setup_mode == 0

    def __str__(self) -> str:
        if self.secure_boot is None:
            return "this machine shows no Secure Boot state (it was not booted by UEFI, or efivarfs is not mounted)"
        if self.secure_boot != 1:
            return "Secure Boot is off"
        return "Secure Boot is on" if self.setup_mode == 0 else "Secure Boot is in setup mode: anybody may add keys"


def read_secure_boot(efivars: str = EFIVARS) -> SecureBoot:
    """Return what the variables in `efivars` say."""
    return SecureBoot(_variable(efivars, "SecureBoot"), _variable(efivars, "SetupMode"))


def _variable(efivars: str, name: str) -> int | None:
    try:
        with open(f"{efivars}/{name}-{_GLOBAL}", "rb", buffering=0) as source:
            content = source.read(_ATTRIBUTES_BYTES + 2)
    except OSError:
        # Whoever asks wants it to be on: what cannot be read is not.
        return None
    return content[_ATTRIBUTES_BYTES] if content is not None and len(content) == _ATTRIBUTES_BYTES + 1 else None
