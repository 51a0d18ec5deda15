"""Tag 9: what opens STATE before any config can be read, as Talos' Go code writes it in JSON.

The names are those of Go struct fields. Two forms exist. Modern (VolumeConfig): the provider is luks2 or none. Legacy
(machine.systemDiskEncryption.state): the provider may be empty, which means luks2, and a TPM key always means PCR 7.
The four bytes `null` say that STATE is not encrypted. Reading ignores case in names and fields it does not know, and
of a field given twice takes the last, all as Go does; it refuses what Talos would take for "not encrypted" by mistake.
state_encryption_text.py writes the modern form.
"""

from __future__ import annotations

import json
import re

from luksctl.errors import MetaError
from luksctl.hints import Final, NoReturn
from luksctl.model.config import (
    MAX_SLOT,
    PERFORMANCE_OPTIONS,
    ConfiguredKey,
    KeySource,
    KmsKey,
    NodeIdKey,
    StaticKey,
    TpmKey,
    VolumeEncryption,
)
from luksctl.secret import Secret

_LAST_PCR: Final = 23
_LONE_SURROGATE: Final = "[\ud800-\udfff]"

_NOT_JSON: Final = object()

_Fields = dict[str, object]


def decode(value: bytes) -> VolumeEncryption | None:
    """Return the encryption of STATE that `value` describes, None for `null` and for the provider none.

    MetaError says what is wrong with it; the message holds no value of any key.
    """
    document = _parse(value)
    if document is None:
        return None
    fields = _object(document, "the document")
    provider = _text(fields, "encryptionprovider").lower()
    if provider == "none":
        return None
    if provider not in ("", "luks2"):
        raise _bad("EncryptionProvider is neither luks2 nor none")
    legacy = provider == "" and "encryptionprovider" in fields
    keys = [_decode_key(_object(entry, "a key"), legacy=legacy) for entry in _list(fields, "encryptionkeys") or ()]
    if not keys:
        raise _bad("it has no keys")
    slots = [key.slot for key in keys]
    if len(set(slots)) != len(slots):
        raise _bad("two keys have the same KeySlot")
    options = _list(fields, "encryptionperfoptions")
    if any(option not in PERFORMANCE_OPTIONS for option in options or ()):
        raise _bad("EncryptionPerfOptions names an option that dm-crypt does not have")
    return VolumeEncryption(
        keys=tuple(sorted(keys, key=lambda key: key.slot)),
        cipher=_text(fields, "encryptioncipher") or None,
        key_size_bits=_number(fields, "encryptionkeysize") or None,
        block_size_bytes=_number(fields, "encryptionblocksize") or None,
        options=None if options is None else tuple(str(option) for option in options),
        allow_discards=None if legacy else _flag(fields, "encryptionallowdiscards"),
    )


def _parse(value: bytes) -> object:
    # Not raised from the JSON module's error: that one carries the whole document, passphrases and all.
    parsed = _loads(value)
    if parsed is _NOT_JSON:
        raise _bad("it is not JSON")
    return parsed


def _loads(value: bytes) -> object:
    try:
        parsed: object = json.loads(value.decode("utf-8"), object_pairs_hook=_fold, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return _NOT_JSON
    return parsed


def _fold(pairs: list[tuple[str, object]]) -> _Fields:
    return {name.lower(): value for name, value in pairs}


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _decode_key(fields: _Fields, *, legacy: bool) -> ConfiguredKey:
    slot = _number(fields, "keyslot")
    if slot > MAX_SLOT:
        raise _bad(f"KeySlot is above {MAX_SLOT}")
    lock_to_state = None if legacy else _flag(fields, "keylocktostate")
    return ConfiguredKey(slot, _decode_source(fields, slot, legacy=legacy), lock_to_state)


def _decode_source(fields: _Fields, slot: int, *, legacy: bool) -> KeySource:
    """Return where the key comes from; of several kinds the one that Talos takes (static, nodeID, kms, tpm)."""
    if fields.get("keystatic") is not None:
        passphrase = _text(_object(fields["keystatic"], "KeyStatic"), "keydata")
        if not passphrase:
            raise _bad(f"the static key of slot {slot} has no passphrase")
        return StaticKey(Secret.take(bytearray(re.sub(_LONE_SURROGATE, "\ufffd", passphrase), "utf-8")))
    if fields.get("keynodeid") is not None:
        _object(fields["keynodeid"], "KeyNodeID")
        return NodeIdKey()
    if fields.get("keykms") is not None:
        endpoint = _text(_object(fields["keykms"], "KeyKMS"), "kmsendpoint")
        if not endpoint:
            raise _bad(f"the kms key of slot {slot} has no endpoint")
        return KmsKey(re.sub(_LONE_SURROGATE, "\ufffd", endpoint))
    if fields.get("keytpm") is not None:
        return _decode_tpm(_object(fields["keytpm"], "KeyTPM"), slot, legacy=legacy)
    raise _bad(f"the key of slot {slot} is of no known kind")


def _decode_tpm(fields: _Fields, slot: int, *, legacy: bool) -> TpmKey:
    check = _flag(fields, "tpmchecksecurebootstatusonenroll")
    if legacy or fields.get("tpmoptions") is None:
        return TpmKey(None, check)
    pcrs: list[int] = []
    for pcr in _list(_object(fields["tpmoptions"], "TPMOptions"), "pcrs") or ():
        if not isinstance(pcr, int) or isinstance(pcr, bool) or not 0 <= pcr <= _LAST_PCR:
            raise _bad(f"the tpm key of slot {slot} names a PCR outside 0 to {_LAST_PCR}")
        pcrs.append(pcr)
    return TpmKey(tuple(pcrs), check)


def _object(value: object, what: str) -> _Fields:
    if not isinstance(value, dict):
        raise _bad(f"{what} is not an object")
    return value


def _text(fields: _Fields, name: str) -> str:
    value = fields.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _bad(f"{name} is not text")
    return value


def _number(fields: _Fields, name: str) -> int:
    value = fields.get(name)
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 32:
        raise _bad(f"{name} is not a number from 0")
    return value


def _flag(fields: _Fields, name: str) -> bool | None:
    value = fields.get(name)
    if value is not None and not isinstance(value, bool):
        raise _bad(f"{name} is neither true nor false")
    return value


def _list(fields: _Fields, name: str) -> list[object] | None:
    value = fields.get(name)
    if value is not None and not isinstance(value, list):
        raise _bad(f"{name} is not a list")
    return value


def _bad(why: str) -> MetaError:
    return MetaError(f"tag 0x09 (STATE encryption config): {why}", volume="META", hint="luksctl meta list")
