"""Tags as people see them: their names, how to write their number, and values shown without secrets."""

from __future__ import annotations

import hashlib
import json

from luksctl.errors import UsageError
from luksctl.hints import Final
from luksctl.meta.adv import FIRST_TAG, LAST_TAG
from luksctl.model.meta import TAG_KMS_ACCESS, TAG_LUKSCTL, TAG_STATE_ENCRYPTION, TAG_UUID_OVERRIDE

_RESERVED: Final = "reserved by Talos"
# pkg/machinery/meta/constants.go of Talos, and our own.
TAG_NAMES: Final = {
    0x03: _RESERVED,
    0x04: _RESERVED,
    0x05: _RESERVED,
    0x06: "upgrade marker",
    0x07: "staged upgrade image",
    0x08: "staged upgrade options",
    TAG_STATE_ENCRYPTION: "STATE encryption config",
    0x0A: "metal platform network config",
    0x0B: "code for the talos.config URL",
    0x0C: "user reserved 1",
    0x0D: "user reserved 2",
    0x0E: "user reserved 3",
    TAG_UUID_OVERRIDE: "node UUID override",
    0x10: "unique machine token",
    0x11: "disk image bootloader kind",
    TAG_LUKSCTL: "luksctl node record",
    TAG_KMS_ACCESS: "how luksctl reaches the KMS of STATE",
}
# Values that are text and no secret; of every other tag only the size is shown.
_SHOWN: Final = frozenset({0x06, 0x07, 0x0C, 0x0D, 0x0E, 0x11})
_SHOWN_CHARACTERS: Final = 60
_REDACTED: Final = "REDACTED"


def tag_name(tag: int) -> str:
    """Return what `tag` is for, or an empty text for one that nobody named."""
    return TAG_NAMES.get(tag, "")


def parse_tag(text: str) -> int:
    """Return the tag that KEY on the command line means: decimal, or with 0x, 0o or 0b; 1 to 255.

    UsageError otherwise. Leading zeros are refused: Talos reads them as octal, and people do not.
    """
    hint = "write it as 15 or 0x0f; luksctl meta list shows the tags"
    try:
        tag = int(text, 0)
    except ValueError as error:
        raise UsageError(f"not a META tag: {text!r}", hint=hint) from error
    if not FIRST_TAG <= tag <= LAST_TAG:
        raise UsageError(f"META tag {text} is outside {FIRST_TAG} to {LAST_TAG}", hint=hint)
    return tag


def describe_tag(tag: int, value: bytes) -> str:
    """Return one line about a value that is safe to show: passphrases are REDACTED, a UUID is a short hash."""
    if tag == TAG_STATE_ENCRYPTION:
        return _describe_encryption(value)
    if tag == TAG_UUID_OVERRIDE:
        return f"{len(value)} bytes, sha256 {hashlib.sha256(value).hexdigest()[:8]}" if value else "empty: no override"
    if tag in _SHOWN:
        text = value.decode("utf-8", "replace")
        if len(text) > _SHOWN_CHARACTERS:
            return f"{_printable(text[:_SHOWN_CHARACTERS])}… ({len(value)} bytes)"
        return _printable(text)
    return f"{len(value)} bytes"


def _describe_encryption(value: bytes) -> str:
    try:
        document = json.loads(value)
    except (ValueError, RecursionError):
        return f"{len(value)} bytes that are not JSON"
    return json.dumps(_redact(document), separators=(",", ":"))


def _redact(value: object) -> object:
    match value:
        case dict():
            return {name: _redact_field(str(name), inner) for name, inner in value.items()}
        case list():
            return [_redact(inner) for inner in value]
        case _:
            return value


def _redact_field(name: str, value: object) -> object:
    # Whatever stands below the static key is the passphrase, in whichever spelling Go would accept.
    return _REDACTED if name.lower() in ("keystatic", "keydata") and value is not None else _redact(value)


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "·" for character in text)
