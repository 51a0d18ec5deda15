"""META on its partition or image file: read it, change one tag, mend it. Holds nothing between calls.

Every change reads META afresh under the lock, mends a difference between the copies, then writes copy A, syncs it,
reads it back, and only then does the same with copy B. So at each moment one copy is whole: a cut leaves the old tags
or the new ones, and `load` says which copy wants mending. A write that fails changes nothing in memory, because there
is nothing in memory: the next call reads what the disk holds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from luksctl.errors import Busy, MetaError
from luksctl.hints import Final, final
from luksctl.meta import adv, record
from luksctl.meta.facts import facts_of
from luksctl.meta.image import REGIONS, REST_OFFSET, UNUSED_REGION, Image, Region, Write, read_image, starting_over
from luksctl.meta.medium import Medium, create_image
from luksctl.model.config import META_SIZE_BYTES, VolumeEncryption
from luksctl.model.meta import (
    TAG_KMS_ACCESS,
    TAG_LUKSCTL,
    TAG_STATE_ENCRYPTION,
    KeptAccess,
    MetaFacts,
    MetaState,
    NodeRecord,
)
from luksctl.secret import wipe

_LOCK_TIMEOUT_S: Final = 10.0
_UNREADABLE_HINT: Final = "keep the partition as it is, and put its 1 MiB back from a copy"


@final
class AdvStore:
    """The MetaStore over a block device or an image file of exactly 1 MiB.

    `lock_path` is what to flock: the whole disk's node for a partition (as Talos does), a sidecar file for an image,
    never the image itself. `create` lets the first write make an image file that is not there; never set it for a
    partition. A lock that stays held for `lock_timeout_s` is Busy. `medium` replaces the way to the bytes.
    """

    def __init__(
        self,
        path: str,
        lock_path: str,
        *,
        create: bool = False,
        lock_timeout_s: float = _LOCK_TIMEOUT_S,
        medium: Medium | None = None,
    ) -> None:
        self._medium = Medium(path) if medium is None else medium
        self._path = path
        self._lock_path = lock_path
        self._create = create
        self._lock_timeout_s = lock_timeout_s

    # ---- the port -------------------------------------------------------------------------------------------------

    def load(self) -> MetaFacts:
        """Read META; never writes. MetaError only when the device cannot be read; facts.py has the rest."""
        with self._looking() as image:
            return facts_of(image)

    def repair(self) -> None:
        """Rewrite the bad or older copy from the valid one; does nothing for equal copies and a blank META.

        MetaError where nothing is valid. Cut: the valid copy is untouched.
        """
        with self._changing("repair") as image:
            if image.state is not MetaState.BLANK:
                self._write(image.mending())

    def update_record(self, change: Callable[[NodeRecord], NodeRecord]) -> None:
        """Read our record, change it, write it. MetaError where META is absent, unreadable or of a newer luksctl.

        Fields of the record that this version does not know are kept. Cut: the old record or the new one.
        """
        with self._changing("write our record") as image:
            before = record.decode(image.tags().get(TAG_LUKSCTL))
            after = change(before.record)
            if after != before.record:
                self._apply(image, image.setting(TAG_LUKSCTL, record.encode(after, before.unknown_fields)))

    def write_state_encryption(self, encryption: VolumeEncryption | None) -> None:
        """Write tag 9 in the modern form, or delete it, and how its KMS is reached with it.

        Cut: the old list of keys or the new one; perhaps no list, and yet how a KMS was reached.
        """
        if encryption is None:
            with self._changing("delete tag 0x09") as image:
                self._apply(image, image.deleting(TAG_STATE_ENCRYPTION))
            self.write_kms_access(None)
            return
        with self._changing("write tag 0x09") as image:
            # Not at the top: a boot that finds all in order neither locks nor writes META, and its start is timed.
            from luksctl.meta import state_encryption_text  # noqa: PLC0415

            value = state_encryption_text.encode(encryption)
            try:
                self._apply(image, image.setting(TAG_STATE_ENCRYPTION, value))
            finally:
                wipe(value)

    def start_over(self, new: NodeRecord) -> None:
        """Let META say nothing but `new`, whatever it said, also where neither copy was valid. MetaError where absent.

        Everything around the copies becomes zero first, so nothing is left of what was here. Cut: META as it was, but
        for the legacy ADV, or `new`; where neither copy was valid before, perhaps still none.
        """
        with self._locked(shared=False):
            image = self._read()
            try:
                if image.state is MetaState.ABSENT:
                    self._expect_readable(image, "start over")
                writes = starting_over(image, {} if new == NodeRecord() else {TAG_LUKSCTL: record.encode(new, {})})
            finally:
                image.wipe()
            self._write(writes)

    def write_kms_access(self, kept: KeptAccess | None) -> None:
        """Write tag 0xE1, or delete it. Cut: what it was before or the new one."""
        with self._changing(f"write tag 0x{TAG_KMS_ACCESS:02x}") as image:
            if kept is None:
                self._apply(image, image.deleting(TAG_KMS_ACCESS))
                return
            from luksctl.meta import kms_access  # noqa: PLC0415  # as above

            value = bytearray(kms_access.encode(kept))
            try:
                self._apply(image, image.setting(TAG_KMS_ACCESS, value))
            finally:
                wipe(value)

    # ---- tags -----------------------------------------------------------------------------------------------------

    def list_tags(self) -> dict[int, bytes]:
        """Return every tag with its value, ascending; the Talos ADV wins over the legacy one. MetaError as read_tag."""
        with self._looking() as image:
            self._expect_readable(image, "list")
            return image.tags()

    def read_tag(self, tag: int) -> bytes:
        """Return the value of `tag`; MetaError when it is not there, or META is absent or unreadable."""
        adv.check_tag(tag)
        tags = self.list_tags()
        if tag not in tags:
            raise _no_such_tag(tag, "read")
        return tags[tag]

    def write_tag(self, tag: int, value: bytes) -> None:
        """Give `tag` its value; writes nothing when it has it. Cut: the old value or the new one."""
        adv.check_tag(tag)
        with self._changing(f"write tag 0x{tag:02x}") as image:
            self._apply(image, image.setting(tag, value))

    def delete_tag(self, tag: int) -> None:
        """Take `tag` out of the Talos ADV and the legacy one; MetaError when it is in neither.

        Cut: the tag with the value it had, or no tag.
        """
        adv.check_tag(tag)
        with self._changing(f"delete tag 0x{tag:02x}") as image:
            if tag not in image.tags():
                raise _no_such_tag(tag, "delete")
            self._apply(image, image.deleting(tag))

    # ---- reading --------------------------------------------------------------------------------------------------

    @contextmanager
    def _looking(self) -> Iterator[Image]:
        """Give META as it is, without a lock while all is well.

        A reader beside a writer sees one copy torn or older, which is a true picture, but not worth an alarm: whatever
        is not in order is read again when the writer is done. Should the lock stay held, the first picture counts.
        """
        image = self._read()
        if image.state not in (MetaState.OK, MetaState.BLANK, MetaState.ABSENT):
            image = self._look_again(image)
        try:
            yield image
        finally:
            image.wipe()

    def _look_again(self, image: Image) -> Image:
        try:
            with self._locked(shared=True):
                again = self._read()
        except Busy as error:
            return image.with_note(error.cause)
        image.wipe()
        return again

    def _read(self) -> Image:
        size_bytes = self._medium.size_bytes()
        if size_bytes is None:
            return Image(MetaState.ABSENT, f"{self._path} is not there")
        if size_bytes != META_SIZE_BYTES:
            return Image(
                MetaState.UNREADABLE, f"{self._path} has {size_bytes} bytes, and META has exactly {META_SIZE_BYTES}"
            )
        first, second, last = self._medium.read(REGIONS)
        return read_image(first, second, last, self._read_unused)

    def _read_unused(self) -> Region:
        try:
            (region,) = self._medium.read((UNUSED_REGION,))
        except MetaError:
            return None
        return region

    def _expect_readable(self, image: Image, operation: str) -> None:
        if image.state is MetaState.ABSENT:
            raise MetaError(image.problem or "META is not there", volume="META", operation=operation)
        if image.state is MetaState.UNREADABLE:
            cause = image.problem or "META is unreadable"
            raise MetaError(cause, volume="META", operation=operation, hint=_UNREADABLE_HINT)

    # ---- writing --------------------------------------------------------------------------------------------------

    @contextmanager
    def _changing(self, operation: str) -> Iterator[Image]:
        with self._locked(shared=False):
            image = self._read()
            if image.state is MetaState.ABSENT and self._create:
                create_image(self._path, bytes(adv.encode({})) * 2 + bytes(META_SIZE_BYTES - REST_OFFSET))
                image = self._read()
            try:
                self._expect_readable(image, operation)
                yield image
            finally:
                image.wipe()

    def _apply(self, image: Image, writes: tuple[Write, ...]) -> None:
        """Mend the copies, then write; a change that is none still mends, so that it is durable in both copies."""
        if not writes and image.state is MetaState.BLANK:
            return
        try:
            self._write((*image.mending(), *writes))
        finally:
            for write in writes:
                write.wipe()

    def _write(self, writes: tuple[Write, ...]) -> None:
        if not writes:
            return
        with self._medium.writing() as put:
            for write in writes:
                put(write.offset_bytes, write.data)

    @contextmanager
    def _locked(self, *, shared: bool) -> Iterator[None]:
        from luksctl.meta.lock import LockMode, locked  # noqa: PLC0415  # see write_state_encryption

        sidecar = not self._medium.is_block_device()
        if sidecar and os.path.realpath(self._lock_path) == os.path.realpath(self._path):
            # Making the image renames a new file into its place: a lock on the old one would guard nothing.
            raise MetaError(f"{self._path} cannot be its own lock", volume="META", operation="lock")
        mode = LockMode.SHARED if shared else LockMode.EXCLUSIVE
        with locked(self._lock_path, mode, timeout_s=self._lock_timeout_s, create=sidecar and not shared):
            yield


def _no_such_tag(tag: int, operation: str) -> MetaError:
    from luksctl.meta.tags import tag_name  # noqa: PLC0415  # see write_state_encryption

    name = tag_name(tag)
    known = f"tag 0x{tag:02x} ({name})" if name else f"tag 0x{tag:02x}"
    return MetaError(f"META has no {known}", volume="META", operation=operation, hint="luksctl meta list")
