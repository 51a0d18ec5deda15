"""Our own tag 0xE0: the node record as JSON, in one value so that all of it changes in one META write.

    {"version": 1,
     "intents": [{"kind": "format", "volume", "partition", "headerUUID", "attempt", "phase", "lastError"},
                 {"kind": "reset", "volume", "partition", "method", "attempt", "headBytes", "positionBytes", "was",
                  "lastError"},
                 {"kind": "reencrypt", "volume", "partition", "headerUUID", "cipher", "moved": [[new, old, role]],
                  "token", "sectorSize", "resilience", "hotzoneBytes", "maxRate", "data", "header",
                  "attempt", "lastError"},
                 {"kind": "inPlace", "volume", "partition", "headerUUID", "attempt", "phase", "movedBytes": [offset,
                  size] | null, "headSHA256", "lastError"},
                 {"kind": "decrypt", "volume", "partition", "headerUUID", "header", "begun", "attempt", "lastError"}],
     "partitions": {volume: GPT UUID}, "encrypted": [volume], "machineCheck": {"salt", "mac"} | null,
     "trial": {"bootID", "deadline", "storedSHA256"}}

A reader must understand every intent of its version, so a new kind of intent is a new version: resets are version 2,
re-encryptions and work in place version 3. The lowest version that has all that is announced is written, so that an
older luksctl reads everything else. Fields it may ignore can be added without a version: they are kept when the record
is written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from luksctl.errors import MetaError
from luksctl.hints import Final, assert_never
from luksctl.model.intent import (
    DecryptIntent,
    EraseMethod,
    FormatIntent,
    FormatPhase,
    InPlaceIntent,
    InPlacePhase,
    Intent,
    MovedSlot,
    ReencryptIntent,
    ReencryptKind,
    ResetIntent,
    Resilience,
    SlotRole,
)
from luksctl.model.meta import MachineCheck, NodeRecord, Trial
from luksctl.model.probe import Range
from luksctl.value import field, frozen

VERSION: Final = 3
_WITH_RESETS: Final = 2
_WITH_FORMATS_ONLY: Final = 1
# The cause of a failed attempt is free text; it must never be what fills META.
LAST_ERROR_CHARACTERS: Final = 500
# More seconds than any machine runs; no infinity, and no number that is none.
_LATEST_S: Final = 1e15
_HEX: Final = frozenset("0123456789abcdef")
_FIELDS: Final = frozenset({"version", "intents", "partitions", "encrypted", "machineCheck", "trial"})


@frozen
class StoredRecord:
    """The record, and the fields beside it that this version does not know."""

    record: NodeRecord = field(default_factory=NodeRecord)
    unknown_fields: Mapping[str, object] = field(default_factory=dict)


def encode(record: NodeRecord, unknown_fields: Mapping[str, object]) -> bytes:
    """Return the value of our tag; a last error is cut to LAST_ERROR_CHARACTERS."""
    check = record.machine_check
    document = {
        **unknown_fields,
        "version": max((_version_of(intent) for intent in record.intents), default=_WITH_FORMATS_ONLY),
        "intents": [_encode_intent(intent) for intent in record.intents],
        "partitions": dict(record.partitions),
        "encrypted": list(record.encrypted),
        "machineCheck": None if check is None else {"salt": check.salt, "mac": check.mac},
    }
    if record.trial is not None:
        # A reader that does not know of it follows the config that is stored, which takes the trial back.
        trial = record.trial
        document["trial"] = {
            "bootID": trial.boot_id,
            "deadline": trial.deadline_s,
            "storedSHA256": trial.stored_digest,
        }
    return json.dumps(document, separators=(",", ":")).encode("ascii")


def decode(value: bytes | None) -> StoredRecord:
    """Return the record that `value` holds, an empty one for None (no tag).

    MetaError when a newer luksctl wrote it, or it is damaged: what it announces is then unknown, not absent.
    """
    if value is None:
        return StoredRecord()
    try:
        document = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise _damaged("it is not JSON") from error
    fields = _object(document, "the record")
    version = fields.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or version < _WITH_FORMATS_ONLY:
        raise _damaged("it has no version")
    if version > VERSION:
        raise MetaError(
            f"tag 0xe0 is a node record of version {version}, and this luksctl knows {VERSION}",
            volume="META",
            hint="use the luksctl that wrote it, or a newer one",
        )
    check = fields.get("machineCheck")
    record = NodeRecord(
        intents=tuple(_decode_intent(entry) for entry in _list(fields.get("intents", []), "intents")),
        partitions=tuple(
            (volume, _text(uuid, "a partition"))
            for volume, uuid in _object(fields.get("partitions", {}), "partitions").items()
        ),
        encrypted=tuple(_text(name, "a volume's name") for name in _list(fields.get("encrypted", []), "encrypted")),
        machine_check=None if check is None else _decode_check(_object(check, "machineCheck")),
        trial=None if fields.get("trial") is None else _decode_trial(_object(fields["trial"], "trial")),
    )
    return StoredRecord(record, {name: inner for name, inner in fields.items() if name not in _FIELDS})


def _version_of(intent: Intent) -> int:
    match intent:
        case FormatIntent():
            return _WITH_FORMATS_ONLY
        case ResetIntent():
            return _WITH_RESETS
        case ReencryptIntent() | InPlaceIntent() | DecryptIntent():
            return VERSION
    assert_never(intent)


def _encode_intent(intent: Intent) -> dict[str, object]:
    match intent:
        case FormatIntent():
            return {
                "kind": "format",
                "volume": intent.volume,
                "partition": intent.partition,
                "headerUUID": intent.header_uuid,
                "attempt": intent.attempt,
                "phase": intent.phase.value,
                "lastError": intent.last_error[:LAST_ERROR_CHARACTERS],
            }
        case ResetIntent():
            return {
                "kind": "reset",
                "volume": intent.volume,
                "partition": intent.partition,
                "method": intent.method.value,
                "attempt": intent.attempt,
                "headBytes": intent.head_bytes,
                "positionBytes": intent.position_bytes,
                "was": intent.was,
                "lastError": intent.last_error[:LAST_ERROR_CHARACTERS],
            }
        case ReencryptIntent():
            return _encode_reencryption(intent)
        case InPlaceIntent():
            moved = intent.moved
            return {
                "kind": "inPlace",
                "volume": intent.volume,
                "partition": intent.partition,
                "headerUUID": intent.header_uuid,
                "attempt": intent.attempt,
                "phase": intent.phase.value,
                "movedBytes": None if moved is None else [moved.offset_bytes, moved.size_bytes],
                "headSHA256": intent.head_sha256,
                "saved": intent.saved,
                "savedSHA256": intent.saved_sha256,
                "lastError": intent.last_error[:LAST_ERROR_CHARACTERS],
            }
        case DecryptIntent():
            return {
                "kind": "decrypt",
                "volume": intent.volume,
                "partition": intent.partition,
                "headerUUID": intent.header_uuid,
                "header": intent.header,
                "begun": intent.begun,
                "attempt": intent.attempt,
                "lastError": intent.last_error[:LAST_ERROR_CHARACTERS],
            }
    assert_never(intent)


def _encode_reencryption(intent: ReencryptIntent) -> dict[str, object]:
    place = {"data": intent.kind.value, "header": intent.header}
    return {
        "kind": "reencrypt",
        "volume": intent.volume,
        "partition": intent.partition,
        "headerUUID": intent.header_uuid,
        "cipher": intent.cipher,
        "moved": [[slot.new, slot.old, slot.role.value] for slot in intent.moved],
        "token": intent.token,
        "sectorSize": intent.sector_size_bytes,
        "resilience": intent.resilience.value,
        "hotzoneBytes": intent.hotzone_bytes,
        "maxRate": intent.max_rate_bytes_s,
        **({} if intent.kind is ReencryptKind.RENEW else place),
        "attempt": intent.attempt,
        "lastError": intent.last_error[:LAST_ERROR_CHARACTERS],
    }


def _decode_intent(entry: object) -> Intent:
    fields = _object(entry, "an intent")
    match fields.get("kind"):
        case "format":
            return _decode_format(fields)
        case "reset":
            return _decode_reset(fields)
        case "reencrypt":
            return _decode_reencryption(fields)
        case "inPlace":
            return _decode_in_place(fields)
        case "decrypt":
            return _decode_decryption(fields)
        case _:
            raise _damaged("an intent is of a kind this luksctl does not know")


def _decode_reset(fields: dict[str, object]) -> ResetIntent:
    try:
        method = EraseMethod(_text(fields.get("method"), "an intent's method"))
    except ValueError as error:
        raise _damaged("an intent has a method this luksctl does not know") from error
    return ResetIntent(
        volume=_text(fields.get("volume"), "an intent's volume"),
        partition=_text(fields.get("partition"), "an intent's partition"),
        method=method,
        attempt=_number(fields.get("attempt"), "attempt"),
        head_bytes=_number(fields.get("headBytes"), "headBytes"),
        position_bytes=_number(fields.get("positionBytes"), "positionBytes"),
        was=_text(fields.get("was", ""), "an intent's was"),
        last_error=_text(fields.get("lastError", ""), "an intent's lastError"),
    )


def _decode_reencryption(fields: dict[str, object]) -> ReencryptIntent:
    try:
        resilience = Resilience(_text(fields.get("resilience"), "an intent's resilience"))
    except ValueError as error:
        raise _damaged("an intent has a resilience this luksctl does not know") from error
    try:
        kind = ReencryptKind(_text(fields.get("data", "renew"), "an intent's data"))
    except ValueError as error:
        raise _damaged("an intent does something with its data that this luksctl does not know") from error
    return ReencryptIntent(
        volume=_text(fields.get("volume"), "an intent's volume"),
        partition=_text(fields.get("partition"), "an intent's partition"),
        header_uuid=_text(fields.get("headerUUID"), "an intent's headerUUID"),
        cipher=_text(fields.get("cipher"), "an intent's cipher"),
        moved=tuple(_decode_moved(entry) for entry in _list(fields.get("moved"), "an intent's moved")),
        token=_number(fields.get("token"), "token"),
        sector_size_bytes=_number(fields.get("sectorSize"), "sectorSize"),
        resilience=resilience,
        hotzone_bytes=_number(fields.get("hotzoneBytes"), "hotzoneBytes"),
        max_rate_bytes_s=_number(fields.get("maxRate"), "maxRate"),
        kind=kind,
        header=_text(fields.get("header", ""), "an intent's header"),
        attempt=_number(fields.get("attempt"), "attempt"),
        last_error=_text(fields.get("lastError", ""), "an intent's lastError"),
    )


def _decode_moved(entry: object) -> MovedSlot:
    match entry:
        case [new, old, role]:
            try:
                known = SlotRole(_text(role, "a moved slot's role"))
            except ValueError as error:
                raise _damaged("a moved slot has a role this luksctl does not know") from error
            return MovedSlot(_number(new, "moved slot"), _number(old, "moved slot"), known)
        case _:
            raise _damaged("a moved slot is not a list of three")


def _decode_in_place(fields: dict[str, object]) -> InPlaceIntent:
    try:
        phase = InPlacePhase(_text(fields.get("phase"), "an intent's phase"))
    except ValueError as error:
        raise _damaged("an intent is in a phase this luksctl does not know") from error
    moved = None if fields.get("movedBytes") is None else _list(fields["movedBytes"], "movedBytes")
    if moved is not None and len(moved) != 2:  # offset and size
        raise _damaged("movedBytes is not an offset and a size")
    digest = _text(fields.get("headSHA256", ""), "an intent's headSHA256")
    if phase is InPlacePhase.PLACING and (moved is None or not digest):
        raise _damaged("an intent does not say where the head of the volume was moved to")
    return InPlaceIntent(
        volume=_text(fields.get("volume"), "an intent's volume"),
        partition=_text(fields.get("partition"), "an intent's partition"),
        header_uuid=_text(fields.get("headerUUID"), "an intent's headerUUID"),
        attempt=_number(fields.get("attempt"), "attempt"),
        phase=phase,
        moved=None if moved is None else Range(*(_number(part, "movedBytes") for part in moved)),
        head_sha256=digest,
        saved=_text(fields.get("saved", ""), "an intent's saved"),
        saved_sha256=_text(fields.get("savedSHA256", ""), "an intent's savedSHA256"),
        last_error=_text(fields.get("lastError", ""), "an intent's lastError"),
    )


def _decode_decryption(fields: dict[str, object]) -> DecryptIntent:
    return DecryptIntent(
        volume=_text(fields.get("volume"), "an intent's volume"),
        partition=_text(fields.get("partition"), "an intent's partition"),
        header_uuid=_text(fields.get("headerUUID"), "an intent's headerUUID"),
        header=_text(fields.get("header"), "an intent's header"),
        attempt=_number(fields.get("attempt"), "attempt"),
        last_error=_text(fields.get("lastError", ""), "an intent's lastError"),
        # Where it does not say so, it may have: then only the announcement says where the header is.
        begun=fields.get("begun") is not False,
    )


def _decode_format(fields: dict[str, object]) -> FormatIntent:
    attempt = _number(fields.get("attempt"), "attempt")
    try:
        phase = FormatPhase(_text(fields.get("phase"), "an intent's phase"))
    except ValueError as error:
        raise _damaged("an intent is in a phase this luksctl does not know") from error
    return FormatIntent(
        volume=_text(fields.get("volume"), "an intent's volume"),
        partition=_text(fields.get("partition"), "an intent's partition"),
        header_uuid=_text(fields.get("headerUUID"), "an intent's headerUUID"),
        attempt=attempt,
        phase=phase,
        last_error=_text(fields.get("lastError", ""), "an intent's lastError"),
    )


def _decode_check(fields: dict[str, object]) -> MachineCheck:
    salt, mac = _text(fields.get("salt"), "machineCheck's salt"), _text(fields.get("mac"), "machineCheck's mac")
    if not salt or not mac or len(salt) % 2 or len(mac) % 2 or not set(salt + mac) <= _HEX:
        raise _damaged("machineCheck is not hexadecimal")
    return MachineCheck(salt, mac)


def _decode_trial(fields: dict[str, object]) -> Trial:
    deadline = fields.get("deadline")
    if not isinstance(deadline, int | float) or isinstance(deadline, bool) or not 0 <= deadline < _LATEST_S:
        raise _damaged("trial's deadline is not a number")
    boot_id, digest = (_text(fields.get(name), f"trial's {name}") for name in ("bootID", "storedSHA256"))
    return Trial(boot_id, float(deadline), digest)


def _object(value: object, what: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise _damaged(f"{what} is not an object")
    return value


def _list(value: object, what: str) -> list[object]:
    if not isinstance(value, list):
        raise _damaged(f"{what} is not a list")
    return value


def _number(value: object, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _damaged(f"an intent's {name} is not a number from 0")
    return value


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise _damaged(f"{what} is not text")
    return value


def _damaged(why: str) -> MetaError:
    return MetaError(
        f"tag 0xe0, the node record of luksctl, is damaged: {why}",
        volume="META",
        hint="what it announced is lost; look at the volumes before luksctl meta delete 0xe0",
    )
