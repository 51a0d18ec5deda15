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
from luksctl.errors import ConfigError, Problem
from luksctl.hints import TYPE_CHECKING, final
from luksctl.meta.store import AdvStore
from luksctl.model.config import (
    ConfiguredKey,
    EncryptionPolicy,
    KeyKind,
    KmsPolicy,
    Settings,
)
from luksctl.model.meta import MetaState
from luksctl.model.ports import KeyProvider, Ports
from luksctl.model.probe import Device, PartitionEntry
from luksctl.model.sealing import Sealing, Vouching
from luksctl.model.step import Done
from luksctl.node.located_meta import LocatedMeta
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
    from luksctl.model.in_place import InPlaceDisks
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
        lambda: _in_place_disks(where),
        where.run_dir,
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


def _in_place_disks(paths: Paths) -> InPlaceDisks:
    from luksctl.devices.in_place import SystemInPlaceDisks  # noqa: PLC0415  # few boots encrypt in place

    return SystemInPlaceDisks(paths.run_dir)


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

    sealed_pcrs = StateSealedPcrs(lambda: state_directory(node), node.paths.sealed_pcrs, node.tell)
    return TpmRun(node.tell, sealed_pcrs=sealed_pcrs)


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
