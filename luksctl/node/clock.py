"""Before a KMS is judged by its certificate, the clock may be set: wait for that, for as long as the config says."""

from __future__ import annotations

from luksctl.config.endpoint import read_endpoint
from luksctl.hints import Final
from luksctl.model.config import STATE, KmsKey, KmsPolicy, VolumeEncryption
from luksctl.model.meta import KmsAccess
from luksctl.node.config_view import config_view
from luksctl.node.node import Node

_LOOKS_EVERY_S: Final = 2.0


def await_clock(node: Node, volume: str) -> None:
    """Return once the clock is synchronised, nobody is at it, or the wait is over.

    Nodes without a KMS behind TLS, and those whose config disables time synchronisation, do not wait.
    """
    wait_s = _wait_s(node, volume)
    if wait_s <= 0 or not node.system.clock_awaited():
        return
    node.tell(f"the clock is not synchronised yet; waiting {wait_s:.0f} s at most before the KMS is asked")
    end_s = node.system.monotonic_s() + wait_s
    while (left_s := end_s - node.system.monotonic_s()) > 0:
        node.system.sleep(min(left_s, _LOOKS_EVERY_S))
        if not node.system.clock_awaited():
            return
    node.tell("the clock is still not synchronised; the KMS is asked all the same")


def _wait_s(node: Node, volume: str) -> float:
    ruling = config_view(node).ruling
    if ruling is not None:
        return ruling.policy.kms.clock_wait_s if _has_tls(ruling.encryption_of(volume), ruling.policy.kms) else 0.0
    meta = node.ports.meta.load()
    access = KmsAccess() if meta.kms_access is None else meta.kms_access.access
    return access.clock_wait_s if volume == STATE and _has_tls(meta.state_encryption, access) else 0.0


def _has_tls(encryption: VolumeEncryption | None, reach: KmsPolicy | KmsAccess) -> bool:
    if encryption is None:
        return False
    named = [key.source.endpoint for key in encryption.keys if isinstance(key.source, KmsKey)]
    asked = (text for first in named for text in (first, *dict(reach.alternatives).get(first, ())))
    return any(endpoint.tls for text in asked if (endpoint := read_endpoint(text)) is not None)
