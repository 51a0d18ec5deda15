"""Key derivation: what it shall cost, and how much cost of a header made by others is accepted."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from luksctl.cryptsetup._libcryptsetup import ffi, lib
from luksctl.errors import KdfOutOfBounds
from luksctl.hints import TYPE_CHECKING, Any, Final, assert_never
from luksctl.model.config import KdfCost
from luksctl.units import GIB, KIB
from luksctl.value import frozen

if TYPE_CHECKING:
    from luksctl.cryptsetup._libcryptsetup import PbkdfType
    from luksctl.cryptsetup.kdf_memory import KdfMemory


@frozen
class Pbkdf2Cost:
    """PBKDF2 with `iterations` (at least 1000) of `hash`."""

    iterations: int
    hash: str = "sha256"


# KdfCost is Argon2id.
Kdf = KdfCost | Pbkdf2Cost

# The digest covers a random key of 256 bits or more, so iterations add nothing but time to every unlock. The library
# would benchmark it to 60-100 ms, and it cannot be lowered after the format.
CHEAP_DIGEST: Final = Pbkdf2Cost(1000)


@frozen
class KdfBounds:
    """The largest costs that an unlock accepts from a header.

    The defaults take what cryptsetup writes with up to twenty seconds of `--iter-time` (its default is two), and stop a
    forged header that would run for minutes or for ever: a running key derivation cannot be interrupted.
    `max_work_kib` bounds Argon2's time times memory (128 GiB: about 80 s on two slow cores); memory and threads are the
    library's own maxima. `memory` gives who is asked before each derivation whether the machine has what it needs;
    None asks nobody.
    """

    max_time: int = 4096
    max_memory_kib: int = 4 * GIB // KIB
    max_work_kib: int = 128 * GIB // KIB
    max_threads: int = 4
    max_iterations: int = 100_000_000
    max_digest_iterations: int = 10_000_000
    max_af_stripes: int = 4000
    memory: Callable[[], KdfMemory] | None = None

    def check(self, metadata: Mapping[str, Any], slot: int | None, subject: str) -> None:
        """Raise KdfOutOfBounds unless the digests and keyslot `slot` (None: every one) stay within the bounds.

        `metadata` is the parsed JSON area of a LUKS2 header. A slot that is not there is not an error here.
        """
        self.check_digests(metadata, subject)
        for number, keyslot in sorted(metadata["keyslots"].items()):
            if keyslot["type"] == "luks2" and slot in (None, int(number)):
                self._check_keyslot(keyslot, (f"keyslot {number}", subject, int(number)))

    def check_digests(self, metadata: Mapping[str, Any], subject: str) -> None:
        """Raise KdfOutOfBounds unless the digests stay within the bounds: all that an unlock by volume key computes."""
        for number, digest in sorted(metadata["digests"].items()):
            limits = {"iterations": self.max_digest_iterations}
            self._compare(digest, limits, (f"digest {number}", subject, None))

    def _check_keyslot(self, keyslot: Mapping[str, Any], place: tuple[str, str, int | None]) -> None:
        kdf = keyslot["kdf"]
        self._compare(keyslot["af"], {"stripes": self.max_af_stripes}, place)
        if kdf["type"] == "pbkdf2":
            self._compare(kdf, {"iterations": self.max_iterations}, place)
            return
        self._compare(kdf, {"time": self.max_time, "memory": self.max_memory_kib, "cpus": self.max_threads}, place)
        self._compare(
            {"time times memory": kdf["time"] * kdf["memory"]}, {"time times memory": self.max_work_kib}, place
        )

    def _compare(self, costs: Mapping[str, Any], limits: dict[str, int], place: tuple[str, str, int | None]) -> None:
        what, subject, slot = place
        for name, limit in limits.items():
            value = costs.get(name)
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= limit:
                raise KdfOutOfBounds(
                    f"the header asks for {name} {value!r} in {what}, outside 1 to {limit}",
                    errno=errno.E2BIG,
                    volume=subject,
                    slot=slot,
                    operation="check the key derivation costs",
                    hint="the header was damaged or forged; restore it from a backup",
                )


DEFAULT_BOUNDS: Final = KdfBounds()

# Slots of random keys need less than this, and wait for nobody.
MEMORY_WORTH_ASKING_KIB: Final = KIB


def heaviest_keyslot(metadata: Mapping[str, Any], slot: int | None) -> tuple[int | None, int]:
    """Return the keyslot that takes the most memory to unlock, and how many KiB: `slot`, or one of all for None.

    `metadata` was checked by `KdfBounds.check`. No slot and 0 where there is none that takes any.
    """
    found: tuple[int | None, int] = (slot, 0)
    for number, keyslot in metadata["keyslots"].items():
        if keyslot["type"] == "luks2" and slot in (None, int(number)) and keyslot["kdf"]["type"] != "pbkdf2":
            found = max(found, (int(number), keyslot["kdf"]["memory"]), key=lambda pair: pair[1])
    return found


@contextmanager
def pbkdf_parameters(kdf: Kdf) -> Iterator[PbkdfType]:
    """Give `kdf` as crypt_set_pbkdf_type takes it, with benchmarks switched off, for the length of the `with`."""
    match kdf:
        case KdfCost(time, memory_kib, threads):
            name, hash_name, iterations = b"argon2id", b"sha256", time
        case Pbkdf2Cost(iterations, hash_text):
            name, hash_name, memory_kib, threads = b"pbkdf2", hash_text.encode(), 0, 0
        case _:
            assert_never(kdf)
    kdf_name, kdf_hash = ffi.new("char[]", name), ffi.new("char[]", hash_name)
    yield ffi.new(
        "struct crypt_pbkdf_type *",
        {
            "type": kdf_name,
            "hash": kdf_hash,
            "iterations": iterations,
            "max_memory_kb": memory_kib,
            "parallel_threads": threads,
            "flags": lib.CRYPT_PBKDF_NO_BENCHMARK,
        },
    )
