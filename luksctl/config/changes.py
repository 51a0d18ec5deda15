"""What differs between two machine configs, and what of it needs a reboot. Pure.

Talos 1.7 applies changes of some fields of the machine configuration proper at once and reboots for all others; other
documents are not compared. What luksctl itself follows is decided by luksctl: keys at once, whatever Talos says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from luksctl.config.nodes import is_null, join, pairs
from luksctl.config.report import Report
from luksctl.config.split import split
from luksctl.hints import Final
from luksctl.model.config import EPHEMERAL, STATE, MachineConfig, VolumeEncryption
from luksctl.value import frozen

# talos-formats 7.2, the fields that 1.7 changes without a reboot.
_LIVE: Final = frozenset(
    {
        "debug",
        "cluster",
        *(
            f"machine.{name}"
            for name in (
                "ca",
                "acceptedCAs",
                "time",
                "certSANs",
                "install",
                "network",
                "sysfs",
                "sysctls",
                "logging",
                "controlPlane",
                "kubelet",
                "kernel",
                "registries",
                "pods",
                "seccompProfiles",
                "nodeLabels",
                "nodeTaints",
                "features.kubernetesTalosAPIAccess",
                "features.kubePrism",
                "features.hostDNS",
            )
        ),
    }
)
# Fields whose parts are told apart.
_DIVIDED: Final = frozenset({"machine", "machine.features"})
# Decided by what is read out of it, not by its text.
_ENCRYPTION: Final = "machine.systemDiskEncryption"


@frozen
class Changes:
    """`reboot` are fields that need one, `strict` those that need one by Talos' rule alone.

    `keys` are volumes whose keys change, which is done at once; `fixed` says of volumes what no apply changes.
    """

    reboot: tuple[str, ...] = ()
    strict: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()

    def rebooting(self, *, strict: bool) -> tuple[str, ...]:
        """Return the fields that need a reboot; by Talos' own rule where `strict`."""
        return (*self.reboot, *self.strict) if strict else self.reboot


def compare(before: MachineConfig, after: MachineConfig) -> Changes:
    """Return what changes from `before` to `after`, both valid."""
    differing = tuple(_differences(_machine(before), _machine(after), ""))
    volumes = [(volume, before.encryption_of(volume), after.encryption_of(volume)) for volume in (STATE, EPHEMERAL)]
    return Changes(
        reboot=tuple(path for path in differing if path not in _LIVE and path != _ENCRYPTION),
        strict=tuple(path for path in differing if path == _ENCRYPTION),
        keys=tuple(volume for volume, old, new in volumes if old and new and old.keys != new.keys),
        fixed=tuple(
            text
            for volume, old, new in volumes
            for text in (*_turned(volume, old, new, after), *_fixed(volume, old, new))
        ),
    )


def _turned(
    volume: str, old: VolumeEncryption | None, new: VolumeEncryption | None, after: MachineConfig
) -> Iterator[str]:
    if (old is None) == (new is None) or (volume == EPHEMERAL and after.policy.in_place):
        return
    turned, verb = ("on", f"encrypt {volume} --in-place") if old is None else ("off", f"decrypt {volume}")
    kept = f"luksctl {verb}, or " if volume == EPHEMERAL else ""
    yield f"{volume}: encryption is turned {turned}, which takes {kept}a reset of the volume"


def _fixed(volume: str, old: VolumeEncryption | None, new: VolumeEncryption | None) -> Iterator[str]:
    if old is None or new is None:
        return
    layout = (
        ("cipher", old.cipher, new.cipher),
        ("keySize", old.key_size_bits, new.key_size_bits),
        ("blockSize", old.block_size_bytes, new.block_size_bytes),
    )
    changed = [name for name, was, now in layout if was != now]
    if changed:
        yield f"{volume}: {', '.join(changed)} of a volume that is there changes by a reset of the volume only"
    if (old.options, old.allow_discards) != (new.options, new.allow_discards):
        yield f"{volume}: options and allowDiscards count from the next time it is opened"


def _machine(config: MachineConfig) -> MappingNode | None:
    """Return the machine configuration proper; None where there is none."""
    for document in split(config.text, Report(config.source)):
        if document.kind == "":
            return document.block.node
    return None


def _differences(before: Node | None, after: Node | None, path: str) -> Iterator[str]:
    """Yield the fields that differ, as deep as rules are about them; a field that is empty is none."""
    if _digest(before) == _digest(after):
        return
    if path and path not in _DIVIDED:
        yield path
        return
    old, new = _fields(before), _fields(after)
    for name in sorted({*old, *new}):
        yield from _differences(old.get(name), new.get(name), join(path, name))


def _fields(node: Node | None) -> dict[str, Node]:
    found: dict[str, Node] = {}
    for key, value in pairs(node) if isinstance(node, MappingNode) else ():
        if isinstance(key, ScalarNode):
            found.setdefault(key.value, value)
    return found


def _digest(root: Node | None) -> bytes:
    """Return what tells values apart, whatever their order and form in the text; of nothing it is empty.

    Without recursion, and once for what aliases share: the text may be deep, and huge once it is written out.
    """
    if root is None:
        return b""
    known: dict[int, bytes] = {}
    pending: list[tuple[Node, bool]] = [(root, False)]
    while pending:
        node, ready = pending.pop()
        if ready:
            known[id(node)] = _combined(node, known)
        elif id(node) not in known:
            known[id(node)] = b"itself"  # an alias to what it stands in finds this
            pending.append((node, True))
            pending += [(child, False) for child in _children(node)]
    return known[id(root)]


def _children(node: Node) -> list[Node]:
    if isinstance(node, MappingNode):
        return [each for pair in pairs(node) for each in pair]
    return list(node.value) if isinstance(node, SequenceNode) else []


def _combined(node: Node, known: dict[int, bytes]) -> bytes:
    if isinstance(node, SequenceNode):
        parts = [known[id(element)] for element in node.value]
        return hashlib.sha256(b"list" + b"".join(map(_framed, parts))).digest()
    if not isinstance(node, MappingNode):
        text = f"{node.tag}\0{node.value}".encode("utf-8", "surrogatepass")
        return b"" if is_null(node) else hashlib.sha256(b"value" + text).digest()
    fields: dict[bytes, bytes] = {}
    for key, value in pairs(node):
        fields.setdefault(known[id(key)], known[id(value)])
    parts = [_framed(key) + _framed(value) for key, value in sorted(fields.items()) if value]
    return hashlib.sha256(b"mapping" + b"".join(parts)).digest()


def _framed(part: bytes) -> bytes:
    return len(part).to_bytes(4) + part
