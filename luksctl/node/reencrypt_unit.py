"""What a boot does about a re-encryption: it opens the volume, and leaves the rest to a service."""

from __future__ import annotations

from luksctl.errors import DeviceError
from luksctl.node.node import Node
from luksctl.node.units import reencrypt_unit


def go_on_later(node: Node, volume: str) -> tuple[str, ...]:
    """Have the service go on after a boot; what prevents that is a finding, since the volume is open all the same."""
    try:
        node.system.start_soon(reencrypt_unit(volume))
    except DeviceError as error:
        return (f"it is being re-encrypted, and nothing goes on with that: {error.cause} (luksctl reencrypt {volume})",)
    return ()
