"""The keys of one volume: slot, kind, and what each kind needs."""

from __future__ import annotations

from luksctl.config.block import Block
from luksctl.config.endpoint import endpoint_problem
from luksctl.config.forms import ONLY_IN_VOLUME_CONFIG, Form
from luksctl.config.nodes import join
from luksctl.hints import Final
from luksctl.model.config import (
    MAX_SLOT,
    STATE,
    ConfiguredKey,
    KeyKind,
    KeySource,
    KmsKey,
    NodeIdKey,
    StaticKey,
    TpmKey,
)
from luksctl.secret import Secret

MAX_KEYS: Final = MAX_SLOT + 1
# One spare slot and one id for the bookkeeping token: with more keys than this there is no room for them.
MAX_KEYS_WITH_BOOKKEEPING: Final = MAX_KEYS - 2
_PCRS: Final = range(24)
_LOCK: Final = "lockToState"
_DOCUMENTED_LOCK: Final = "lockToSTATE"


def read_keys(block: Block, volume: str, form: Form) -> tuple[ConfiguredKey, ...]:
    """Return the keys of the encryption `block`, sorted by slot, without those that have a problem."""
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
    documented = _DOCUMENTED_LOCK if _LOCK in form.key_fields and block.has(_DOCUMENTED_LOCK) else None
    known = form.key_fields if documented is None else (*form.key_fields, documented)
    block.refuse_unknown(known, elsewhere=form.elsewhere)
    slot = _read_slot(block, first_lines)
    source = _read_source(block, volume, slot, form)
    lock_to_state = _read_lock(block, volume, slot, documented or _LOCK) if _LOCK in form.key_fields else None
    return None if slot is None or source is None else ConfiguredKey(slot, source, lock_to_state)


def _read_lock(block: Block, volume: str, slot: int | None, name: str) -> bool | None:
    if name != _LOCK:
        block.report.warn(
            f"{_where(volume, slot)}{name} is read as {_LOCK}; only Talos' documentation writes it so, and Talos "
            "refuses it"
        )
        if block.has(_LOCK):
            block.error(name, f"{_LOCK} is given twice, once as {name}", f"keep {_LOCK}")
    lock_to_state = block.flag(name)
    if lock_to_state and volume == STATE:
        block.error(name, "STATE cannot be locked to STATE", f"take {name} out of the keys of STATE")
    return lock_to_state


def _where(volume: str, slot: int | None) -> str:
    return f"{volume}: " if slot is None else f"{volume}, slot {slot}: "


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
    return None if inner is None else _read_kind(kinds[0], inner, _where(volume, slot), form)


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
    block.report.note_endpoint(block.line_of("endpoint"), join(block.path, "endpoint"), endpoint)
    return KmsKey(endpoint)


def _read_tpm(block: Block, where: str, form: Form) -> TpmKey:
    elsewhere = {} if "options" in form.tpm_fields else {"options": ONLY_IN_VOLUME_CONFIG}
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
