"""The only place where real adapters are chosen and joined to the ports."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache, partial

from luksctl.cryptsetup import blkid
from luksctl.cryptsetup.headers import LuksHeaders
from luksctl.cryptsetup.kdf import KdfBounds
from luksctl.cryptsetup.ondisk import read_copies
from luksctl.devices import medium
from luksctl.devices.disks import SystemDisks
from luksctl.devices.find import Finder
from luksctl.devices.system import RunningSystem
from luksctl.devices.tree import BlockTree
from luksctl.errors import AmbiguousDevice, ConfigError, MetaError, Problem
from luksctl.hints import TYPE_CHECKING, final
from luksctl.meta.store import AdvStore
from luksctl.model.config import (
    META,
    ByImage,
    ConfiguredKey,
    EncryptionPolicy,
    KeyKind,
    KmsPolicy,
    Settings,
    VolumeEncryption,
)
from luksctl.model.meta import MetaFacts, MetaState, NodeRecord
from luksctl.model.observed import Ambiguous, Missing
from luksctl.model.ports import KeyProvider, Ports
from luksctl.model.probe import Device, PartitionEntry
from luksctl.model.sealing import Sealing, Vouching
from luksctl.model.step import Done
from luksctl.node.node import Node, Paths
from luksctl.providers.registry import Registry
from luksctl.providers.static import StaticProvider
from luksctl.value import replace

if TYPE_CHECKING:
    from luksctl.cryptsetup.kdf_memory import KdfMemory
    from luksctl.devices.partition import Installer
    from luksctl.devices.reset_host import ResetHost
    from luksctl.devices.unit_host import UnitHost
    from luksctl.devices.wipe_host import WipeHost
    from luksctl.model.meta import KeptAccess
    from luksctl.node.finding import Surroundings
    from luksctl.node.salt import StateSalt
    from luksctl.providers.kms_run import KmsRun
    from luksctl.providers.node_id import NodeIdProvider
    from luksctl.providers.tpm_run import TpmRun

DEFAULT_SETTINGS = Settings()


def read_settings(path: str | None = None) -> Settings:
    """Return the settings of this machine: the defaults where the default file is not there.

    ConfigError where the file is wrong, or where a file that was named is not there.
    """
    name = path or DEFAULT_SETTINGS.path
    try:
        with open(name, "rb") as source:
            text = source.read()
    except FileNotFoundError as error:
        if path is None:
            return DEFAULT_SETTINGS
        raise ConfigError((Problem("", "there is no such settings file", file=path),)) from error
    except OSError as error:
        problem = Problem("", f"the settings cannot be read: {error.strerror}", file=name)
        raise ConfigError((problem,)) from error
    # Not at the top: most nodes have no such file, and the start of a boot is timed.
    from luksctl.config.settings import parse_settings  # noqa: PLC0415

    return parse_settings(text, name)


class LocatedMeta:
    """The MetaStore port over wherever META is now; the device is looked for at every call and never remembered."""

    def __init__(self, settings: Settings, disks: SystemDisks, lock_dir: str) -> None:
        self._settings = settings
        self._disks = disks
        self._lock_dir = lock_dir
        self._latest: MetaFacts | None = None

    def load(self) -> MetaFacts:
        """Read META; ABSENT where nothing answers to it.

        UNREADABLE where more than one thing does, or none of it can be read: it may announce anything.
        """
        self._latest = facts = self._load()
        return facts

    def latest(self) -> MetaFacts:
        """Return what the last `load` said: what the running attempt goes by, without reading META for each key."""
        return self._latest or self.load()

    def _load(self) -> MetaFacts:
        found = self._find()
        match found:
            case Missing(sought):
                return MetaFacts(MetaState.ABSENT, problem=f"no device found ({sought})")
            case Ambiguous(candidates, reason):
                return MetaFacts(MetaState.UNREADABLE, problem=f"{reason}: {', '.join(candidates)}")
            case Device():
                try:
                    return self._store(found).load()
                except MetaError as error:
                    return MetaFacts(MetaState.UNREADABLE, problem=error.cause)

    def repair(self) -> None:
        """Rewrite the bad or older copy from the valid one."""
        self.store().repair()

    def update_record(self, change: Callable[[NodeRecord], NodeRecord]) -> None:
        """Read our record, change it, write it."""
        self.store().update_record(change)

    def write_state_encryption(self, encryption: VolumeEncryption | None) -> None:
        """Write tag 9, or delete it."""
        self.store().write_state_encryption(encryption)

    def start_over(self, record: NodeRecord) -> None:
        """Let META say nothing but `record`."""
        self.store().start_over(record)

    def write_kms_access(self, kept: KeptAccess | None) -> None:
        """Write tag 0xE1, or delete it."""
        self.store().write_kms_access(kept)

    def store(self) -> AdvStore:
        """Return the store of the META that is there now; MetaError or AmbiguousDevice where there is not one."""
        location = self._settings.volume(META).location
        found = self._find()
        match found:
            case Missing() if isinstance(location, ByImage):
                return AdvStore(location.path, f"{location.path}.lock", create=True)
            case Missing(sought):
                raise MetaError(f"META is not there ({sought})", volume=META, hint="luksctl install DISK")
            case Ambiguous(candidates, reason):
                raise AmbiguousDevice(f"{reason}: {', '.join(candidates)}", volume=META)
            case Device():
                return self._store(found)

    def _find(self) -> Device | Missing | Ambiguous:
        return self._disks.find(META, self._settings.volume(META), timeout_s=0)

    def _store(self, device: Device) -> AdvStore:
        timeout_s = self._settings.timeouts.lock_s
        if device.image:
            return AdvStore(device.path, f"{device.path}.lock", lock_timeout_s=timeout_s)
        disk = device.disk or device.path
        if not self._disks.holds_lock_of(disk):
            return AdvStore(device.path, disk, lock_timeout_s=timeout_s)
        # While this process formats, it holds the disk's flock, which keeps every other writer of META out as well;
        # asking for it once more would wait for ourselves.
        lock_path = os.path.join(self._lock_dir, "META.lock")
        os.close(os.open(lock_path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        return AdvStore(device.path, lock_path, lock_timeout_s=timeout_s)


@final
class Providers:
    """Who serves a key by a policy; what a provider needs is loaded, read and opened when its first key comes.

    META is asked for the UUID override only by nodeID keys, the config that rules only by kinds that have a policy.
    """

    def __init__(
        self,
        node_id: Callable[[], NodeIdProvider],
        salts: Callable[[], StateSalt],
        tpm: Callable[[], TpmRun],
        kms: Callable[[KmsPolicy], KeyProvider],
        policy: Callable[[], EncryptionPolicy],
    ) -> None:
        self._node_id = node_id
        self._salts = salts
        self._tpm = tpm
        self._kms = kms
        self._policy = policy

    def provider(self, key: ConfiguredKey) -> KeyProvider:
        """Return who makes and recovers `key`."""
        providers: dict[KeyKind, KeyProvider] = {KeyKind.STATIC: StaticProvider()}
        if key.kind is KeyKind.NODE_ID:
            providers[KeyKind.NODE_ID] = self._node_id()
        elif key.kind is KeyKind.TPM:
            providers[KeyKind.TPM] = self._tpm().provider(self._policy().tpm)
        elif key.kind is KeyKind.KMS:
            providers[KeyKind.KMS] = self._kms(self._policy().kms)
        return Registry(providers, self._salts)(key)

    def vouching(self, key: ConfiguredKey, token: str | None) -> Vouching:
        """Say of a tpm key what its provider would bind another one to; nothing is known of other kinds."""
        return self._tpm().vouching(self._policy().tpm, key, token) if key.kind is KeyKind.TPM else Vouching()

    def deviation(self, key: ConfiguredKey, token: str | None) -> str | None:
        """Say how the token of a tpm key is not bound as the config says; the other kinds have nothing to choose."""
        return self._tpm().deviation(self._policy().tpm, key, token) if key.kind is KeyKind.TPM else None

    def by_policy(self, ports: Ports, policy: EncryptionPolicy) -> Ports:
        """Return `ports` with keys by `policy` instead; the TPM is one and the same, and so are connections to a KMS.

        Whoever was put in the place of these providers stays there.
        """
        other = Providers(self._node_id, self._salts, self._tpm, self._kms, lambda: policy)
        return replace(
            ports,
            provider=other.provider if ports.provider == self.provider else ports.provider,
            vouching=other.vouching if ports.vouching == self.vouching else ports.vouching,
            deviation=other.deviation if ports.deviation == self.deviation else ports.deviation,
            by_policy=other.by_policy,
        )


def _silent(text: str) -> None:
    """Say nothing: for those who show no progress."""
    del text


def build_node(
    settings: Settings,
    announce: Callable[[Done], None],
    paths: Paths | None = None,
    tell: Callable[[str], None] = _silent,
    *,
    network: bool = True,
) -> Node:
    """Join everything a flow needs on this machine; without `network` no KMS is asked, and what misses one is noted."""
    where = paths or machine_paths()
    os.makedirs(where.run_dir, mode=0o755, exist_ok=True)
    tree = BlockTree()
    disks = _disks(settings, tree, where, tell)
    meta = LocatedMeta(settings, disks, where.run_dir)
    node_id = partial(_node_id_provider, meta)
    system = RunningSystem(tree)
    bounds = KdfBounds(memory=partial(_kdf_memory, system, where))
    node: Node
    # The salt of keys that are locked to STATE is read when one is asked for, and by then there is a node.
    tpm, kms, missed = cache(lambda: _tpm_run(node)), cache(lambda: _kms_run(node, meta)), set[str]()
    providers = Providers(
        node_id,
        lambda: _state_salt(node),
        tpm,
        (lambda policy: kms().provider(policy)) if network else (lambda _: _kms_later(missed)),
        lambda: _ruling_policy(node),
    )
    headers = LuksHeaders(medium.read, bounds, lambda device: _keep_header(node, device))
    ports = Ports(
        disks,
        headers,
        meta,
        providers.provider,
        providers.vouching,
        providers.deviation,
        lambda volume, sealing: _remember(node, volume, sealing),
        providers.by_policy,
    )
    note_machine = partial(_note_machine, meta, node_id)
    node = Node(settings, ports, system, where, announce, note_machine, tell, lambda: bool(missed))
    return node


def machine_paths() -> Paths:
    """Return the paths of this machine, with the credentials directory that systemd gave this service first."""
    given = os.environ.get("CREDENTIALS_DIRECTORY")
    defaults = Paths()
    return defaults if given is None else Paths(credential_dirs=(given, *defaults.credential_dirs))


def meta_store(settings: Settings) -> AdvStore:
    """Return META's store for the tag commands; errors as LocatedMeta.store."""
    return LocatedMeta(settings, _disks(settings, BlockTree(), Paths()), Paths().run_dir).store()


def installer(settings: Settings, progress: Callable[[str], None] = lambda _: None) -> Installer:
    """Return what partitions disks."""
    from luksctl.devices.partition import Installer  # noqa: PLC0415  # no boot partitions a disk; its start is timed

    return Installer(BlockTree(), blkid.signature, gpt_entries, settings.timeouts.lock_s, progress)


def unit_host() -> UnitHost:
    """Return what enable and disable need of the running machine."""
    from luksctl.devices.unit_host import UnitHost  # noqa: PLC0415  # as installer

    return UnitHost(BlockTree())


def reset_host() -> ResetHost:
    """Return what a reset asks of the running machine."""
    from luksctl.devices.reset_host import ResetHost  # noqa: PLC0415  # as installer

    return ResetHost()


def wipe_host() -> WipeHost:
    """Return what wiping a disk asks of the machine."""
    from luksctl.devices.wipe_host import WipeHost  # noqa: PLC0415  # as installer

    return WipeHost(BlockTree(), gpt_entries, read_copies)


def surroundings() -> Surroundings:
    """Return what doctor asks of the running machine."""
    import time  # noqa: PLC0415  # as installer, and so are all of these

    from luksctl.cryptsetup.library import problem  # noqa: PLC0415
    from luksctl.devices.mkfs import mkfs_problem  # noqa: PLC0415
    from luksctl.devices.tables import read_crypttab, read_fstab  # noqa: PLC0415
    from luksctl.devices.unit_states import unit_states  # noqa: PLC0415
    from luksctl.node.finding import Surroundings  # noqa: PLC0415

    return Surroundings(lambda: (*read_fstab(), *read_crypttab()), unit_states, mkfs_problem, problem, time.time)


def gpt_entries(path: str) -> tuple[PartitionEntry, ...]:
    """Return the GPT entries of a disk or image, () without a GPT."""
    table = blkid.partition_table(path)
    return table.entries if table is not None and table.type == "gpt" else ()


def _disks(settings: Settings, tree: BlockTree, paths: Paths, tell: Callable[[str], None] = _silent) -> SystemDisks:
    return SystemDisks(
        settings,
        tree,
        Finder(tree, gpt_entries),
        read_copies=read_copies,
        probe=blkid.signature,
        run_dir=paths.run_dir,
        tell=tell,
    )


def _node_id_provider(meta: LocatedMeta) -> NodeIdProvider:
    # Not at the top: a node without nodeID keys does without them, and the start of a boot is timed.
    from luksctl.providers.node_id import NodeIdProvider  # noqa: PLC0415
    from luksctl.providers.smbios import SmbiosUuid  # noqa: PLC0415

    facts = meta.latest()
    return NodeIdProvider(SmbiosUuid(), override=facts.uuid_override, machine_check=facts.record.machine_check)


def _kdf_memory(system: RunningSystem, paths: Paths) -> KdfMemory:
    from luksctl.cryptsetup.kdf_memory import KdfMemory  # noqa: PLC0415  # random keys derive next to nothing

    return KdfMemory(system.available_memory_kib, os.path.join(paths.run_dir, "kdf-memory.lock"))


def _keep_header(node: Node, device: Device) -> None:
    from luksctl.node.header_backup import keep_before_removal  # noqa: PLC0415  # few boots remove a keyslot

    keep_before_removal(node, device)


def _state_salt(node: Node) -> StateSalt:
    from luksctl.node.salt import StateSalt  # noqa: PLC0415  # as a node without nodeID keys
    from luksctl.node.sources import state_directory  # noqa: PLC0415  # as above

    return StateSalt(lambda: state_directory(node), node.tell)


def _ruling_policy(node: Node) -> EncryptionPolicy:
    from luksctl.node.config_view import config_view  # noqa: PLC0415  # whoever has a config at hand goes by that

    ruling = config_view(node).ruling
    return EncryptionPolicy(kms=KmsPolicy(from_meta=True)) if ruling is None else ruling.policy


def _remember(node: Node, volume: str, sealing: tuple[Sealing, ...]) -> None:
    from luksctl.node.resealing import remember  # noqa: PLC0415  # few boots replace a lost key

    remember(node, volume, sealing)


def _tpm_run(node: Node) -> TpmRun:
    from luksctl.node.sealed_pcrs import StateSealedPcrs  # noqa: PLC0415  # as a node without nodeID keys
    from luksctl.node.sources import state_directory  # noqa: PLC0415  # as above
    from luksctl.providers.tpm_run import TpmRun  # noqa: PLC0415  # as above

    return TpmRun(node.tell, sealed_pcrs=StateSealedPcrs(lambda: state_directory(node), node.tell))


def _kms_run(node: Node, meta: LocatedMeta) -> KmsRun:
    from luksctl.node.kms_reach import kms_run  # noqa: PLC0415  # as a node without nodeID keys

    return kms_run(node, meta.latest)


def _kms_later(missed: set[str]) -> KeyProvider:
    from luksctl.providers.kms_later import KmsLater  # noqa: PLC0415  # as above

    return KmsLater(missed.add)


def _note_machine(meta: LocatedMeta, node_id: Callable[[], NodeIdProvider]) -> None:
    """Record the check of this machine in META, unless one is there or META takes no writes."""
    facts = meta.load()
    if facts.record.machine_check is not None or facts.state in (MetaState.ABSENT, MetaState.UNREADABLE):
        return
    check = node_id().new_machine_check()
    if check is not None:
        meta.update_record(lambda record: record.with_machine_check(check))
