"""The encryption block of one volume: provider, cipher and options, checked more strictly than Talos does."""

from __future__ import annotations

from luksctl.config.block import Block
from luksctl.config.forms import Form
from luksctl.config.keys import read_keys
from luksctl.config.spelling import did_you_mean
from luksctl.hints import Final
from luksctl.model.config import CIPHER_KEY_BITS, DEFAULT_CIPHER, PERFORMANCE_OPTIONS, VolumeEncryption

BLOCK_SIZES_BYTES: Final = (512, 1024, 2048, 4096)
# XTS splits the key in two halves: AES-128 or AES-256. Adiantum takes 256 bits only.
_KEY_SIZES_BITS: Final = {
    cipher: (256, 512) if cipher == DEFAULT_CIPHER else (bits,) for cipher, bits in CIPHER_KEY_BITS.items()
}


def read_encryption(block: Block, volume: str, form: Form) -> VolumeEncryption | None:
    """Return what `block` wants of `volume`, without what has a problem; None for `provider: none`, which is plain."""
    block.refuse_unknown(form.fields, elsewhere=form.elsewhere)
    if not _read_provider(block, form):
        return None
    keys = read_keys(block, volume, form)
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
