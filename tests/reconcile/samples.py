"""Headers, an intent, signatures and a mapping that fit the device of the world in memory."""

from __future__ import annotations

from luksctl.model.config import STATE
from luksctl.model.header import UNFINISHED_MARK, Keyslot, LuksHeader, Segment
from luksctl.model.intent import FormatIntent
from luksctl.model.observed import Mapping
from luksctl.model.probe import Signature
from luksctl.units import MIB
from tests.reconcile.world import DEVICE, PARTUUID

OURS = "00000000-0000-4000-8000-0000000000a1"
OTHER = "00000000-0000-4000-8000-0000000000b2"
INTENT = FormatIntent(STATE, PARTUUID, OURS)
XFS = Signature("xfs", "STATE", OURS, "filesystem")
EXT4 = Signature("ext4", "", "e4e4", "filesystem")
MAPPING = Mapping("luks2-STATE", "/dev/mapper/luks2-STATE", DEVICE.path)


def header(uuid: str = OURS, subsystem: str = "", seqid: int = 5) -> LuksHeader:
    """Return a header with one keyslot."""
    slot = Keyslot(0, "argon2id", 4, 32, 1, None, "aes-xts-plain64")
    segment = Segment(0, "crypt", "aes-xts-plain64", 4096, 16 * MIB)
    return LuksHeader(uuid, "", subsystem, seqid, 0x4000, (slot,), (), (segment,), 1000, (), (), "{}")


def marked(uuid: str = OURS, seqid: int = 5) -> LuksHeader:
    """Return a header whose first format has not finished."""
    return header(uuid, UNFINISHED_MARK, seqid)
