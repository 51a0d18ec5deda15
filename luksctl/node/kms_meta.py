"""Have META know how the KMS of STATE is reached; for a node without kms keys there is nothing to load and to do."""

from __future__ import annotations

from luksctl.model.config import STATE, KeyKind, MachineConfig
from luksctl.node.node import Node


def prepare_reach(node: Node, config: MachineConfig) -> None:
    """Before STATE is formatted: see luksctl.node.kms_reach.prepare_access."""
    if _has_kms(config):
        from luksctl.node.kms_reach import prepare_access  # noqa: PLC0415  # few nodes have one; a start is timed

        prepare_access(node, config)


def follow_reach(node: Node, config: MachineConfig) -> tuple[str, ...]:
    """Once STATE follows `config`: what could not follow, see luksctl.node.kms_reach.follow_access."""
    if not _has_kms(config) and node.ports.meta.load().kms_access is None:
        return ()
    from luksctl.node.kms_reach import follow_access  # noqa: PLC0415  # as above

    finding = follow_access(node, config)
    return () if finding is None else (finding,)


def _has_kms(config: MachineConfig) -> bool:
    encryption = config.encryption_of(STATE)
    return encryption is not None and any(key.kind is KeyKind.KMS for key in encryption.keys)
