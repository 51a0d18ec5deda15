"""Write tag 9 in its modern form, byte for byte as Go's encoder gives it; state_encryption.py reads both forms.

Every field is there, in the order of Talos' structs, without spaces.
"""

from __future__ import annotations

from luksctl.errors import MetaError
from luksctl.hints import Final
from luksctl.meta.go_json import GoJson, string_bound
from luksctl.model.config import ConfiguredKey, KmsKey, NodeIdKey, StaticKey, TpmKey, VolumeEncryption

# Room for everything but the strings: the fixed text of one key, and of the rest, rounded up.
_KEY_BYTES: Final = 400
_FRAME_BYTES: Final = 600


def encode(encryption: VolumeEncryption) -> bytearray:
    """Return the bytes of tag 9; the caller wipes them.

    MetaError for a passphrase that is not UTF-8: no JSON can carry it.
    """
    text = GoJson(_capacity(encryption))
    try:
        _write(text, encryption)
        return text.take()
    except ValueError as error:
        raise MetaError(
            "a text in the encryption of STATE is not UTF-8, and tag 0x09 cannot carry it", volume="META"
        ) from error
    finally:
        text.wipe()


def _capacity(encryption: VolumeEncryption) -> int:
    texts = [encryption.cipher or "", *(encryption.options or ())]
    texts += [key.source.endpoint for key in encryption.keys if isinstance(key.source, KmsKey)]
    sizes = [len(text.encode("utf-8", "surrogatepass")) for text in texts]
    sizes += [len(key.source.passphrase) for key in encryption.keys if isinstance(key.source, StaticKey)]
    pcr_bytes = sum(4 * len(key.source.pcrs or ()) for key in encryption.keys if isinstance(key.source, TpmKey))
    return _FRAME_BYTES + _KEY_BYTES * len(encryption.keys) + pcr_bytes + sum(string_bound(size) for size in sizes)


def _write(text: GoJson, encryption: VolumeEncryption) -> None:
    text.raw('{"EncryptionProvider":"luks2","EncryptionKeys":[')
    for index, key in enumerate(encryption.keys):
        text.raw("," if index else "")
        _write_key(text, key)
    text.raw('],"EncryptionCipher":')
    text.string((encryption.cipher or "").encode())
    text.raw(f',"EncryptionKeySize":{encryption.key_size_bits or 0}')
    text.raw(f',"EncryptionBlockSize":{encryption.block_size_bytes or 0}')
    text.raw(',"EncryptionPerfOptions":')
    if encryption.options is None:
        text.raw("null")
    else:
        text.raw("[")
        for index, option in enumerate(encryption.options):
            text.raw("," if index else "")
            text.string(option.encode())
        text.raw("]")
    text.raw(f',"EncryptionAllowDiscards":{_literal(encryption.allow_discards)}}}')


def _write_key(text: GoJson, key: ConfiguredKey) -> None:
    source = key.source
    text.raw(f'{{"KeySlot":{key.slot},"KeyStatic":')
    if isinstance(source, StaticKey):
        text.raw('{"KeyData":')
        with source.passphrase.view() as passphrase:
            text.string(passphrase)
        text.raw("}")
    else:
        text.raw("null")
    text.raw(f',"KeyNodeID":{"{}" if isinstance(source, NodeIdKey) else "null"},"KeyKMS":')
    if isinstance(source, KmsKey):
        text.raw('{"KMSEndpoint":')
        text.string(source.endpoint.encode())
        text.raw("}")
    else:
        text.raw("null")
    text.raw(f',"KeyTPM":{_tpm(source) if isinstance(source, TpmKey) else "null"}')
    text.raw(f',"KeyLockToSTATE":{_literal(key.lock_to_state)}}}')


def _tpm(key: TpmKey) -> str:
    options = "null" if key.pcrs is None else f'{{"PCRs":[{",".join(map(str, key.pcrs))}]}}'
    return f'{{"TPMOptions":{options},"TPMCheckSecurebootStatusOnEnroll":{_literal(key.check_secureboot_on_enroll)}}}'


def _literal(value: bool | None) -> str:  # noqa: FBT001  # a value of the document, not a switch
    return "null" if value is None else "true" if value else "false"
