"""What the operator wants, as values: keys, encryption of a volume, policy, and where things are on this machine.

These are what config/ makes out of text and meta/ out of tag 9. They carry no file names or line numbers, compare by
value, and print without secrets (a passphrase is a `Secret`).
"""

from __future__ import annotations

from enum import StrEnum

from luksctl.hints import Final
from luksctl.secret import Secret
from luksctl.units import MIB
from luksctl.value import field, frozen, replace

STATE: Final = "STATE"
EPHEMERAL: Final = "EPHEMERAL"
META: Final = "META"

MAX_SLOT: Final = 31
DEFAULT_CIPHER: Final = "aes-xts-plain64"
# cipher → volume key size in bits, as Talos picks them (go-blockdevice luks.go; talos-formats 2.2)
CIPHER_KEY_BITS: Final = {
    DEFAULT_CIPHER: 512,
    "xchacha12,aes-adiantum-plain64": 256,
    "xchacha20,aes-adiantum-plain64": 256,
}
PERFORMANCE_OPTIONS: Final = ("no_read_workqueue", "no_write_workqueue", "same_cpu_crypt")


class KeyKind(StrEnum):
    """Who makes and recovers a key; the words are Talos' YAML names."""

    STATIC = "static"
    NODE_ID = "nodeID"
    KMS = "kms"
    TPM = "tpm"


@frozen
class StaticKey:
    """A passphrase from the config: its UTF-8 bytes, no newline added."""

    passphrase: Secret
    kind = KeyKind.STATIC


@frozen
class NodeIdKey:
    """A passphrase derived from the SMBIOS UUID of the machine and the volume's name."""

    kind = KeyKind.NODE_ID


@frozen
class KmsKey:
    """A random key sealed by a key management service."""

    endpoint: str
    kind = KeyKind.KMS


@frozen
class TpmKey:
    """A random key sealed in the TPM; `pcrs` None means Talos' default list [7], () means none."""

    pcrs: tuple[int, ...] | None = None
    check_secureboot_on_enroll: bool | None = None
    kind = KeyKind.TPM


KeySource = StaticKey | NodeIdKey | KmsKey | TpmKey


@frozen
class ConfiguredKey:
    """One entry of `keys`: the keyslot number (0-31) and where its key comes from."""

    slot: int
    source: KeySource
    lock_to_state: bool | None = None

    @property
    def kind(self) -> KeyKind:
        """Return the kind of the key's source."""
        return self.source.kind


@frozen
class VolumeEncryption:
    """The `encryption:` block of one volume, LUKS2 always; keys are sorted by slot.

    `cipher` None is Talos' default (aes-xts-plain64); `key_size_bits` and `block_size_bytes` None leave the choice to
    the cipher and the device. `options` are names from PERFORMANCE_OPTIONS.
    """

    keys: tuple[ConfiguredKey, ...]
    cipher: str | None = None
    key_size_bits: int | None = None
    block_size_bytes: int | None = None
    options: tuple[str, ...] | None = None
    allow_discards: bool | None = None


class Filesystem(StrEnum):
    """Filesystems luksctl makes."""

    XFS = "xfs"
    EXT4 = "ext4"


class FormatRequires(StrEnum):
    """How many configured keys must be made and proven before a blank volume is formatted."""

    ANY = "any"
    ALL = "all"


@frozen
class KdfCost:
    """Argon2id cost of one keyslot: iterations, memory in KiB, parallel lanes."""

    time: int
    memory_kib: int
    threads: int


# The library's own lower bounds: for keys with 256 bits of entropy, which need no memory-hard KDF.
CHEAPEST_KDF: Final = KdfCost(time=4, memory_kib=32, threads=1)
# More than 256 MiB only where the policy says so: the machine may be given less memory one day, and must still open.
DEFAULT_KDF: Final = KdfCost(time=4, memory_kib=256 * 1024, threads=2)

# Recovery keys are in no config, but what their slots cost is.
RECOVERY: Final = "recovery"
# How long a KMS that is known by certificates waits for the clock, where the config does not say.
CLOCK_WAIT_S: Final = 120.0
KDF_KINDS: Final = (*(kind.value for kind in KeyKind), RECOVERY)
# Their keys are 256 random bits, so there is nothing to stretch.
RANDOM_KINDS: Final = frozenset({KeyKind.KMS.value, KeyKind.TPM.value, RECOVERY})


class Reseal(StrEnum):
    """What is done about a tpm slot whose PCRs or root key changed."""

    AUTO = "auto"
    ASK = "ask"
    NEVER = "never"


class PatchKeys(StrEnum):
    """What a patch does with the keys of a volume: appends them, as Talos does, or merges them slot by slot."""

    APPEND = "append"
    BY_SLOT = "bySlot"


@frozen
class TpmPolicy:
    """How tpm keys are kept: `literal_pcrs` binds to PCR values alone, where no signed PCR policy is at hand.

    `public_keys` and `signatures` are paths of the signed PCR policy's files; (): wherever systemd looks for them.
    """

    reseal: Reseal = Reseal.AUTO
    literal_pcrs: bool = False
    public_keys: tuple[str, ...] = ()
    signatures: tuple[str, ...] = ()


@frozen
class KmsPolicy:
    """How the KMS is reached, beside the endpoint that a key names.

    `alternatives` are further endpoints of the same KMS, asked beside the one in front of them. Files are named by
    path: `ca_files` and `roots` (PEM texts of the config) are trusted beside the distribution's own. `network` says in
    the operator's words how this node comes to its network. `clock_wait_s` is how long a boot lets the clock be
    synchronised first. `from_meta`: what META keeps counts instead of all this.
    """

    allow_plaintext: bool = False
    alternatives: tuple[tuple[str, tuple[str, ...]], ...] = ()
    ca_files: tuple[str, ...] = ()
    client_certificate: str | None = None
    client_key: str | None = None
    token_file: str | None = None
    network: str | None = None
    clock_wait_s: float = CLOCK_WAIT_S
    roots: tuple[str, ...] = field(default=(), repr=False)
    from_meta: bool = False

    @property
    def has_credential(self) -> bool:
        """Tell whether the node shows the KMS something secret of its own."""
        return self.client_key is not None or self.token_file is not None


@frozen
class EncryptionPolicy:
    """Our own document (apiVersion luksctl/v1alpha1, kind EncryptionPolicy); every field has a default.

    `kdf` is what a slot costs whose key could be guessed (static, nodeID); `kdf_by_kind` has the kinds of KDF_KINDS
    that the document names itself. `unfingerprinted` are the kinds whose keys leave no fingerprint in the header.
    `header_recipient` is the text of a public key, not parsed yet: header backups are kept encrypted to it.
    `in_place` encrypts a plain filesystem that is to be encrypted, and decrypts one that is to be plain, with its data.
    """

    kdf: KdfCost = DEFAULT_KDF
    kdf_by_kind: tuple[tuple[str, KdfCost], ...] = ()
    format_requires: FormatRequires = FormatRequires.ANY
    prune: bool = False
    talos_readable: bool = True
    filesystems: tuple[tuple[str, Filesystem], ...] = ()
    unfingerprinted: tuple[str, ...] = ()
    header_recipient: str | None = None
    tpm: TpmPolicy = TpmPolicy()
    patch_keys: PatchKeys = PatchKeys.APPEND
    kms: KmsPolicy = KmsPolicy()
    in_place: bool = False

    def filesystem(self, volume: str) -> Filesystem:
        """Return the filesystem to make on `volume` (default xfs)."""
        return dict(self.filesystems).get(volume, Filesystem.XFS)

    def kdf_for(self, kind: str) -> KdfCost:
        """Return what a slot of `kind` (a KeyKind, or RECOVERY) costs: the least for random keys, unless it is named.

        A kind that nobody knows may be guessable, so it costs the full price.
        """
        return dict(self.kdf_by_kind).get(kind) or (CHEAPEST_KDF if kind in RANDOM_KINDS else self.kdf)

    def with_kdf_memory_at_most(self, ceiling_kib: int) -> EncryptionPolicy:
        """Return the policy with every KDF's memory capped to `ceiling_kib`, though never below what Argon2id takes."""

        def capped(cost: KdfCost) -> KdfCost:
            return replace(cost, memory_kib=min(cost.memory_kib, max(ceiling_kib, CHEAPEST_KDF.memory_kib)))

        by_kind = tuple((kind, capped(cost)) for kind, cost in self.kdf_by_kind)
        return replace(self, kdf=capped(self.kdf), kdf_by_kind=by_kind)


@frozen
class MachineConfig:
    """The parsed config: what it wants of each volume, and the exact bytes it was parsed from.

    A volume that is absent from `encryption` is wanted plain. `text` is what gets stored; without a patch it is the
    submitted bytes, unchanged. `source` names where the text came from, for messages.
    """

    text: bytes = field(repr=False)
    source: str
    encryption: tuple[tuple[str, VolumeEncryption], ...] = ()
    policy: EncryptionPolicy = EncryptionPolicy()
    warnings: tuple[str, ...] = ()

    def encryption_of(self, volume: str) -> VolumeEncryption | None:
        """Return the encryption wanted for `volume`, or None for a plain volume."""
        return dict(self.encryption).get(volume)


@frozen
class ByLabel:
    """Find the volume by GPT partition name; `disk` narrows the search to one disk (a /dev path)."""

    label: str
    disk: str | None = None


@frozen
class ByDevice:
    """The volume is this block device."""

    path: str


@frozen
class ByImage:
    """The volume is this image file."""

    path: str


Location = ByLabel | ByDevice | ByImage


@frozen
class VolumeSettings:
    """Where one volume is and where it is mounted (None: not mounted by us)."""

    location: Location
    mount_point: str | None = None


@frozen
class Timeouts:
    """All waiting, in seconds; docs/design.md has the table."""

    device_s: float = 90.0
    hook_s: float = 180.0
    lock_s: float = 10.0
    retry_min_s: float = 1.0
    retry_max_s: float = 60.0


@frozen
class Settings:
    """/etc/luksctl/luksctl.yaml: where things are on this machine."""

    volumes: tuple[tuple[str, VolumeSettings], ...] = (
        (META, VolumeSettings(ByLabel(META))),
        (STATE, VolumeSettings(ByLabel(STATE), "/system/state")),
        (EPHEMERAL, VolumeSettings(ByLabel(EPHEMERAL), "/system/ephemeral")),
    )
    timeouts: Timeouts = Timeouts()
    path: str = "/etc/luksctl/luksctl.yaml"

    def volume(self, name: str) -> VolumeSettings:
        """Return the settings of `name`; KeyError for a volume nobody configured."""
        return dict(self.volumes)[name]


META_SIZE_BYTES: Final = 1 * MIB
STATE_SIZE_BYTES: Final = 100 * MIB
