"""What META holds for us: tag 9 (STATE's encryption), tag 15 (UUID override), and our own tags: node record, KMS."""

from __future__ import annotations

from enum import StrEnum

from luksctl.hints import Final
from luksctl.model.config import CLOCK_WAIT_S, STATE, VolumeEncryption
from luksctl.model.intent import Intent, ReencryptIntent, ResetIntent
from luksctl.secret import Secret
from luksctl.value import field, frozen, replace

TAG_STATE_ENCRYPTION: Final = 9
TAG_UUID_OVERRIDE: Final = 15
# Ours: one JSON record, so that everything we keep changes in one META write. Talos carries unknown tags along.
TAG_LUKSCTL: Final = 0xE0
# Ours as well: what it takes to reach the KMS of STATE before STATE is open.
TAG_KMS_ACCESS: Final = 0xE1


class MetaState(StrEnum):
    """How META was found."""

    ABSENT = "absent"  # the settings name no META, or nothing answers to it
    BLANK = "blank"  # all zeros: never written
    OK = "ok"  # both copies valid and equal
    FIRST_ONLY = "first copy only"  # copy B is torn or damaged; A serves, B will be rewritten
    SECOND_ONLY = "second copy only"  # copy A is torn or damaged; B serves, A will be rewritten
    DIFFER = "copies differ"  # both valid; A serves, B will be rewritten from A
    UNREADABLE = "unreadable"  # neither copy is valid, and it is not blank


@frozen
class MachineCheck:
    """Two bytes of HMAC-SHA256(salt, node UUID): tells another machine from a wrong key, gives 16 bits away."""

    salt: str
    mac: str


@frozen
class Trial:
    """A config is on trial: keys of it were added, nothing of it is stored. In another boot than `boot_id` it is over.

    `deadline_s` is when it is taken back, on the clock that all processes of that boot share; `stored_digest` is the
    SHA-256 of the config in STATE that comes back, in hexadecimal.
    """

    boot_id: str
    deadline_s: float
    stored_digest: str


@frozen
class NodeRecord:
    """Our tag. `partitions` are GPT UUIDs recorded when a volume was first finished; another one is refused.

    `encrypted` names volumes that were once finished encrypted: a plain filesystem there is never mounted.
    """

    intents: tuple[Intent, ...] = ()
    partitions: tuple[tuple[str, str], ...] = ()
    encrypted: tuple[str, ...] = ()
    machine_check: MachineCheck | None = None
    trial: Trial | None = None

    def intent(self, volume: str) -> Intent | None:
        """Return the announced work on `volume`, or None."""
        return next((intent for intent in self.intents if intent.volume == volume), None)

    @property
    def resets(self) -> tuple[ResetIntent, ...]:
        """Return the announced resets."""
        return tuple(intent for intent in self.intents if isinstance(intent, ResetIntent))

    @property
    def reencryptions(self) -> tuple[ReencryptIntent, ...]:
        """Return the announced re-encryptions."""
        return tuple(intent for intent in self.intents if isinstance(intent, ReencryptIntent))

    def partition(self, volume: str) -> str | None:
        """Return the recorded GPT UUID of `volume`, or None."""
        return dict(self.partitions).get(volume)

    def with_intent(self, intent: Intent) -> NodeRecord:
        """Return the record with `intent` in place of any other for its volume."""
        others = tuple(other for other in self.intents if other.volume != intent.volume)
        return replace(self, intents=(*others, intent))

    def without_intent(self, volume: str) -> NodeRecord:
        """Return the record without the intent of `volume`."""
        return replace(self, intents=tuple(intent for intent in self.intents if intent.volume != volume))

    def with_trial(self, trial: Trial | None) -> NodeRecord:
        """Return the record with this trial, or without any."""
        return replace(self, trial=trial)

    def with_erased(self, volume: str) -> NodeRecord:
        """Return the record after `volume` was erased: neither announced nor expected to be encrypted.

        Its partition stays its partition. Without STATE there is no identity left to check the machine for, and no
        config on trial.
        """
        return replace(
            self.without_intent(volume),
            encrypted=tuple(name for name in self.encrypted if name != volume),
            machine_check=None if volume == STATE else self.machine_check,
            trial=None if volume == STATE else self.trial,
        )

    def with_machine_check(self, check: MachineCheck) -> NodeRecord:
        """Return the record that knows this machine by `check`."""
        return replace(self, machine_check=check)

    def with_partitions(self, partitions: tuple[tuple[str, str], ...]) -> NodeRecord:
        """Return the record after a disk was laid out: its GPT UUIDs, and nothing of what was there before."""
        replaced = {volume for volume, _ in partitions}
        others = tuple(entry for entry in self.partitions if entry[0] not in replaced)
        return replace(
            self,
            intents=tuple(intent for intent in self.intents if intent.volume not in replaced),
            partitions=(*others, *partitions),
            encrypted=tuple(name for name in self.encrypted if name not in replaced),
        )

    def with_finished(self, volume: str, partition: str, *, encrypted: bool) -> NodeRecord:
        """Return the record after the first format of `volume` ended: no intent, partition and encryption noted."""
        others = tuple(entry for entry in self.partitions if entry[0] != volume)
        names = tuple(name for name in self.encrypted if name != volume)
        return replace(
            self.without_intent(volume),
            partitions=(*others, (volume, partition)) if partition else others,
            encrypted=(*names, volume) if encrypted else names,
        )


@frozen
class KmsAccess:
    """`alternatives` are further endpoints of the same KMS. `roots` and `certificate` are PEM texts.

    `private_key` (PEM) and `token` are what the node shows; `note` is how it comes to its network, in words.
    `clock_wait_s` is how long a boot lets the clock be synchronised before it asks.
    """

    alternatives: tuple[tuple[str, tuple[str, ...]], ...] = ()
    roots: tuple[str, ...] = field(default=(), repr=False)
    certificate: str | None = field(default=None, repr=False)
    private_key: Secret | None = None
    token: Secret | None = None
    allow_plaintext: bool = False
    note: str | None = None
    clock_wait_s: float = CLOCK_WAIT_S

    @property
    def has_credential(self) -> bool:
        """Tell whether something secret is shown."""
        return self.private_key is not None or self.token is not None

    def endpoints(self, endpoint: str) -> tuple[str, ...]:
        """Return `endpoint` and those that serve as well."""
        return (endpoint, *dict(self.alternatives).get(endpoint, ()))


@frozen
class SealedCredential:
    """A private key and a token, in `box`, encrypted under a key that is sealed in the TPM by the other three."""

    private: bytes = field(repr=False)
    public: bytes = field(repr=False)
    srk_name: bytes = field(repr=False)
    box: bytes = field(repr=False)


@frozen
class KeptAccess:
    """What META keeps for the time before STATE is open. `sealed` has the credential of `access` where a TPM is."""

    access: KmsAccess
    sealed: SealedCredential | None = None

    @property
    def in_clear(self) -> bool:
        """Tell whether the disk carries the credential for everybody to read."""
        return self.access.has_credential


@frozen
class MetaFacts:
    """META as read. `state_encryption` is None both for `null` and for no tag 9; `has_tag9` tells.

    `problem` says what is wrong when `state` is not ok, or why tag 9 could not be parsed (then `tag9_problem`).
    """

    state: MetaState
    state_encryption: VolumeEncryption | None = None
    has_tag9: bool = False
    tag9_problem: str | None = None
    uuid_override: str | None = field(default=None, repr=False)  # half of every nodeID passphrase
    record: NodeRecord = NodeRecord()
    problem: str | None = None
    kms_access: KeptAccess | None = None
    kms_access_problem: str | None = None

    @property
    def readable(self) -> bool:
        """Tell whether what META says can be relied on."""
        return self.state is not MetaState.UNREADABLE
