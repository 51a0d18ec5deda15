"""Response codes of the TPM and of its library as our own errors; the one place that knows them (TPM 2.0, Part 2, 6.6).

Codes are plain numbers here, so that they can be tested without the library.
"""

from __future__ import annotations

from luksctl.errors import TpmReason, TpmRejected, TpmUnavailable
from luksctl.hints import Final
from luksctl.value import frozen

# What was asked decides about codes that many commands share.
MAKE_ROOT: Final = "make the storage root key"
LOAD: Final = "load the sealed object"
VERIFY: Final = "verify the PCR signature"

_FORMAT_ONE: Final = 0x80
_FORMAT_ONE_CODE: Final = 0xBF
_LAYER_SHIFT: Final = 16
_BASE_MASK: Final = 0xFFFF
# TPM codes come bare from a device and with these layers through a resource manager.
_TPM_LAYERS: Final = frozenset({0, 11, 12})
_STRUCTURES_LAYER: Final = 9
_TRY_AGAIN: Final = "another program may be using it; luksctl retry tries again"


@frozen
class _Meaning:
    reason: TpmReason
    cause: str
    hint: str | None = None


_FULL: Final = _Meaning(TpmReason.BUSY, "the TPM has no room left: another program keeps its objects in it", _TRY_AGAIN)
_BUSY: Final = _Meaning(TpmReason.BUSY, "the TPM is busy", _TRY_AGAIN)
_OWNER: Final = _Meaning(
    TpmReason.OWNER_PROTECTED,
    "the TPM's owner hierarchy has a password or is switched off, so no storage root key can be made",
    "clear the TPM in the firmware's setup, which resets the hierarchy, or use another kind of key",
)
_OTHER_TPM: Final = _Meaning(
    TpmReason.NOT_TPM2, "the device does not speak TPM 2.0", "a TPM 1.2 cannot serve; use another kind of key"
)
_DAMAGED: Final = _Meaning(TpmReason.DAMAGED, "the TPM does not accept the sealed object: the token was damaged")
_FORGED: Final = _Meaning(
    TpmReason.NO_SIGNATURE,
    "the TPM does not accept the signature for PCR 11, or the key it is of",
    "look at what systemd-measure wrote beside the image; RSA with 2048 bits works with every TPM",
)
_REFUSED: Final = _Meaning(TpmReason.FAILED, "the TPM refused")

# Codes of the TPM itself; those of format one without the parameter, handle or session that they are about.
_TPM_CODES: Final = {
    0x01E: _OTHER_TPM,  # BAD_TAG: how a TPM 1.2 answers
    0x100: _Meaning(TpmReason.FAILED, "the TPM was not started by the firmware", "switch the TPM on in its setup"),
    0x101: _Meaning(
        TpmReason.FAILED, "the TPM is in failure mode: its self-test failed", "power the machine off and on"
    ),
    0x128: _Meaning(TpmReason.BUSY, "a PCR was extended in the middle of it", _TRY_AGAIN),  # PCR_CHANGED
    0x902: _FULL,  # OBJECT_MEMORY
    0x903: _FULL,  # SESSION_MEMORY
    0x904: _FULL,  # MEMORY
    0x905: _FULL,  # SESSION_HANDLES
    0x906: _FULL,  # OBJECT_HANDLES
    0x908: _BUSY,  # YIELDED
    0x909: _BUSY,  # CANCELED
    0x90A: _Meaning(TpmReason.BUSY, "the TPM is testing itself", _TRY_AGAIN),
    0x920: _BUSY,  # NV_RATE
    0x921: _Meaning(
        TpmReason.LOCKED_OUT,
        "the TPM is in dictionary lockout after too many wrong passwords",
        "wait for it to recover (tpm2_getcap properties-variable), or tpm2_dictionarylockout --clear-lockout",
    ),
    0x922: _BUSY,  # RETRY
    0x923: _BUSY,  # NV_UNAVAILABLE
}
_ROOT_CODES: Final = {
    0x085: _OWNER,  # HIERARCHY
    0x08E: _OWNER,  # AUTH_FAIL
    0x0A2: _OWNER,  # BAD_AUTH
}
# Anything that the TPM says about the parameters of these is about what the token or the signature file holds.
_ABOUT_WHAT_WAS_GIVEN: Final = {LOAD: _DAMAGED, VERIFY: _FORGED}

# Codes of the library and of what carries commands to the TPM, whatever its layer.
_LIBRARY_CODES: Final = {
    0x0009: _BUSY,  # TRY_AGAIN
    0x0008: _Meaning(TpmReason.NO_DEVICE, "nothing answers at the TPM's device"),  # NO_CONNECTION
    0x000A: _Meaning(TpmReason.FAILED, "the TPM's device failed while it was used"),  # IO_ERROR
    0x0010: _OTHER_TPM,  # MALFORMED_RESPONSE
}


def translate(rc: int, operation: str) -> TpmUnavailable | TpmRejected:
    """Return our error for the response code `rc` of `operation`; one nobody foresaw is TpmUnavailable and shown."""
    meaning = _meaning(rc, operation) or _REFUSED
    cause = f"{meaning.cause} ({operation}: {rc:#x})"
    if meaning.reason in _PASSING:
        return TpmUnavailable(cause, reason=meaning.reason, hint=meaning.hint)
    return TpmRejected(cause, reason=meaning.reason, hint=meaning.hint)


def _meaning(rc: int, operation: str) -> _Meaning | None:
    layer, base = rc >> _LAYER_SHIFT, rc & _BASE_MASK
    if layer == _STRUCTURES_LAYER:
        return _ABOUT_WHAT_WAS_GIVEN.get(operation)
    if layer not in _TPM_LAYERS:
        return _LIBRARY_CODES.get(base)
    if not base & _FORMAT_ONE:
        return _TPM_CODES.get(base)
    if operation == MAKE_ROOT:
        return _ROOT_CODES.get(base & _FORMAT_ONE_CODE)
    return _ABOUT_WHAT_WAS_GIVEN.get(operation)


# What may be over the next time somebody asks.
_PASSING: Final = frozenset(
    {TpmReason.NO_DEVICE, TpmReason.BUSY, TpmReason.SLOW, TpmReason.LOCKED_OUT, TpmReason.FAILED}
)
