"""What firmware noted of its measurements, replayed for one PCR (TCG PC Client Platform Firmware Profile, section 10).

A log that anybody could have written: it tells where a boot is in its phases, which words an error and lets a node that
is up call a key that cannot be asked for any more no fault. No key is given out or sealed by it.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator

from luksctl.hints import Final

EVENT_LOG: Final = "/sys/kernel/security/tpm0/binary_bios_measurements"
_SHA256: Final = 0x000B
_NO_ACTION: Final = 3
_HEAD: Final = struct.Struct("<II")
_COUNT: Final = struct.Struct("<I")
_ALGORITHM: Final = struct.Struct("<HH")
_SHA1_BYTES: Final = 20
# In the first event, behind a signature of 16 bytes and 8 bytes of versions.
_ALGORITHMS_OFFSET: Final = 24


def read_measured(pcr: int, path: str = EVENT_LOG) -> bytes | None:
    """Return what `pcr` held when the firmware handed over, None where no log says so."""
    try:
        with open(path, "rb") as source:
            log = source.read()
    except OSError:
        # Without securityfs, or without a log, less can be explained.
        return None
    return replay(log, pcr)


def replay(log: bytes, pcr: int) -> bytes | None:
    """Return the sha256 value of `pcr` after all events in `log`; None where it has none, or cannot be understood."""
    value = bytes(32)
    seen = False
    try:
        for index, kind, digest in _events(log):
            if index == pcr and kind != _NO_ACTION and digest is not None:
                value = hashlib.sha256(value + digest).digest()
                seen = True
    except (struct.error, LookupError):
        return None
    return value if seen else None


def _events(log: bytes) -> Iterator[tuple[int, int, bytes | None]]:
    """Yield PCR, type and sha256 digest of each event after the first, which names the banks."""
    head_end = _HEAD.size + _SHA1_BYTES + _COUNT.size
    (size,) = _COUNT.unpack_from(log, head_end - _COUNT.size)
    sizes = _digest_sizes(log[head_end : head_end + size])
    offset = head_end + size
    while offset < len(log):
        pcr, kind = _HEAD.unpack_from(log, offset)
        (count,) = _COUNT.unpack_from(log, offset + _HEAD.size)
        offset += _HEAD.size + _COUNT.size
        digest = None
        for _ in range(count):
            algorithm = int.from_bytes(log[offset : offset + 2], "little")
            end = offset + 2 + sizes[algorithm]
            if algorithm == _SHA256:
                digest = log[offset + 2 : end]
            offset = end
        (size,) = _COUNT.unpack_from(log, offset)
        offset += _COUNT.size + size
        yield pcr, kind, digest


def _digest_sizes(event: bytes) -> dict[int, int]:
    (count,) = _COUNT.unpack_from(event, _ALGORITHMS_OFFSET)
    first = _ALGORITHMS_OFFSET + _COUNT.size
    return dict(_ALGORITHM.unpack_from(event, first + index * _ALGORITHM.size) for index in range(count))
