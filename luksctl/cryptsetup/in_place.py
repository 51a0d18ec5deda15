"""Beginning an encryption in place, and the way back, by an order of our own: no cut loses the head of the data.

`cryptsetup reencrypt --encrypt` copies the head behind the data without a sync, and then writes the header over it from
the front in one go: cut there, the head is gone, or a valid header stands above key areas that open nothing. Here the
header is made in memory, and written only once the copy was seen on the medium; what makes it count is written last.
"""

from __future__ import annotations

import json
import os

from luksctl.cryptsetup.device import Device
from luksctl.cryptsetup.header_bytes import header_copy
from luksctl.cryptsetup.header_image import copy_header
from luksctl.cryptsetup.header_restore import (
    Stage,
    locked_for_writing,
    sync_fully,
    write_fully,
    write_stages,
)
from luksctl.cryptsetup.kdf import KdfBounds
from luksctl.cryptsetup.ondisk import Pread, read_copies
from luksctl.cryptsetup.reencryption import ReencryptFlag, ReencryptStatus, parameters_of
from luksctl.cryptsetup.wiping import WipePattern
from luksctl.errors import DeviceError
from luksctl.hints import Final
from luksctl.model.header import Copies
from luksctl.model.in_place import SHIFT_BYTES
from luksctl.model.intent import ReencryptIntent, ReencryptKind
from luksctl.model.probe import Range
from luksctl.secret import Secret

_MOVED: Final = "backup-moved-segment"
_WHAT: Final = "place the header"


def begin_encryption(scratch: str, data_path: str, cipher: str, key: Secret, slot: int, bounds: KdfBounds) -> Range:
    """Note in the header in `scratch` that `data_path` is encrypted in place, and copy its head; return where to.

    The copy is synced. Everything moves by SHIFT_BYTES towards the end, from the end on. Cut: the head is where it was.
    """
    parameters = parameters_of(ReencryptIntent("", "", "", cipher, kind=ReencryptKind.ENCRYPT))
    flags = ReencryptFlag.INITIALIZE_ONLY | ReencryptFlag.MOVE_FIRST_SEGMENT
    with Device.detached(scratch, data_path, bounds=bounds) as luks:
        luks.reencryption.start(parameters, key, old_slot=None, new_slot=slot, flags=flags)
        segments = luks.header.metadata()["segments"].values()
    moved = next((segment for segment in segments if _MOVED in segment.get("flags", ())), None)
    if moved is None:
        raise DeviceError("libcryptsetup does not say where it copied the head to", operation="begin the encryption")
    _sync(data_path)
    return Range(int(moved["offset"]), int(moved["size"]))


def all_but_concluded(text: str) -> Range | None:
    """Return where the copy of the head is, of an encryption that has come to its end but for the header; else None.

    libcryptsetup overwrites that copy before it writes the last header, and a run that was cut in between is resumed by
    none of its versions tried (2.6.1): it looks for a hot zone, and there is none left.
    """
    segments = json.loads(text)["segments"].values()
    flagged = {flag: segment for segment in segments for flag in segment.get("flags", ())}
    left = [segment for segment in segments if not segment.get("flags")]
    final, moved = flagged.get("backup-final"), flagged.get(_MOVED)
    if final is None or moved is None or left != [{name: final[name] for name in final if name != "flags"}]:
        return None
    return Range(int(moved["offset"]), int(moved["size"]))


def forget_copy(luks: Device, copy: Range, key: Secret) -> None:
    """Overwrite the copy of the head with random bytes, once the volume keys vouch for what the header says of it."""
    luks.reencryption.resume(parameters_of(ReencryptIntent("", "", "", "", kind=ReencryptKind.ENCRYPT)), key)
    luks.wipe(WipePattern.RANDOM, offset_bytes=copy.offset_bytes, length_bytes=copy.size_bytes)


def conclude_encryption(path: str, size_bytes: int, pread: Pread) -> None:
    """Write the header that the library writes at the end of an encryption: one segment, and no re-encryption.

    Cut: the header before, or this one; `all_but_concluded` has to hold for it.
    """
    with locked_for_writing(path) as fd:
        image = copy_header(pread, size_bytes)
        if all_but_concluded(image.header.json) is None:
            raise DeviceError("the header changed meanwhile", operation="conclude the encryption", hint="try again")
        text, seqid = _concluded(image.header.json), image.header.seqid + 1
        stages = tuple(
            Stage(f"copy at {offset}", ((offset, header_copy(image, offset, seqid=seqid, text=text)),))
            for offset in (image.header.header_size_bytes, 0)
        )
        write_stages(stages, write_fully(fd, path), lambda: sync_fully(fd, path))


def _concluded(text: str) -> bytes:
    """Return the JSON area without what a re-encryption adds: backup segments, its keyslot and digest, its mark."""
    document = json.loads(text)
    segments = {number: segment for number, segment in document["segments"].items() if not segment.get("flags")}
    own = {number for number, keyslot in document["keyslots"].items() if keyslot["type"] == "reencrypt"}
    document["segments"] = segments
    document["keyslots"] = {number: slot for number, slot in document["keyslots"].items() if number not in own}
    for digest in document["digests"].values():
        digest["segments"] = [number for number in digest["segments"] if number in segments]
        digest["keyslots"] = [number for number in digest["keyslots"] if number not in own]
    document["digests"] = {number: digest for number, digest in document["digests"].items() if digest["keyslots"]}
    document["config"].pop("requirements", None)
    return json.dumps(document, separators=(",", ":")).encode()


def begin_decryption(header_path: str, data_path: str, key: Secret, slot: int, bounds: KdfBounds) -> None:
    """Note in the header in the file `header_path` that `data_path` is decrypted in place, unless that stands there.

    libcryptsetup copies the first SHIFT_BYTES of the data over the header on the device; synced. Cut: the data is where
    it was, and the file has the header as before, or as it will be.
    """
    parameters = parameters_of(ReencryptIntent("", "", "", "", kind=ReencryptKind.DECRYPT))
    flags = ReencryptFlag.INITIALIZE_ONLY | ReencryptFlag.MOVE_FIRST_SEGMENT
    with Device.detached(header_path, data_path, bounds=bounds) as luks:
        if luks.reencryption.state().status is ReencryptStatus.NONE:
            luks.reencryption.start(parameters, key, old_slot=slot, new_slot=None, flags=flags)
    _sync(header_path)
    _sync(data_path)


def _sync(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def place_header(scratch: str, path: str, pread: Pread, uuid: str) -> None:
    """Write the header in `scratch` over the head of `path`, and read it back; DeviceError where it is not whole.

    Cut: as `PlaceHeader` says.
    """
    with open(scratch, "rb") as source:
        content = source.read(SHIFT_BYTES)
    copies = read_copies(lambda offset, length: content[offset : offset + length], len(content))
    header = copies.best
    if header is None or copies.state is not Copies.EQUAL or header.uuid != uuid or not header.reencrypting:
        raise DeviceError("the header that was made in memory is not whole", operation=_WHAT)
    size_bytes = header.header_size_bytes
    stages = (
        Stage("key areas", ((2 * size_bytes, content[2 * size_bytes :]),)),
        Stage("second copy", ((size_bytes, content[size_bytes : 2 * size_bytes]),)),
        Stage("first copy", ((0, content[:size_bytes]),)),
    )
    with locked_for_writing(path) as fd:
        write_stages(stages, write_fully(fd, path), lambda: sync_fully(fd, path))
    if pread(0, SHIFT_BYTES) != content:
        raise DeviceError(f"{path} does not read back as it was written", operation=_WHAT)
