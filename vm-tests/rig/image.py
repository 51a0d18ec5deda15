"""Build the guest: Debian's own packages as a read-only erofs root, Debian's cloud kernel, a busybox initramfs.

The result is kept under .cache/vm/image/<hash of its inputs>. The package sources, proxies and certificates are those
of the host's own apt configuration.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from rig import cpio, host
from rig.cache import built, fingerprint
from rig.errors import BuildFailed, Precondition

GUEST = Path(__file__).parent / "guest"
FORMAT = b"3"  # raise when the steps below change what they make from the same inputs

PACKAGES = (
    "systemd",
    "systemd-sysv",
    "udev",
    "dbus",
    "python3",
    "libcryptsetup12",
    "cryptsetup-bin",
    "e2fsprogs",
    "xfsprogs",
    "dmsetup",
    "gdisk",
    "fdisk",
    "util-linux",
    "kmod",
    "procps",
    "iproute2",
    "libtss2-esys-3.0.2-0",
    "libtss2-fapi1",
    "libtss2-mu0",
    "libtss2-rc0",
    "libtss2-tctildr0",
    "libtss2-tcti-device0",
)
KERNEL = "linux-image-cloud-amd64"
# Loaded by the initramfs: the root's own disks and filesystems, and the agent's port. All else is udev's to load.
INITRD_MODULES = ("virtio_pci", "virtio_blk", "virtio_console", "erofs", "overlay", "ext4")
# Timers of a machine that lives for months, logins but the console's, and mounts and modules that nothing here uses: a
# minute-old guest only waits for them.
MASKED = (
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "getty@tty1.service",
    "modprobe@configfs.service",
    "modprobe@drm.service",
    "modprobe@efi_pstore.service",
    "modprobe@fuse.service",
    "proc-sys-fs-binfmt_misc.automount",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-binfmt.service",
    "systemd-pstore.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "systemd-ask-password-console.path",
    "systemd-ask-password-wall.path",
    "systemd-initctl.socket",
    "systemd-journal-flush.service",
    "systemd-logind.service",
    "systemd-random-seed.service",
    "systemd-tmpfiles-clean.timer",
    "systemd-user-sessions.service",
    "systemd-update-utmp.service",
    "systemd-update-utmp-runlevel.service",
)
# What only looks for what this guest has not: other ways to describe mounts, and devices for people.
MASKED_GENERATORS = (
    "systemd-debug-generator",
    "systemd-gpt-auto-generator",
    "systemd-hibernate-resume-generator",
    "systemd-integritysetup-generator",
    "systemd-rc-local-generator",
    "systemd-run-generator",
    "systemd-system-update-generator",
    "systemd-sysv-generator",
    "systemd-veritysetup-generator",
)
MASKED_RULES = (
    "60-autosuspend.rules",
    "60-cdrom_id.rules",
    "60-drm.rules",
    "60-evdev.rules",
    "60-fido-id.rules",
    "60-infiniband.rules",
    "60-input-id.rules",
    "60-persistent-alsa.rules",
    "60-persistent-input.rules",
    "60-persistent-storage-tape.rules",
    "60-persistent-v4l.rules",
    "60-sensor.rules",
    "64-btrfs.rules",
    "70-camera.rules",
    "70-joystick.rules",
    "70-memory.rules",
    "70-mouse.rules",
    "70-power-switch.rules",
    "70-touchpad.rules",
    "70-uaccess.rules",
    "71-seat.rules",
    "73-seat-late.rules",
    "75-probe_mtd.rules",
    "78-sound-card.rules",
    "85-hwclock.rules",
    "96-e2scrub.rules",
)
MASKED_IN = (
    ("etc/systemd/system", MASKED),
    ("etc/systemd/system-generators", MASKED_GENERATORS),
    ("etc/udev/rules.d", MASKED_RULES),
)
LEFT_OUT = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
    "var/lib/apt",
    "var/cache/apt",
    "var/log/journal",
)
MACHINE_ID = "6c756b7363746c2d7269672d67756573"


@dataclass(frozen=True, slots=True)
class Image:
    """Hold the files one guest starts from, and the hash that names them."""

    directory: Path
    key: str

    @property
    def kernel(self) -> Path:
        """Return the kernel's path."""
        return self.directory / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """Return the initramfs' path; archives may be appended to its content."""
        return self.directory / "initrd"

    @property
    def root(self) -> Path:
        """Return the erofs root's path."""
        return self.directory / "root.erofs"


def image() -> Image:
    """Return the guest image, building it first (about a minute and a half) when its inputs changed.

    Raises Precondition when it must be built and cannot be here, BuildFailed when a step fails.
    """
    key = image_key()

    def build(work: Path) -> None:
        host.check_can_build()
        with host.progress("building the guest image (once; kept in .cache/vm)"):
            _build(work)

    return Image(built("image", key, build), key)


def image_key() -> str:
    """Return the hash of all that the guest image is made from."""
    return fingerprint(_inputs())


def _inputs() -> list[bytes]:
    guest_files = [GUEST / "init", GUEST / "agent.py", GUEST / "rig-agent.service"]
    masked = [f"{place}/{name}" for place, names in MASKED_IN for name in names]
    names = (*PACKAGES, KERNEL, "/", *INITRD_MODULES, "/", *masked, "/", *LEFT_OUT, MACHINE_ID, _codename())
    return [FORMAT, *(name.encode() for name in names), *(file.read_bytes() for file in guest_files)]


def _codename() -> str:
    match = re.search(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(), re.MULTILINE)
    if match is None:
        raise Precondition("/etc/os-release names no Debian release to build the guest from")
    return match[1]


def _build(work: Path) -> None:
    root = work / "root"
    with host.progress("guest: Debian packages"):
        _install_packages(root)
    with host.progress("guest: kernel, units and agent"):
        version = _unpack_kernel(root, work)
        _place_files(root)
    _write_initrd(root, version, work / "initrd")
    with host.progress("guest: root image"):
        _write_root_image(root, work / "root.erofs")
    shutil.rmtree(root)


def apt_sources(directory: Path, codename: str) -> list[Path]:
    """Return the files below an apt configuration directory that name the release's own suites, and only those."""
    wanted = {codename, f"{codename}-updates", f"{codename}-security", f"{codename}/updates"}
    candidates = [directory / "sources.list", *sorted((directory / "sources.list.d").glob("*"))]
    found = []
    for file in candidates:
        if file.suffix not in {".list", ".sources"} or not file.is_file():
            continue
        text = file.read_text()
        suites = set(re.findall(r"^deb\s+(?:\[[^]]*\]\s+)?\S+\s+(\S+)", text, re.MULTILINE))
        suites |= {suite for line in re.findall(r"^Suites:(.*)", text, re.MULTILINE) for suite in line.split()}
        if suites and suites <= wanted:
            found.append(file)
    return found


def _install_packages(root: Path) -> None:
    codename = _codename()
    sources = apt_sources(Path("/etc/apt"), codename)
    # Fetched with mmdebstrap's own apt, so that the host's package lists need not be fresh; unpacked by us, because
    # installing a kernel package would bring a second initramfs builder along.
    fetch_kernel = (
        'mkdir "$1/kernel" && cd "$1/kernel" && APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" && export APT_CONFIG && '
        f"name=$(apt-cache depends --important {KERNEL} | sed -n 's/^ *Depends: *\\(linux-image-[0-9].*\\)$/\\1/p') && "
        'apt-get -qq download "$name"'
    )
    command = ["mmdebstrap", "--quiet", "--variant=minbase", "--mode=root", "--format=directory"]
    command += [f"--include={','.join(PACKAGES)}", f"--customize-hook={fetch_kernel}"]
    command += [f"--dpkgopt=path-exclude=/{path}/*" for path in LEFT_OUT if path.startswith("usr/share")]
    host.run([*command, codename, str(root), *(str(file) for file in sources)])


def _unpack_kernel(root: Path, work: Path) -> str:
    """Move the kernel to the work directory and its modules into the root; return its version."""
    packages = list((root / "kernel").glob("linux-image-*.deb"))
    if len(packages) != 1:
        raise BuildFailed(f"expected one kernel package, found {[package.name for package in packages]}")
    unpacked = work / "kernel"
    host.run(["dpkg-deb", "--extract", str(packages[0]), str(unpacked)])
    (modules,) = (unpacked / "lib" / "modules").iterdir()
    target = root / "usr" / "lib" / "modules" / modules.name
    target.parent.mkdir(exist_ok=True)
    shutil.move(modules, target)
    shutil.move(unpacked / "boot" / f"vmlinuz-{modules.name}", work / "vmlinuz")
    host.run(["depmod", "--basedir", str(root), modules.name])
    shutil.rmtree(unpacked)
    shutil.rmtree(root / "kernel")
    return modules.name


def _place_files(root: Path) -> None:
    system = root / "etc" / "systemd" / "system"
    rig = root / "usr" / "lib" / "rig"
    rig.mkdir()
    shutil.copy(GUEST / "agent.py", rig / "agent.py")
    shutil.copy(GUEST / "rig-agent.service", system / "rig-agent.service")
    wants = system / "sysinit.target.wants"
    wants.mkdir(exist_ok=True)
    (wants / "rig-agent.service").symlink_to("../rig-agent.service")
    for place, names in MASKED_IN:
        (root / place).mkdir(exist_ok=True)
        for name in names:
            (root / place / name).unlink(missing_ok=True)
            (root / place / name).symlink_to("/dev/null")
    (root / "etc" / "machine-id").write_text(f"{MACHINE_ID}\n")
    (root / "etc" / "hostname").write_text("guest\n")
    (root / "etc" / "fstab").write_text("")
    (root / "etc" / "resolv.conf").write_text("")
    (root / "etc" / "shadow").write_text((root / "etc" / "shadow").read_text().replace("root:*:", "root::"))
    for name in LEFT_OUT:
        shutil.rmtree(root / name, ignore_errors=True)
    for name in ("etc", "var"):  # newer than /usr, so that no boot runs the first-boot updaters
        (root / name / ".updated").write_text("")


def _write_initrd(root: Path, version: str, path: Path) -> None:
    modules = root / "usr" / "lib" / "modules" / version
    order = load_order((modules / "modules.dep").read_text(), INITRD_MODULES)
    entries: dict[str, cpio.GuestFile | cpio.Link] = {
        "init": cpio.GuestFile((GUEST / "init").read_bytes(), 0o755),
        "bin/busybox": cpio.GuestFile(Path(host.program("busybox")).read_bytes(), 0o755),
        "modules/order": cpio.GuestFile("".join(f"{Path(file).name}\n" for file in order).encode()),
    }
    for file in order:
        entries[f"modules/{Path(file).name}"] = cpio.GuestFile((modules / file).read_bytes())
    path.write_bytes(cpio.archive(entries))


def load_order(modules_dep: str, wanted: tuple[str, ...]) -> list[str]:
    """Return the module files to load, dependencies first, from the text of modules.dep."""
    needs = {file: rest.split() for file, _, rest in (line.partition(":") for line in modules_dep.splitlines())}
    by_name = {re.sub(r"\.ko.*$", "", Path(file).name).replace("-", "_"): file for file in needs}
    order: list[str] = []

    def visit(file: str) -> None:
        for dependency in needs[file]:
            visit(dependency)
        if file not in order:
            order.append(file)

    for name in wanted:
        if name in by_name:  # else it is built into the kernel
            visit(by_name[name])
    return order


def _write_root_image(root: Path, path: Path) -> None:
    # Uncompressed: the guest's processor is emulated, and unpacking would cost it more than reading does.
    for directory in ("proc", "sys", "dev", "run", "tmp"):
        shutil.rmtree(root / directory, ignore_errors=True)
        (root / directory).mkdir(mode=0o1777 if directory == "tmp" else 0o755)
        (root / directory).chmod(0o1777 if directory == "tmp" else 0o755)
    # Times are kept: Python takes a compiled module only if its source has the time noted in it.
    host.run(["mkfs.erofs", "--preserve-mtime", "-Eforce-inode-extended", str(path), str(root)])
