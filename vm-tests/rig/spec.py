"""What a guest is made of, as a value; and the QEMU command line that follows from it."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from rig.cpio import GuestFile, Link
from rig.firmware import CODE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rig.disk import Disk
    from rig.firmware import SecureBoot
    from rig.image import Image

Content = bytes | str | GuestFile | Link
HOTPLUG_PORTS = 4
DEFAULT_UUID = "5a1c0de0-7a05-4c0d-8bb1-1f3b5d7a9c21"

# No mitigations and hardening of the kernel, no accounting, no self-tests of ciphers, no drivers of processors that are
# not there: they cost an emulated processor much (a boot a third) and test nothing of ours.
KERNEL_ARGUMENTS = (
    "console=ttyS0",
    "loglevel=4",
    "panic=-1",
    "mitigations=off",
    "nokaslr",
    "tsc=reliable",
    "random.trust_cpu=on",
    "net.ifnames=0",
    "apparmor=0",
    "audit=0",
    "cgroup_disable=memory",
    "cryptomgr.notests",
    "hardened_usercopy=off",
    "init_on_alloc=0",
    "nowatchdog",
    "psi=0",
    "randomize_kstack_offset=off",
    "transparent_hugepage=never",
    "module_blacklist=powernow_k8,acpi_cpufreq",
    "systemd.show_status=error",
)

NETWORK_UNIT = """[Unit]
Description=Static address on the rig's network
DefaultDependencies=no
After=systemd-udev-settle.service sys-subsystem-net-devices-eth0.device
Wants=network.target sys-subsystem-net-devices-eth0.device
Before=network.target network-online.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=ip link set eth0 up
ExecStart=ip address add 10.0.2.15/24 dev eth0
ExecStart=ip route add default via 10.0.2.2
"""


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """Describe a guest.

    uuid is what SMBIOS says (None: a machine without one). files are placed into the root before systemd starts, at
    every power-on and reboot, by absolute path. credentials reach PID 1 as system credentials. The root is read-only
    with a layer over it that takes writes: "tmpfs" forgets them at each boot, "disk" keeps them like a disk would.
    With network the guest has 10.0.2.15 and reaches the host's loopback services at 10.0.2.2. Without secure_boot it is
    started by a BIOS, which QEMU gives a kernel.
    """

    disks: tuple[Disk, ...] = ()
    files: Mapping[str, Content] = field(default_factory=dict)
    credentials: Mapping[str, bytes] = field(default_factory=dict)
    uuid: str | None = DEFAULT_UUID
    memory_mib: int = 512
    cmdline: tuple[str, ...] = ()
    root_upper: Literal["tmpfs", "disk"] = "tmpfs"
    tpm: bool = False
    secure_boot: SecureBoot | None = None
    network: bool = False
    tree: bool = True


@dataclass(frozen=True, slots=True)
class Places:
    """Say where the files and sockets of one running guest are."""

    directory: Path

    @property
    def qmp(self) -> Path:
        """Return QEMU's control socket."""
        return self.directory / "qmp"

    @property
    def agent(self) -> Path:
        """Return the socket of the agent's port."""
        return self.directory / "agent"

    @property
    def console(self) -> Path:
        """Return the log of the serial console, all boots in order."""
        return self.directory / "console.log"

    @property
    def initrd(self) -> Path:
        """Return the initramfs with this guest's files appended."""
        return self.directory / "initrd"

    @property
    def unified(self) -> Path:
        """Return the signed file that a guest with Secure Boot boots from."""
        return self.directory / "unified.efi"

    @property
    def variables(self) -> Path:
        """Return the variables of the UEFI firmware."""
        return self.directory / "variables.fd"

    @property
    def upper(self) -> Path:
        """Return the disk under the root's writable layer."""
        return self.directory / "upper.img"

    @property
    def tpm(self) -> Path:
        """Return the TPM's state directory."""
        return self.directory / "tpm"

    @property
    def tpm_socket(self) -> Path:
        """Return where the TPM listens."""
        return self.directory / "tpm-socket"

    @property
    def tpm_relay(self) -> Path:
        """Return where QEMU finds the TPM."""
        return self.directory / "tpm-relay"


def unit(name: str, text: str, wanted_by: str | None = None) -> dict[str, Content]:
    """Return the files that install a systemd unit, enabled when wanted_by names a target."""
    files: dict[str, Content] = {f"/etc/systemd/system/{name}": text}
    if wanted_by is not None:
        files[f"/etc/systemd/system/{wanted_by}.wants/{name}"] = Link(f"../{name}")
    return files


def overlay_files(spec: MachineSpec) -> dict[str, GuestFile | Link]:
    """Return the entries of the archive that carries the spec's files to the initramfs."""
    files: dict[str, Content] = dict(spec.files)
    if spec.network:
        files |= unit("rig-network.service", NETWORK_UNIT, "multi-user.target")
    entries: dict[str, GuestFile | Link] = {}
    for path, content in files.items():
        match content:
            case bytes():
                entries[f"overlay{path}"] = GuestFile(content)
            case str():
                entries[f"overlay{path}"] = GuestFile(content.encode())
            case GuestFile() | Link():
                entries[f"overlay{path}"] = content
    return entries


def kernel_line(spec: MachineSpec) -> str:
    """Return the kernel's arguments."""
    return " ".join((*KERNEL_ARGUMENTS, *spec.cmdline))


def arguments(spec: MachineSpec, image: Image, tree: Path | None, places: Places, accel: str) -> list[str]:
    """Return QEMU's arguments for a guest."""
    # One processor: with more, an emulated guest now and then stops for good while the kernel patches its own code.
    processor = ["-cpu", "host"] if accel == "kvm" else ["-cpu", "max,la57=off,svm=off"]
    accelerator = "kvm" if accel == "kvm" else "tcg,tb-size=128"
    argv = ["-nodefaults", "-no-user-config", "-accel", accelerator, *processor, "-smp", "1"]
    # A reset is a power-on: what was translated before it only slows down what is loaded over it.
    argv += ["-action", "reboot=shutdown"]
    argv += ["-m", str(spec.memory_mib), "-display", "none", "-rtc", "base=utc"]
    argv += booted_from(spec, image, places)
    argv += ["-chardev", f"file,id=console,path={places.console},append=on", "-serial", "chardev:console"]
    argv += ["-qmp", f"unix:{places.qmp},server=on,wait=off"]
    argv += ["-device", "virtio-serial-pci", "-chardev", f"socket,id=agent,path={places.agent},server=on,wait=off"]
    argv += ["-device", "virtserialport,chardev=agent,name=rig"]
    argv += ["-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng"]
    for port in range(HOTPLUG_PORTS):
        argv += ["-device", f"pcie-root-port,id=hotplug{port},chassis={port + 1}"]
    argv += read_only_disk("rig-root", image.root)
    if tree is not None:
        argv += read_only_disk("rig-tree", tree)
    if spec.root_upper == "disk":
        argv += ["-drive", f"if=none,id=upper,format=raw,cache=unsafe,file={places.upper}"]
        argv += ["-device", "virtio-blk-pci,drive=upper,serial=rig-upper"]
    for number, disk in enumerate(spec.disks):
        argv += disk_arguments(disk, number)
    return argv + identity(spec, places)


def booted_from(spec: MachineSpec, image: Image, places: Places) -> list[str]:
    """Return the arguments for the board, its firmware, and what that is given to start."""
    if spec.secure_boot is None:
        argv = ["-machine", "q35", "-kernel", str(image.kernel), "-initrd", str(places.initrd)]
        return [*argv, "-append", kernel_line(spec)]
    # Only code in system management mode may write the variables, and it is not to be left by going to sleep.
    argv = ["-machine", "q35,smm=on", "-global", "driver=cfi.pflash01,property=secure,value=on"]
    argv += ["-global", "ICH9-LPC.disable_s3=1"]
    argv += ["-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={CODE}"]
    argv += ["-drive", f"if=pflash,unit=1,format=raw,file={places.variables}"]
    # No loader and no partition for one: the firmware verifies and measures what it is given.
    return [*argv, "-kernel", str(places.unified)]


def identity(spec: MachineSpec, places: Places) -> list[str]:
    """Return the arguments for what the guest knows of itself and of the world around it."""
    argv = []
    if spec.uuid is not None:
        argv += ["-uuid", spec.uuid]
    for name, value in spec.credentials.items():
        text = base64.b64encode(value).decode()
        argv += ["-smbios", f"type=11,value=io.systemd.credential.binary:{name}={text}"]
    if spec.network:
        argv += ["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="]
    if spec.tpm:
        argv += ["-chardev", f"socket,id=tpm,path={places.tpm_relay}"]
        argv += ["-tpmdev", "emulator,id=tpm,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm"]
    return argv


def read_only_disk(serial: str, path: Path) -> list[str]:
    """Return the arguments for one of the rig's own images."""
    drive = f"if=none,id={serial},format=raw,readonly=on,cache=unsafe,file={path}"
    return ["-drive", drive, "-device", f"virtio-blk-pci,drive={serial},serial={serial}"]


def block_nodes(disk: Disk, number: int) -> list[dict[str, object]]:
    """Return the block nodes under a disk, the file first; the last one, named disk<number>, is the guest's.

    Flushes end in QEMU (no-flush): the rig cuts power by killing QEMU, which the host's page cache survives. A flush
    that the guest forgot shows in the write log, never in a kill.
    """
    name = f"disk{number}"
    # Only below: a filter that drops flushes would drop them before they are logged.
    unsafe = {"direct": False, "no-flush": True}
    nodes: list[dict[str, object]] = [{"driver": "file", "filename": str(disk.path), "cache": unsafe}]
    if disk.bad_sectors:
        errors = [{"event": "none", "iotype": bad.iotype, "sector": bad.sector, "errno": 5} for bad in disk.bad_sectors]
        nodes.append({"driver": "blkdebug", "image": f"{name}-0", "inject-error": errors})
    if disk.log_writes:
        log = {"driver": "file", "filename": str(disk.log_path), "cache": unsafe}
        writes: dict[str, object] = {"driver": "blklogwrites", "file": f"{name}-{len(nodes) - 1}", "log": log}
        nodes.append(writes | {"log-sector-size": 512})
    nodes.append({"driver": "raw", "file": f"{name}-{len(nodes) - 1}", "read-only": disk.read_only})
    for level, node in enumerate(nodes):
        node |= {"node-name": f"{name}-{level}", "discard": "unmap"}
    nodes[-1]["node-name"] = name
    return nodes


def disk_device(disk: Disk, number: int) -> dict[str, object]:
    """Return the device of a disk; errors of the host go to the guest, never into a stopped machine."""
    device: dict[str, object] = {"driver": "virtio-blk-pci", "drive": f"disk{number}", "id": f"device{number}"}
    return device | {"serial": disk.serial, "werror": "report", "rerror": "report"}


def disk_arguments(disk: Disk, number: int) -> list[str]:
    """Return the arguments for a disk that is there at power-on."""
    argv = []
    for node in block_nodes(disk, number):
        argv += ["-blockdev", json.dumps(node)]
    return [*argv, "-device", json.dumps(disk_device(disk, number))]
