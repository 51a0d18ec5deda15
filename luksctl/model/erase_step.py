"""The steps of a reset. After each of them the intent still stands, but for the last one.

None of them looks at what a header says: ranges are worked out beforehand. Nothing is ever repaired or opened between
them, so a copy of the header that is left when the power goes is only what the next run erases first.
"""

from __future__ import annotations

from luksctl.hints import ClassVar
from luksctl.model.destroys import Destroys
from luksctl.model.intent import ResetIntent
from luksctl.model.probe import Device, Range
from luksctl.value import frozen


@frozen
class AnnounceReset:
    """Announce in META that the volume is being erased, in which attempt. Cut: the old intent or the new one."""

    volume: str
    intent: ResetIntent
    destroys: ClassVar[Destroys] = Destroys.NOTHING


@frozen
class EraseHeader:
    """Write zeros over the ranges of each pass, sync after each, and read all of them back from the medium.

    Key areas come first, then the header copies; where the rest has to wait, all that lies around them. Nothing behind
    the header is touched, so it may be done below an open mapping. Cut: what is left of the header opens nothing, or
    the next run erases it.
    """

    volume: str
    device: Device
    passes: tuple[tuple[Range, ...], ...]
    destroys: ClassVar[Destroys] = Destroys.DATA


@frozen
class EraseEnds:
    """Write zeros over all that Blank asks about, sync, read it back, and see that no signature is left.

    Cut: some of it is zero; the next run does it again.
    """

    volume: str
    device: Device
    ranges: tuple[Range, ...]
    destroys: ClassVar[Destroys] = Destroys.DATA


@frozen
class Overwrite:
    """Write zeros over the whole device and read them back, from the position of the intent on, which is moved along.

    Cut: everything before the noted position is zero; the next run goes on there.
    """

    volume: str
    device: Device
    intent: ResetIntent
    destroys: ClassVar[Destroys] = Destroys.DATA


@frozen
class Discard:
    """Tell the device that nothing on it is needed; what then does not read as zeros at the ends is zeroed once more.

    Skipped where the device has no such command. Cut: as EraseEnds.
    """

    volume: str
    device: Device
    destroys: ClassVar[Destroys] = Destroys.DATA


@frozen
class ConcludeReset:
    """See that the device is Blank, then forget the volume: intent and expectations, in one META write.

    Cut: done again at the next boot.
    """

    volume: str
    device: Device
    destroys: ClassVar[Destroys] = Destroys.NOTHING
