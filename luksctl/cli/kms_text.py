"""Nodes and versions of the master key, as text and as JSON; of a node only the beginning of its hash."""

from __future__ import annotations

from datetime import UTC, datetime

from luksctl.model.kms import KeyList, KeyVersion, KnownNode

_CERTIFICATE_CHARACTERS = 16


def node_row(node: KnownNode) -> tuple[str, ...]:
    """Return the line of a node in the table."""
    certificate = "" if node.certificate is None else node.certificate[:_CERTIFICATE_CHARACTERS]
    return node.shown, node.state.value, certificate, _time(node.last_seen) or "", node.peer or "", node.note


def node_fields(node: KnownNode) -> dict[str, object]:
    """Return a node as plain values."""
    return {
        "node": node.shown,
        "state": node.state.value,
        "certificate": node.certificate,
        "firstSeen": _time(node.first_seen),
        "changed": _time(node.changed),
        "lastSeen": _time(node.last_seen),
        "peer": node.peer,
        "note": node.note,
    }


def version_fields(version: KeyVersion) -> dict[str, object]:
    """Return a version of the master key as plain values."""
    return {"version": version.version, "created": _time(version.created)}


def keys_fields(keys: KeyList) -> dict[str, object]:
    """Return what a master key file holds as plain values."""
    imported = [{"imported": _time(at)} for at in keys.imported]
    return {"keys": [version_fields(one) for one in keys.versions], "imported": imported}


def _time(seconds: int | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
