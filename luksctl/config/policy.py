"""The EncryptionPolicy document: apiVersion luksctl/v1alpha1, ours alone; Talos never sees it."""

from __future__ import annotations

from enum import StrEnum

from luksctl.config.block import Block
from luksctl.config.spelling import did_you_mean, path_problem
from luksctl.hints import Final, TypeVar
from luksctl.model.config import (
    CHEAPEST_KDF,
    DEFAULT_KDF,
    EPHEMERAL,
    KDF_KINDS,
    STATE,
    EncryptionPolicy,
    Filesystem,
    FormatRequires,
    KdfCost,
    KmsPolicy,
    PatchKeys,
    Reseal,
    TpmPolicy,
)
from luksctl.units import GIB, KIB, format_size, parse_size

API_VERSION: Final = "luksctl/v1alpha1"
KIND: Final = "EncryptionPolicy"
FIELDS: Final = (
    "apiVersion",
    "kind",
    "kdf",
    "kdfByKind",
    "fingerprints",
    "formatRequires",
    "prune",
    "talosReadable",
    "filesystems",
    "headerBackup",
    "tpm",
    "patchKeys",
    "kms",
    "inPlace",
)

# No header that costs more than this is opened (luksctl.cryptsetup.kdf), so none is asked for either.
MAX_KDF_TIME: Final = 4096
MAX_KDF_WORK_KIB: Final = 128 * GIB // KIB  # time times memory
MAX_KDF_MEMORY_KIB: Final = 4 * GIB // KIB  # libcryptsetup's own limit
MAX_KDF_THREADS: Final = 4  # libcryptsetup's own limit

# X25519 keys have no line of OpenSSH, and its Ed25519 ones cannot be encrypted to.
_PUBLIC_KEYS: Final = (
    "-----BEGIN PUBLIC KEY-----",
    "-----BEGIN RSA PUBLIC KEY-----",
    "ssh-rsa ",
    "ecdsa-sha2-nistp256 ",
)
_GIVE_PUBLIC_KEY: Final = "write recipient: | and below it what openssl pkey -in FILE -pubout prints"

_Choice = TypeVar("_Choice", bound=StrEnum)


def read_policy(block: Block) -> EncryptionPolicy:
    """Return the policy in `block`; a field that is absent or has a problem keeps its default."""
    block.refuse_unknown(FIELDS)
    default = EncryptionPolicy()
    prune = block.flag("prune")
    talos_readable = block.flag("talosReadable")
    in_place = block.flag("inPlace")
    kdf = _read_kdf(block.block("kdf"), DEFAULT_KDF)
    return EncryptionPolicy(
        kdf=kdf,
        kdf_by_kind=_read_kdf_by_kind(block.block("kdfByKind"), EncryptionPolicy(kdf)),
        format_requires=_choice(block, "formatRequires", FormatRequires) or default.format_requires,
        prune=default.prune if prune is None else prune,
        talos_readable=default.talos_readable if talos_readable is None else talos_readable,
        filesystems=_read_filesystems(block.block("filesystems")),
        header_recipient=_read_recipient(block.block("headerBackup")),
        unfingerprinted=_read_unfingerprinted(block.block("fingerprints")),
        tpm=_read_tpm(block.block("tpm")),
        patch_keys=_choice(block, "patchKeys", PatchKeys) or default.patch_keys,
        kms=_read_kms(block),
        in_place=default.in_place if in_place is None else in_place,
    )


def _read_unfingerprinted(block: Block | None) -> tuple[str, ...]:
    if block is None:
        return ()
    block.refuse_unknown(KDF_KINDS)
    return tuple(kind for kind in KDF_KINDS if block.flag(kind) is False)


def _read_kdf_by_kind(block: Block | None, otherwise: EncryptionPolicy) -> tuple[tuple[str, KdfCost], ...]:
    """Return the cost of each kind that is named; what is left out of one is what the kind costs `otherwise`."""
    if block is None:
        return ()
    block.refuse_unknown(KDF_KINDS)
    named = [kind for kind in KDF_KINDS if block.given(kind)]
    return tuple((kind, _read_kdf(block.block(kind), otherwise.kdf_for(kind))) for kind in named)


def _read_kdf(block: Block | None, default: KdfCost) -> KdfCost:
    if block is None:
        return default
    block.refuse_unknown(("time", "memory", "threads"))
    cost = KdfCost(
        time=_within(block, "time", CHEAPEST_KDF.time, MAX_KDF_TIME) or default.time,
        memory_kib=_read_memory_kib(block) or default.memory_kib,
        threads=_within(block, "threads", CHEAPEST_KDF.threads, MAX_KDF_THREADS) or default.threads,
    )
    if cost.time * cost.memory_kib > MAX_KDF_WORK_KIB:
        work = format_size(MAX_KDF_WORK_KIB * KIB)
        block.error(None, f"time times memory is more than {work}, which would take minutes at every unlock")
    return cost


def _within(block: Block, name: str, least: int, most: int) -> int | None:
    number = block.whole(name)
    if number is not None and not least <= number <= most:
        block.error(name, f"{number} is outside {least}-{most}")
        return None
    return number


def _read_memory_kib(block: Block) -> int | None:
    text = block.text("memory")
    if text is None:
        return None
    try:
        size_bytes = parse_size(text)
    except ValueError as error:
        block.error("memory", str(error))
        return None
    least, most = CHEAPEST_KDF.memory_kib * KIB, MAX_KDF_MEMORY_KIB * KIB
    if not least <= size_bytes <= most:
        block.error("memory", f"{format_size(size_bytes)} is outside {format_size(least)}-{format_size(most)}")
    elif size_bytes % KIB:
        block.error("memory", "not a whole number of KiB")
    return size_bytes // KIB


def _choice(block: Block, name: str, choices: type[_Choice]) -> _Choice | None:
    word = block.text(name)
    if word is None:
        return None
    known = [choice.value for choice in choices]
    if word in known:
        return choices(word)
    block.error(name, f"{word!r} is none of {', '.join(known)}", did_you_mean(word, known))
    return None


def _read_filesystems(block: Block | None) -> tuple[tuple[str, Filesystem], ...]:
    if block is None:
        return ()
    volumes = (STATE, EPHEMERAL)
    block.refuse_unknown(volumes)
    chosen = [(volume, _choice(block, volume, Filesystem)) for volume in volumes]
    return tuple((volume, filesystem) for volume, filesystem in chosen if filesystem is not None)


def _read_recipient(block: Block | None) -> str | None:
    """Return the text of the public key, looked at from outside only: what it is worth, only its use can tell."""
    if block is None:
        return None
    # Not quoted: who takes the wrong file writes a private key here.
    block.refuse_unknown(("recipient",), quote=False)
    text = block.text("recipient")
    if text is None:
        if not block.given("recipient"):
            block.error("recipient", "recipient is missing", _GIVE_PUBLIC_KEY)
        return None
    if "PRIVATE KEY" in text:
        block.error("recipient", "this is a private key, and the public one was asked for", _GIVE_PUBLIC_KEY)
        return None
    if not text.lstrip().startswith(_PUBLIC_KEYS):
        block.error("recipient", "this is no public key in PEM or of OpenSSH", _GIVE_PUBLIC_KEY)
        return None
    return text


def _read_tpm(block: Block | None) -> TpmPolicy:
    default = TpmPolicy()
    if block is None:
        return default
    block.refuse_unknown(("reseal", "literalPCRs", "publicKeys", "signatures"))
    literal = block.flag("literalPCRs")
    public_keys = block.texts("publicKeys", path_problem) or ()
    signatures = block.texts("signatures", path_problem) or ()
    if literal and (public_keys or signatures):
        block.error(
            "literalPCRs",
            "with literalPCRs no signed policy is used, so publicKeys and signatures have no effect",
            "keep one of the two",
        )
    return TpmPolicy(
        reseal=_choice(block, "reseal", Reseal) or default.reseal,
        literal_pcrs=default.literal_pcrs if literal is None else literal,
        public_keys=public_keys,
        signatures=signatures,
    )


def _read_kms(block: Block) -> KmsPolicy:
    if not block.given("kms"):
        return KmsPolicy()
    # Not at the top: few have it, and the start of a boot is timed.
    from luksctl.config.policy_kms import read_kms_policy  # noqa: PLC0415

    return read_kms_policy(block.block("kms"))
