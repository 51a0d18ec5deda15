"""A node as the stories need it: a machine with luksctl's units enabled, and what to ask it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from rig.cpio import Link
from rig.disk import Disk
from rig.machine import Machine
from rig.spec import Content, MachineSpec

from luksctl.meta.facts import facts_of
from luksctl.meta.image import REGIONS, UNUSED_REGION, read_image
from luksctl.model.config import Settings
from luksctl.model.meta import MetaFacts
from luksctl.node.node import Paths
from luksctl.node.units import reencrypt_template, trial_unit, unit_files

VOLUMES = ("STATE", "EPHEMERAL")
HOOK = ("/usr/bin/python3", "-I", "-S", "/opt/luksctl/luksctl/boot/program.py")
COMMAND = ("/usr/bin/luksctl",)
CONFIG_PATH = "/etc/luksctl/machine.yaml"
CHEAP_POLICY = """\
---
apiVersion: luksctl/v1alpha1
kind: EncryptionPolicy
kdf: {time: 4, memory: 32MiB, threads: 1}
"""


def encrypted(volume: str, *keys: str) -> str:
    """Return the VolumeConfig that encrypts `volume` with `keys`, each a line of YAML like `slot: 0, nodeID: {}`."""
    listed = "\n".join(f"    - {{{key}}}" for key in keys)
    head = f"---\napiVersion: v1alpha1\nkind: VolumeConfig\nname: {volume}\n"
    return f"{head}encryption:\n  provider: luks2\n  keys:\n{listed}\n"


def config(*documents: str) -> str:
    """Return a machine config of `documents` with a KDF that an emulated processor can bear."""
    return "".join(documents) + CHEAP_POLICY


def quick(text: str) -> str:
    """Return `text` with the cheapest KDF there is, for stories of many boots that are not about its cost."""
    return text.replace("32MiB", "32KiB")


NODE_ID = "slot: 0, nodeID: {}"
BOTH_BY_NODE_ID = config(encrypted("STATE", NODE_ID), encrypted("EPHEMERAL", NODE_ID))


def enabled() -> dict[str, Content]:
    """Return the unit files of `luksctl enable`, for guests whose root forgets what was done in it."""
    files: dict[str, Content] = {}
    for unit in (*unit_files(Settings(), Paths(), HOOK), trial_unit(COMMAND), reencrypt_template(COMMAND)):
        files[f"/etc/systemd/system/{unit.name}"] = unit.text
        if unit.wanted:
            files[f"/etc/systemd/system/local-fs.target.wants/{unit.name}"] = Link(f"../{unit.name}")
    return files


def node_spec(spec: MachineSpec, machine_config: str | None = BOTH_BY_NODE_ID) -> MachineSpec:
    """Return `spec` with the units enabled, and the config where images put it."""
    files = {**enabled(), **spec.files}
    if machine_config is not None:
        files[CONFIG_PATH] = machine_config
    return replace(spec, files=files)


def report(machine: Machine, volume: str) -> dict[str, Any]:
    """Return what the last attempt at `volume` reported."""
    found: dict[str, Any] = json.loads(machine.read_file(f"/run/luksctl/report/{volume}.json"))
    return found


def mounted_from(machine: Machine, path: str) -> str:
    """Return what is mounted at `path`, empty for nothing."""
    return machine.run("findmnt", "-n", "-o", "SOURCE", "--mountpoint", path).stdout.strip()


def status(machine: Machine) -> dict[str, Any]:
    """Return what `luksctl status` says, its exit code included; the code that it ends with is checked to be that."""
    result = machine.run("luksctl", "status", "--json")
    found: dict[str, Any] = json.loads(result.stdout)
    assert found["exitCode"] == result.status, result
    return found


def luksctl_journal(machine: Machine) -> str:
    """Return what luksctl's units said in this boot."""
    return machine.journal("--output=cat", "-u", "luksctl-*")


def property_of(machine: Machine, unit: str, name: str) -> str:
    """Return one property of a systemd unit, such as ActiveState."""
    return machine.check("systemctl", "show", "-P", name, unit).strip()


def headers(disk: Disk) -> dict[str, bytes]:
    """Return both header copies of both volumes."""
    return {volume: disk.read(disk.partition(volume).offset_bytes, 32 * 1024) for volume in VOLUMES}


def meta_facts(meta: bytes) -> MetaFacts:
    """Return what the bytes of a META partition say to the node."""
    first, second, last, unused = (bytearray(meta[at : at + size]) for at, size in (*REGIONS, UNUSED_REGION))
    return facts_of(read_image(first, second, last, lambda: unused))
