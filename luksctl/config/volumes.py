"""Where a machine config wants volumes encrypted: machine.systemDiskEncryption and the volume documents."""

from __future__ import annotations

import re

from luksctl.config.block import Block
from luksctl.config.encryption import read_encryption
from luksctl.config.forms import V1ALPHA1, VOLUME_CONFIG
from luksctl.config.spelling import did_you_mean
from luksctl.config.split import Document
from luksctl.hints import Final
from luksctl.model.config import EPHEMERAL, STATE, VolumeEncryption
from luksctl.value import frozen

SYSTEM_VOLUMES: Final = (STATE, EPHEMERAL, "IMAGECACHE", "ETCD", "CRI", "KUBELET", "LOG")
_SECTION: Final = "systemDiskEncryption"
_V1ALPHA1_VOLUMES: Final = {"state": STATE, "ephemeral": EPHEMERAL}
_USER_NAME: Final = r"[A-Za-z0-9-]{1,34}"
# The volume's name, which is also its partition label, is the document's name behind this.
_NAME_PREFIX: Final = {"VolumeConfig": "", "UserVolumeConfig": "u-", "RawVolumeConfig": "r-", "SwapVolumeConfig": "s-"}


@frozen
class Wish:
    """The encryption that one place of the config wants of one volume."""

    volume: str
    encryption: VolumeEncryption
    line: int
    path: str


def read_machine(document: Document) -> list[Wish]:
    """Return the wishes of machine.systemDiskEncryption."""
    root = document.block
    root.refuse_misspelled("machine")
    if root.has(_SECTION):
        root.error(_SECTION, f"{_SECTION} stands outside machine", "move it below machine:")
    machine = root.block("machine")
    if machine is None:
        return []
    machine.refuse_misspelled(_SECTION)
    section = _present(machine, _SECTION)
    if section is None:
        return []
    section.refuse_unknown(tuple(_V1ALPHA1_VOLUMES))
    wishes: list[Wish] = []
    for field, volume in _V1ALPHA1_VOLUMES.items():
        block = _present(section, field)
        encryption = None if block is None else read_encryption(block, volume, V1ALPHA1)
        if block is not None and encryption is not None:
            wishes.append(Wish(volume, encryption, block.line, block.path))
    return wishes


def read_volume_document(document: Document) -> Wish | None:
    """Return the wish of a VolumeConfig, UserVolumeConfig, RawVolumeConfig or SwapVolumeConfig; None for plain."""
    kind = document.kind or ""
    root = document.block
    _check_name(root, kind)
    root.refuse_misspelled("encryption")
    volume = _NAME_PREFIX[kind] + document.name
    if kind == "VolumeConfig" and volume == STATE:
        for field in ("provisioning", "mount"):
            if root.has(field):
                root.error(field, f"STATE takes no {field}", "its place is fixed; take the section out")
    if kind == "UserVolumeConfig" and root.has("volumeType") and root.text("volumeType") == "directory":
        for field in ("provisioning", "filesystem", "encryption"):
            if root.has(field):
                root.error(field, f"a volume of type directory takes no {field}")
    block = _present(root, "encryption")
    if block is None:
        return None
    encryption = read_encryption(block, volume, VOLUME_CONFIG)
    return None if encryption is None else Wish(volume, encryption, block.line, block.path)


def _present(parent: Block, name: str) -> Block | None:
    """Return the block `name`; an empty one is a problem, for it does not say whether plain is meant."""
    if parent.has(name) and not parent.given(name):
        parent.error(name, f"{name} is empty", "fill it in, or take it out for a plain volume")
    return parent.block(name)


def _check_name(root: Block, kind: str) -> None:
    name = root.text("name")
    if not name:
        if name == "" or not root.given("name"):
            root.error("name", "name is missing")
    elif kind == "VolumeConfig":
        if name not in SYSTEM_VOLUMES:
            hint = did_you_mean(name, SYSTEM_VOLUMES) or f"known: {', '.join(SYSTEM_VOLUMES)}"
            root.error("name", f"there is no system volume {name!r}", hint)
    elif re.fullmatch(_USER_NAME, name) is None:
        root.error("name", f"{name!r} is no volume name", "use 1 to 34 of A-Z, a-z, 0-9 and -")
