"""The encryption block of one volume: provider, keys, cipher and options, checked more strictly than Talos does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from luksctl.config.block import Block
from luksctl.config.endpoint import endpoint_problem
from luksctl.config.spelling import did_you_mean
from luksctl.model.config import (
    CIPHER_KEY_BITS,
    DEFAULT_CIPHER,
    MAX_SLOT,
    PERFORMANCE_OPTIONS,
    STATE,
    ConfiguredKey,
    KeyKind,
    KeySource,
    KmsKey,
    NodeIdKey,
    StaticKey,
    TpmKey,
    VolumeEncryption,
)
from luksctl.secret import Secret

MAX_KEYS: Final = MAX_SLOT + 1
# One spare slot and one id for the bookkeeping token: with more keys than this there is no room for them.
MAX_KEYS_WITH_BOOKKEEPING: Final = MAX_KEYS - 2
BLOCK_SIZES_BYTES: Final = (512, 1024, 2048, 4096)
# XTS splits the key in two halves: AES-128 or AES-256. Adiantum takes 256 bits only.
_KEY_SIZES_BITS: Final = {
    cipher: (256, 512) if cipher == DEFAULT_CIPHER else (bits,) for cipher, bits in CIPHER_KEY_BITS.items()
}
_PCRS: Final = range(24)


@dataclass(frozen=True, slots=True)
class Form:
    """What one of the two places that configure encryption allows. `elsewhere` has hints for the other's fields."""

    provider_required: bool
    fields: tuple[str, ...]
    key_fields: tuple[str, ...]
    tpm_fields: tuple[str, ...]
    elsewhere: dict[str, str]


_FIELDS: Final = ("provider", "keys", "cipher", "keySize", "blockSize", "options")
_KEY_FIELDS: Final = ("slot", *(kind.value for kind in KeyKind))
_TPM_FIELDS: Final = ("checkSecurebootStatusOnEnroll",)
_ONLY_IN_VOLUME_CONFIG: Final = "this field exists only in a VolumeConfig document"

V1ALPHA1: Final = Form(
    provider_required=False,
    fields=_FIELDS,
    key_fields=_KEY_FIELDS,
    tpm_fields=_TPM_FIELDS,
    elsewhere=dict.fromkeys(("lockToState", "allowDiscards"), _ONLY_IN_VOLUME_CONFIG),
)
VOLUME_CONFIG: Final = Form(
    provider_required=True,
    fields=(*_FIELDS, "allowDiscards"),
    key_fields=(*_KEY_FIELDS, "lockToState"),
    tpm_fields=(*_TPM_FIELDS, "options"),
    elsewhere={},
)


def read_encryption(block: Block, volume: str, form: Form) -> VolumeEncryption | None:
    """Return what `block` wants of `volume`, without what has a problem; None for `provider: none`, which is plain."""
    block.refuse_unknown(form.fields, elsewhere=form.elsewhere)
    if not _read_provider(block, form):
        return None
    keys = _read_keys(block, volume, form)
    cipher = _read_cipher(block)
    return VolumeEncryption(
        keys=keys,
        cipher=cipher,
        key_size_bits=_read_key_size(block, cipher),
        block_size_bytes=_read_block_size(block),
        options=_read_options(block),
        allow_discards=block.flag("allowDiscards") if "allowDiscards" in form.fields else None,
    )


def _read_provider(block: Block, form: Form) -> bool:
    """Return whether the volume is to be encrypted; an unreadable provider counts as yes, so that all is checked."""
    provider = block.text("provider")
    match (provider or "").casefold():
        case "luks2":
            return True
        case "none" if form.provider_required:
            if block.size_of("keys") > 0:
                hint = "write provider: luks2, or take the keys out"
                block.error("provider", "provider none contradicts the keys", hint)
            return False
        case "":
            if form.provider_required and (provider == "" or not block.given("provider")):
                block.error("provider", "provider is missing", "write provider: luks2")
        case _:
            hint = did_you_mean(provider or "", ("luks2",)) or "the only provider is luks2"
            block.error("provider", f"unknown provider {provider!r}", hint)
    return True


def _read_keys(block: Block, volume: str, form: Form) -> tuple[ConfiguredKey, ...]:
    entries = block.blocks("keys")
    count = block.size_of("keys")
    if count == 0 and (block.is_list("keys") or not block.given("keys")):
        block.error("keys", "no keys", "give at least one key, or leave the whole block out for a plain volume")
    if count > MAX_KEYS:
        block.error("keys", f"{count} keys, and a volume has {MAX_KEYS} slots")
    elif count > MAX_KEYS_WITH_BOOKKEEPING:
        block.report.warn(
            f"{volume}: {count} keys leave no room for a spare slot and the bookkeeping: every boot checks each key "
            f"for real, and no slot can be changed in place (up to {MAX_KEYS_WITH_BOOKKEEPING} keys can)"
        )
    first_lines: dict[int, int] = {}
    keys = [_read_key(entry, volume, form, first_lines) for entry in entries or ()]
    return tuple(sorted((key for key in keys if key is not None), key=lambda key: key.slot))


def _read_key(block: Block, volume: str, form: Form, first_lines: dict[int, int]) -> ConfiguredKey | None:
    block.refuse_unknown(form.key_fields, elsewhere=form.elsewhere)
    slot = _read_slot(block, first_lines)
    source = _read_source(block, volume, slot, form)
    lock_to_state = block.flag("lockToState") if "lockToState" in form.key_fields else None
    if lock_to_state and volume == STATE:
        block.error("lockToState", "STATE cannot be locked to STATE", "take lockToState out of the keys of STATE")
    return None if slot is None or source is None else ConfiguredKey(slot, source, lock_to_state)


def _read_slot(block: Block, first_lines: dict[int, int]) -> int | None:
    if not block.given("slot"):
        block.error("slot", "slot is missing", f"give each key a slot of its own, 0 to {MAX_SLOT}")
        return None
    slot = block.whole("slot")
    if slot is None:
        return None
    if not 0 <= slot <= MAX_SLOT:
        block.error("slot", f"slot {slot} is outside 0-{MAX_SLOT}")
        return None
    if slot in first_lines:
        block.error("slot", f"slot {slot} is given twice, first in line {first_lines[slot]}")
        return None
    first_lines[slot] = block.line_of("slot")
    return slot


def _read_source(block: Block, volume: str, slot: int | None, form: Form) -> KeySource | None:
    kinds = [kind for kind in KeyKind if block.given(kind.value)]
    if not kinds:
        _note_no_kind(block)
        return None
    if len(kinds) > 1:
        named = ", ".join(kinds)
        block.error(kinds[1].value, f"several kinds in one key: {named}", "give each kind a key and slot of its own")
        return None
    inner = block.block(kinds[0].value)
    where = f"{volume}: " if slot is None else f"{volume}, slot {slot}: "
    return None if inner is None else _read_kind(kinds[0], inner, where, form)


def _read_kind(kind: KeyKind, block: Block, where: str, form: Form) -> KeySource | None:
    match kind:
        case KeyKind.STATIC:
            return _read_static(block, where)
        case KeyKind.NODE_ID:
            block.refuse_unknown(())
            return NodeIdKey()
        case KeyKind.KMS:
            return _read_kms(block)
        case KeyKind.TPM:
            return _read_tpm(block, where, form)


def _note_no_kind(block: Block) -> None:
    empty = next((kind.value for kind in KeyKind if block.has(kind.value)), None)
    if empty is None:
        block.error(None, "a key needs one of static, nodeID, kms, tpm")
    elif empty in {KeyKind.NODE_ID, KeyKind.TPM}:
        block.error(empty, f"{empty} is empty", f"write {empty}: {{}}")
    else:
        block.error(empty, f"{empty} is empty")


def _read_static(block: Block, where: str) -> StaticKey | None:
    block.refuse_unknown(("passphrase",), quote=False)
    passphrase = block.text("passphrase")
    if passphrase:
        if "\n" in passphrase:
            block.report.warn(
                f"{where}the passphrase contains a line break (a block scalar ends with one); it counts, "
                "and Talos before 1.12.5 stores only what stands before it"
            )
        return StaticKey(Secret.take(passphrase.encode()))
    if passphrase == "" or not block.given("passphrase"):
        block.error("passphrase", "empty passphrase", "without one, anybody opens the volume")
    return None


def _read_kms(block: Block) -> KmsKey | None:
    block.refuse_unknown(("endpoint",))
    endpoint = block.text("endpoint")
    if not endpoint:
        if endpoint == "" or not block.given("endpoint"):
            block.error("endpoint", "endpoint is missing", "write endpoint: https://HOST:PORT")
        return None
    problem = endpoint_problem(endpoint)
    if problem is not None:
        block.error("endpoint", problem, "write https://HOST:PORT, or grpc://HOST:PORT without TLS")
        return None
    return KmsKey(endpoint)


def _read_tpm(block: Block, where: str, form: Form) -> TpmKey:
    elsewhere = {} if "options" in form.tpm_fields else {"options": _ONLY_IN_VOLUME_CONFIG}
    block.refuse_unknown(form.tpm_fields, elsewhere=elsewhere)
    secure_boot = block.flag("checkSecurebootStatusOnEnroll")
    options = block.block("options") if "options" in form.tpm_fields else None
    if options is None:
        return TpmKey(check_secureboot_on_enroll=secure_boot)
    options.refuse_unknown(("pcrs",))
    listed = options.wholes("pcrs", _pcr_problem) or ()
    pcrs = tuple(sorted(set(listed)))
    if pcrs != listed:
        options.report.warn(
            f"{where}pcrs are taken sorted and once each; Talos takes the list as written, "
            "and what it seals that way never opens"
        )
    return TpmKey(pcrs, secure_boot)


def _pcr_problem(pcr: int) -> tuple[str, str | None] | None:
    return None if pcr in _PCRS else (f"PCR {pcr} is outside 0-{_PCRS[-1]}", None)


def _read_cipher(block: Block) -> str | None:
    cipher = block.text("cipher")
    if cipher and cipher not in CIPHER_KEY_BITS:
        known = ", ".join(f"'{name}'" for name in CIPHER_KEY_BITS)
        block.error("cipher", f"unknown cipher {cipher!r}", did_you_mean(cipher, CIPHER_KEY_BITS) or f"known: {known}")
    return cipher or None


def _read_key_size(block: Block, cipher: str | None) -> int | None:
    key_size_bits = block.whole("keySize")
    allowed = _KEY_SIZES_BITS.get(cipher or DEFAULT_CIPHER)
    if key_size_bits and allowed is not None and key_size_bits not in allowed:
        named = " or ".join(map(str, allowed))
        message = f"{key_size_bits} bits do not fit {cipher or DEFAULT_CIPHER}"
        block.error("keySize", message, f"use {named}, or leave it out")
    return key_size_bits or None


def _read_block_size(block: Block) -> int | None:
    block_size_bytes = block.whole("blockSize")
    if block_size_bytes and block_size_bytes not in BLOCK_SIZES_BYTES:
        named = ", ".join(map(str, BLOCK_SIZES_BYTES))
        block.error("blockSize", f"no block size of {block_size_bytes} bytes", f"use one of {named}, or leave it out")
    return block_size_bytes or None


def _read_options(block: Block) -> tuple[str, ...] | None:
    options = block.texts("options", _option_problem)
    return None if options is None else tuple(dict.fromkeys(options))


def _option_problem(option: str) -> tuple[str, str | None] | None:
    if option in PERFORMANCE_OPTIONS:
        return None
    hint = did_you_mean(option, PERFORMANCE_OPTIONS) or f"known: {', '.join(PERFORMANCE_OPTIONS)}"
    return f"unknown option {option!r}", hint
