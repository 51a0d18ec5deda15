"""The nodeID provider: the key is the machine's SMBIOS UUID followed by the volume's name, as Talos makes it.

The UUID is half of a passphrase: it leaves this module only inside a Secret, as a salted check of two bytes, or as
the short hash that messages show.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator

from luksctl.errors import KeyRejected
from luksctl.hints import Final, final
from luksctl.model.config import ConfiguredKey, NodeIdKey
from luksctl.model.meta import MachineCheck
from luksctl.model.ports import MadeKey
from luksctl.secret import Secret

_SALT_BYTES: Final = 16
_MAC_BYTES: Final = 2
_FIELD_DIGITS: Final = [8, 4, 4, 4, 12]
_HEX_DIGITS: Final = frozenset("0123456789abcdef")
# How many bytes the first three fields of a UUID have: SMBIOS before 2.6 and since disagree on their order.
_SWAPPED_FIELDS: Final = 3
_OVERRIDE_WARNING: Final = (
    "META tag 0x0f overrides the node UUID, so the secret part of every nodeID passphrase lies in clear on this disk: "
    "whoever has the disk opens the volumes"
)

ReadUuid = Callable[[], str | None]


def make_machine_check(uuid: str) -> MachineCheck:
    """Return a fresh check that recognises `uuid` (one wrong machine in 65536 passes) and gives 16 bits of it away."""
    salt = os.urandom(_SALT_BYTES).hex()
    return MachineCheck(salt, _mac(salt, uuid))


def matches(check: MachineCheck, uuid: str) -> bool:
    """Tell whether `check` was made for `uuid`, in either byte order."""
    import hmac  # noqa: PLC0415  # as _mac

    macs = [_mac(check.salt, order) for order in _byte_orders(uuid)]
    return any(hmac.compare_digest(mac.encode(), check.mac.encode()) for mac in macs)


def short_hash(uuid: str) -> str:
    """Return what may be shown of a node UUID: eight hex digits of its SHA-256."""
    return hashlib.sha256(_bytes(uuid)).hexdigest()[:8]


@final
class NodeIdProvider:
    """Keys from the node's UUID: META's tag 15 (`override`, taken as it stands) or what `read_uuid` finds in SMBIOS.

    Both methods raise KeyRejected where this machine has no UUID or one with too little entropy (asking again is of no
    use, so the other keys go on), and ProviderUnavailable where `read_uuid` does. `machine_check` is what the node
    record holds, for the explanation of a rejection.
    """

    def __init__(
        self, read_uuid: ReadUuid, *, override: str | None = None, machine_check: MachineCheck | None = None
    ) -> None:
        self._read_uuid = read_uuid
        self._override = override or None
        self._machine_check = machine_check

    def make(self, volume: str, key: ConfiguredKey) -> MadeKey:
        """Return the UUID's text followed by `volume`."""
        _expect_node_id(key)
        return MadeKey(_passphrase(self._checked_uuid(key), volume))

    def recover(self, volume: str, key: ConfiguredKey, token: str | None) -> Iterator[Secret]:  # noqa: ARG002
        """Yield the key by the UUID as it is, then by the UUID in the other SMBIOS byte order.

        An override is text and has no byte order. A token at the slot's number does not matter here.
        """
        _expect_node_id(key)
        uuid = self._checked_uuid(key)
        orders = (uuid,) if self._override else _byte_orders(uuid)
        return (_passphrase(order, volume) for order in orders)

    def explain_rejection(self, volume: str, key: ConfiguredKey) -> str | None:  # noqa: ARG002
        """Say that the volume was formatted on another machine, where the node record shows it; else None."""
        uuid = self._uuid()
        if uuid is None or self._machine_check is None or matches(self._machine_check, uuid):
            return None
        return (
            "the volume was formatted on another machine, or this one's SMBIOS UUID changed "
            f"(the present UUID has the hash {short_hash(uuid)})"
        )

    def new_machine_check(self) -> MachineCheck | None:
        """Return a fresh check of the UUID that keys are made from, for the node record; None without a UUID."""
        uuid = self._uuid()
        return None if uuid is None else make_machine_check(uuid)

    def warnings(self) -> tuple[str, ...]:
        """Return what status and validate should say about the source of the UUID."""
        return () if self._override is None else (_OVERRIDE_WARNING,)

    def _uuid(self) -> str | None:
        return self._override or self._read_uuid() or None

    def _checked_uuid(self, key: ConfiguredKey) -> str:
        uuid = self._uuid()
        if uuid is None:
            raise KeyRejected(
                "this machine has no SMBIOS UUID, so it has no nodeID key",
                slot=key.slot,
                hint="use another kind of key, or give the node an identity of its own: luksctl meta write 0x0f UUID",
            )
        if low_entropy(uuid):
            raise KeyRejected(
                f"the node UUID (hash {short_hash(uuid)}) repeats one character so often that anyone could guess it",
                slot=key.slot,
                hint="the vendor left the SMBIOS UUID unset; use another kind of key",
            )
        return uuid


def low_entropy(uuid: str) -> bool:
    """Tell whether one character, hyphens included, makes up more than half of the text (Talos' rule)."""
    return any(uuid.count(character) > len(uuid) // 2 for character in set(uuid))


def _byte_orders(uuid: str) -> tuple[str, ...]:
    """Return `uuid`, and with the bytes of its first three fields reversed where that is another UUID."""
    fields = uuid.split("-")
    if [len(field) for field in fields] != _FIELD_DIGITS or not _HEX_DIGITS.issuperset("".join(fields)):
        return (uuid,)
    swapped = "-".join(
        [bytes.fromhex(field)[::-1].hex() for field in fields[:_SWAPPED_FIELDS]] + fields[_SWAPPED_FIELDS:]
    )
    return (uuid,) if swapped == uuid else (uuid, swapped)


def _passphrase(uuid: str, volume: str) -> Secret:
    return Secret.take(bytearray(_bytes(uuid) + volume.encode()))


def _bytes(uuid: str) -> bytes:
    # An override that is not UTF-8 comes as surrogates, and goes into the passphrase as the bytes that META holds.
    return uuid.encode("utf-8", "surrogateescape")


def _mac(salt: str, uuid: str) -> str:
    import hmac  # noqa: PLC0415  # a key that opens needs none, and the start of a boot is timed

    return hmac.new(salt.encode(), _bytes(uuid), hashlib.sha256).digest()[:_MAC_BYTES].hex()


def _expect_node_id(key: ConfiguredKey) -> None:
    if not isinstance(key.source, NodeIdKey):
        raise TypeError(f"the nodeID provider was given a {key.kind} key")
