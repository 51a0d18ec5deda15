"""What libcryptsetup 2.6 leaves of a re-encryption in two moments, and cannot deal with itself; found by tests/faults.

The end   It destroys the keyslots of the old volume key one by one before it takes its mark out of the header, and
          opens nothing that has the mark by keyslots of the new volume key alone. A cut there locks the volume for
          ever, whoever holds which key. What is written here is the header that its last write would have left.
A hot zone is announced in the first header copy in one sync with the record (checksums, journal) by which it would be
          mended. A disk may write the copy and lose the record; then mending writes garbage. The data is untouched
          until the second copy is synced, too: while that one does not know of the hot zone, it is put back.
"""

from __future__ import annotations

import json
import os

from luksctl.cryptsetup.device import Device
from luksctl.cryptsetup.header_bytes import backup_of, header_copy, read_backup
from luksctl.cryptsetup.header_image import HeaderImage, copy_header
from luksctl.cryptsetup.header_restore import locked_for_writing, sync_fully, write_fully
from luksctl.cryptsetup.metadata import parse_metadata
from luksctl.cryptsetup.ondisk import BINARY_SIZE_BYTES, Pread, read_copies
from luksctl.errors import DeviceError, Refused
from luksctl.hints import Any, Final
from luksctl.model.header import REENCRYPT_REQUIREMENT, Copies, HeaderCopies, LuksHeader
from luksctl.model.intent import ReencryptIntent

_OPERATION: Final = "end the re-encryption"


def end_reencryption(path: str, size_bytes: int, pread: Pread, how: ReencryptIntent) -> None:
    """Overwrite the key areas of the old volume key, and write the header that ends it: the copies one by one, synced.

    Refused where some data may still have the old volume key, or is not encrypted as `how` says. Cut: as before, with
    fewer keys of the old volume key; or the ended header, whole, in one copy and newer than the other.
    """
    with locked_for_writing(path) as fd:
        image = copy_header(pread, size_bytes)
        text = ended(image.header.json, how)
        copies = _copies(image, text)
        _expect_loadable(image, copies, path)
        pwrite = write_fully(fd, path)
        for area in parse_metadata(image.header.json).areas:
            if str(area.slot) not in json.loads(text)["keyslots"]:
                pwrite(area.offset_bytes, os.urandom(area.size_bytes))
        sync_fully(fd, path)
        for offset, copy in copies:
            pwrite(offset, copy)
            sync_fully(fd, path)


def put_back_unbegun(path: str, size_bytes: int, pread: Pread) -> None:
    """Take a hot zone back of which only the first header copy knows; nothing is written where there is none.

    Cut: as before, or the second copy alone is valid, which says the same.
    """
    if _unbegun(read_copies(pread, size_bytes)) is None:
        return
    with locked_for_writing(path) as fd:
        image = copy_header(pread, size_bytes)
        before = _unbegun(image.copies)
        if before is not None:
            copy = header_copy(image, 0, seqid=image.header.seqid + 1, text=before.json.encode())
            write_fully(fd, path)(0, copy)
            sync_fully(fd, path)


def _unbegun(copies: HeaderCopies) -> LuksHeader | None:
    """Return the older, second copy where only the first one knows of a hot zone."""
    first, second = (None if copy is None else copy.header for copy in (copies.first, copies.second))
    if copies.state is not Copies.DIFFER or first is None or second is None or first.seqid < second.seqid:
        return None
    return second if _has_hot_zone(first) and second.reencrypting and not _has_hot_zone(second) else None


def _has_hot_zone(header: LuksHeader) -> bool:
    return any("in-reencryption" in segment.flags for segment in header.segments)


def ended(text: str, how: ReencryptIntent) -> str:
    """Return the JSON area without anything of the re-encryption; Refused where its data is not done."""
    document: dict[str, Any] = json.loads(text)
    segment, digest = _all_data(document, how)
    kept = set(document["digests"][digest]["keyslots"])
    document["segments"] = {"0": segment}
    document["digests"] = {digest: {**document["digests"][digest], "segments": ["0"]}}
    document["keyslots"] = {number: slot for number, slot in document["keyslots"].items() if number in kept}
    for token in document["tokens"].values():
        token["keyslots"] = [number for number in token["keyslots"] if number in kept]
    if document["config"].get("requirements") != {"mandatory": [REENCRYPT_REQUIREMENT]}:
        raise Refused("the header has other requirements than a re-encryption", operation=_OPERATION)
    del document["config"]["requirements"]
    return json.dumps(document, separators=(",", ":"))


def _all_data(document: dict[str, Any], how: ReencryptIntent) -> tuple[dict[str, Any], str]:
    """Return the one segment that is all the data, and its digest, which is that of the new keyslots."""
    data = {name: segment for name, segment in document["segments"].items() if not segment.get("flags")}
    flags = {flag for segment in document["segments"].values() for flag in segment.get("flags", ())}
    new = {str(slot.new) for slot in how.moved}
    digests = [name for name, digest in document["digests"].items() if new & set(digest["keyslots"])]
    if len(data) != 1 or len(digests) != 1 or flags != {"backup-previous", "backup-final"}:
        raise Refused("some data may still have the old volume key", operation=_OPERATION)
    ((name, segment),) = data.items()
    if name not in document["digests"][digests[0]]["segments"] or segment.get("size") != "dynamic":
        raise Refused("some data may still have the old volume key", operation=_OPERATION)
    # Nothing vouches for this text any more, so only what was announced is taken over from it.
    as_announced = (segment.get("type"), segment.get("encryption"), segment.get("sector_size"))
    if as_announced != ("crypt", how.cipher, how.sector_size_bytes) or "null" in how.cipher:
        raise Refused("the data is not encrypted as it was announced", operation=_OPERATION)
    return segment, digests[0]


def _copies(image: HeaderImage, text: str) -> list[tuple[int, bytes]]:
    """Return both copies with their offsets, the one that does not count now first."""
    size_bytes = image.header.header_size_bytes
    if len(text) >= size_bytes - BINARY_SIZE_BYTES:
        raise DeviceError("the ended header is longer than the one before", operation=_OPERATION)
    first = image.copies.first
    offsets = (size_bytes, 0) if first is not None and first.header == image.header else (0, size_bytes)
    seqid = image.header.seqid + 1
    return [(offset, header_copy(image, offset, seqid=seqid, text=text.encode())) for offset in offsets]


def _expect_loadable(image: HeaderImage, copies: list[tuple[int, bytes]], path: str) -> None:
    """Have libcryptsetup check the header that is about to be written, from memory."""
    content = bytearray(backup_of(image))
    for offset, copy in copies:
        content[offset : offset + len(copy)] = copy
    with Device.from_copy(read_backup(bytes(content)), path):
        pass
