"""Find the key that opens a volume: configured keys first, cheap slots before dear ones, then what a cut left."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from luksctl.errors import DeviceError, KeyRejected, ProviderUnavailable, TokenInvalid
from luksctl.hints import TypeVar
from luksctl.model.config import ConfiguredKey, KeyKind, VolumeEncryption
from luksctl.model.header import LuksHeader
from luksctl.model.ports import Ports
from luksctl.model.probe import Device
from luksctl.reconcile.keyring import Keyring
from luksctl.reconcile.keys import Failures, cheapest_first, try_key
from luksctl.secret import Secret
from luksctl.value import frozen

Result = TypeVar("Result")


@frozen
class Opened:
    """The slot that opened, and the volume key it gave."""

    slot: int
    volume_key: Secret


def first_that_opens(
    ports: Ports, keyring: Keyring, device: Device, header: LuksHeader, lists: tuple[VolumeEncryption, ...]
) -> Opened:
    """Try the keys of the first list, then those of the others; Locked or ProviderUnavailable when none opens.

    Later lists are what the volume had before: they serve only where a change is unfinished, since otherwise a key of
    the first one opens. Writes nothing.
    """

    def volume_key(slot: int, candidate: Secret) -> Opened:
        return Opened(slot, ports.headers.volume_key(device, slot, candidate))

    return first_that_works(ports, keyring, header, lists, volume_key)


def first_that_works(
    ports: Ports,
    keyring: Keyring,
    header: LuksHeader,
    lists: tuple[VolumeEncryption, ...],
    use: Callable[[int, Secret], Result],
) -> Result:
    """Return what `use` makes of the first key that it does not reject, tried as above; the slot is where it belongs.

    By itself for what is being re-encrypted: there no slot alone gives what opens the volume.
    """
    failures = Failures(keyring.volume)
    for key, slot in _attempts(header, lists):
        try:
            return _used(ports, keyring, header, (key, slot), use)
        except (ProviderUnavailable, KeyRejected, TokenInvalid, DeviceError) as error:
            failures.add(key, error)
    raise failures.combined("opens the volume")


def _attempts(header: LuksHeader, lists: tuple[VolumeEncryption, ...]) -> Iterator[tuple[ConfiguredKey, int]]:
    """Yield what to try: each key at its own slot, then at the spares that the bookkeeping names for it.

    What needs the network comes after all else of its list: a dead KMS delays no volume that another key opens.
    """
    earlier: list[ConfiguredKey] = []
    for encryption in lists:
        keys = [key for key in cheapest_first(encryption.keys, header) if key not in earlier]
        local = [key for key in keys if key.kind is not KeyKind.KMS]
        yield from _places(header, local)
        yield from _places(header, [key for key in keys if key.kind is KeyKind.KMS])
        earlier += keys


def _places(header: LuksHeader, keys: list[ConfiguredKey]) -> Iterator[tuple[ConfiguredKey, int]]:
    yield from ((key, key.slot) for key in keys)
    if not keys:
        return
    from luksctl.reconcile.books import unverified  # noqa: PLC0415  # seldom needed, and a boot's start is timed

    books = unverified(header)
    for key in keys:
        spares = () if books is None else books.spares_of(key.slot)
        yield from ((key, spare) for spare in spares if header.keyslot(spare) is not None)


def _used(
    ports: Ports,
    keyring: Keyring,
    header: LuksHeader,
    place: tuple[ConfiguredKey, int],
    use: Callable[[int, Secret], Result],
) -> Result:
    key, slot = place
    if header.keyslot(slot) is None:
        raise KeyRejected("the header has no such keyslot")
    token = header.token(slot)

    def attempt(candidate: Secret) -> Result:
        found = use(slot, candidate)
        keyring.prove(slot, key, candidate)
        return found

    return try_key(keyring.volume, key, None if token is None else token.json, ports.provider(key), attempt)
