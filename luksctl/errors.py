"""Every error luksctl raises, one tree, one exit code each (docs/errors.md repeats the numbers; a test compares).

    LuksctlError                 1   anything not named below; a bug if a user ever sees it bare
    ├── UsageError              64   the command line makes no sense
    │   └── RecoveryKeyMistyped      a typed recovery key is not right; says which group
    ├── ConfigError              2   the machine config or settings are wrong; carries every problem found
    ├── Refused                  3   the plan would be unsafe; nothing was touched
    │   ├── NotBlank                 the device holds something nobody allowed us to destroy
    │   ├── AmbiguousDevice          more than one device answers to the volume's label
    │   ├── Forbidden                the role of this ssh key does not allow it
    │   └── AttemptsExhausted        an unfinished operation failed three times
    ├── Locked                   4   the volume exists and no configured key opens it
    ├── Degraded                 5   the node runs, but a volume or key is not as configured
    ├── ProviderUnavailable      6   a key could not be made or recovered for now; retrying may help
    │   ├── TpmUnavailable           the TPM is absent, busy, slow or locked; says which
    │   └── KmsUnavailable           the KMS is not reached, not trusted, or does not answer as it should; says which
    ├── NeedsReboot              7   done as far as possible; the rest happens at the next boot
    ├── NotConverged             8   applied everything, yet the state still differs from the config
    ├── DeviceError              9   a device, partition, filesystem or program failed
    │   ├── DeviceMissing            no such device within its timeout
    │   └── CryptsetupError          libcryptsetup returned an error (carries errno and its own log lines)
    │       ├── SlotPassphraseRejected   -EPERM: no keyslot opened with this passphrase
    │       ├── KdfOutOfBounds           the header asks for a key derivation that would run for minutes or for ever
    │       ├── KdfOutOfMemory       the key derivation needs more memory than there is
    │       └── MissingFunction      this libcryptsetup is too old for the call
    ├── MetaError               10   META is missing, unreadable, full, or its copies contradict each other
    ├── Busy                    11   another process holds the lock or the device
    │   └── ReencryptionRunning      the volume gets a new volume key: its keyslots cannot be changed until that ends
    ├── Maintenance             12   the node has no config; waiting for apply-config --insecure
    ├── SealError               13   a public or private key, or what was sealed with it, cannot be used
    ├── Unreachable             14   another node was not reached, or its luksctl did not answer
    ├── KeyRejected              -   provider seam: "this key is not mine" (try the next key; never reaches main)
    │   ├── TpmRejected          -   the TPM does not give the key out, and says why
    │   └── KmsRejected          -   no KMS will ever give this key to this node, as things are; says why
    └── TokenInvalid             -   provider seam: the slot's token is not usable by this provider

Messages are for the person on call: volume, slot, operation and cause, then `hint`, the next command to type.
They never contain a key, a passphrase or a node UUID.
"""

from __future__ import annotations

from enum import StrEnum

from luksctl.value import frozen


class LuksctlError(Exception):
    """Base of all errors; fields are data for --json, `str()` is for people.

    `cause` is one sentence without a full stop. `hint` is what to do next, usually a command.
    """

    exit_code = 1

    def __init__(
        self,
        cause: str,
        *,
        volume: str | None = None,
        slot: int | None = None,
        operation: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(cause)
        self.cause = cause
        self.volume = volume
        self.slot = slot
        self.operation = operation
        self.hint = hint

    def __str__(self) -> str:
        where = [] if self.volume is None else [self.volume]
        if self.slot is not None:
            where.append(f"slot {self.slot}")
        parts = [", ".join(where)] if where else []
        if self.operation is not None:
            parts.append(self.operation)
        parts.append(self.cause)
        return ": ".join(parts)

    def fields(self) -> dict[str, object]:
        """Return the error as plain values for JSON output."""
        named = ("volume", "slot", "operation", "cause", "hint")
        told = {name: getattr(self, name) for name in named}
        return {"error": type(self).__name__, "exitCode": self.exit_code, **told}


class UsageError(LuksctlError):
    """The command line makes no sense."""

    exit_code = 64


class RecoveryKeyMistyped(UsageError):
    """A typed recovery key is not right; `groups` are the numbers, from 1, of the groups to look at (none: all)."""

    def __init__(self, cause: str, *, groups: tuple[int, ...] = (), hint: str | None = None) -> None:
        super().__init__(cause, operation="read the recovery key", hint=hint)
        self.groups = groups

    def fields(self) -> dict[str, object]:
        """Return the error and the groups as plain values."""
        return {**super().fields(), "groups": list(self.groups)}


@frozen
class Problem:
    """One finding in a config text: where (file, 1-based line, YAML path), what, and how to mend it."""

    path: str
    message: str
    file: str | None = None
    line: int | None = None
    hint: str | None = None

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line) if part is not None)
        text = f"{self.path}: {self.message}" if self.path else self.message
        return f"{place}: {text}" if place else text


class ConfigError(LuksctlError):
    """The machine config or the settings are wrong; `problems` holds all of them, in order of line."""

    exit_code = 2

    def __init__(self, problems: tuple[Problem, ...], *, hint: str | None = None) -> None:
        super().__init__("\n".join(str(problem) for problem in problems), hint=hint)
        self.problems = problems

    def __str__(self) -> str:
        # Each line names its file; a volume in front of the first would only be true of that one.
        return self.cause

    def fields(self) -> dict[str, object]:
        """Return the error and every problem as plain values."""
        listed = [
            {"file": p.file, "line": p.line, "path": p.path, "message": p.message, "hint": p.hint}
            for p in self.problems
        ]
        return {**super().fields(), "problems": listed}


class Refused(LuksctlError):
    """The plan would be unsafe; nothing was touched."""

    exit_code = 3


class NotBlank(Refused):
    """The device holds something nobody allowed us to destroy."""


class AmbiguousDevice(Refused):
    """More than one device answers to the volume's label."""


class Forbidden(Refused):
    """The role of this ssh key does not allow it; nothing was touched."""


class AttemptsExhausted(Refused):
    """An unfinished operation failed three times; an operator has to look."""


class Locked(LuksctlError):
    """The volume exists and no configured key opens it."""

    exit_code = 4


class Degraded(LuksctlError):
    """The node runs, but a volume or a key is not as configured."""

    exit_code = 5


class ProviderUnavailable(LuksctlError):
    """A key could not be made or recovered for now; retrying may help."""

    exit_code = 6


class TpmReason(StrEnum):
    """Why a TPM gave no key; the first five are of TpmUnavailable. The values are what --json shows."""

    NO_DEVICE = "noDevice"
    BUSY = "busy"
    SLOW = "slow"
    LOCKED_OUT = "lockedOut"
    FAILED = "failed"
    NO_LIBRARY = "noLibrary"
    NOT_TPM2 = "notTpm2"
    OWNER_PROTECTED = "ownerProtected"
    BANK_MISSING = "bankMissing"
    NOT_MEASURED = "notMeasured"
    NOT_SECURE_BOOT = "notSecureBoot"
    NO_SIGNED_POLICY = "noSignedPolicy"
    NO_SIGNATURE = "noSignature"
    PHASE_OVER = "phaseOver"
    KEY_UNKNOWN = "signingKeyUnknown"
    PCR_MISMATCH = "pcrMismatch"
    SRK_CHANGED = "srkChanged"
    DAMAGED = "objectDamaged"


@frozen
class PcrChange:
    """One PCR that may keep a key in the TPM: what it holds `now` and what it held when the key was sealed, in hex.

    `was` is None where nobody noted it; then the PCR is one of those that may have changed.
    """

    pcr: int
    now: str
    was: str | None = None

    def __str__(self) -> str:
        return f"PCR {self.pcr} is {self.now}" + ("" if self.was is None else f", and was {self.was}")


class TpmUnavailable(ProviderUnavailable):
    """The TPM is absent, busy, slow or locked; `reason` says which. Nothing is to be sealed anew for it."""

    def __init__(self, cause: str, *, reason: TpmReason = TpmReason.FAILED, hint: str | None = None) -> None:
        super().__init__(cause, hint=hint)
        self.reason = reason

    def fields(self) -> dict[str, object]:
        """Return the error and the reason as plain values."""
        return {**super().fields(), "reason": self.reason.value}


class KmsReason(StrEnum):
    """Why a KMS gave no key; the last four are of KmsRejected. The values are what --json shows."""

    NETWORK_LATER = "networkLater"  # nothing was asked: this stage of the boot has no network
    UNREACHABLE = "unreachable"
    SLOW = "slow"
    NOT_ALLOWED = "notAllowed"
    UNKNOWN_CA = "unknownCA"
    WRONG_NAME = "wrongName"
    EXPIRED = "certificateExpired"
    NOT_YET_VALID = "certificateNotYetValid"
    CLOCK = "clockWrong"
    NO_TLS = "noTLS"
    TLS = "tlsFailed"
    NO_FILE = "fileMissing"
    WRONG_ANSWER = "wrongAnswer"
    FAILED = "failed"
    NO_LIBRARY = "noLibrary"
    NO_UUID = "noNodeUUID"
    PLAINTEXT = "plaintextRefused"
    CANNOT_UNSEAL = "cannotUnseal"


class KmsUnavailable(ProviderUnavailable):
    """The KMS is not reached, not trusted, does not know the node, or gives a wrong answer; `reason` says which."""

    def __init__(self, cause: str, *, reason: KmsReason = KmsReason.FAILED, hint: str | None = None) -> None:
        super().__init__(cause, hint=hint)
        self.reason = reason

    def fields(self) -> dict[str, object]:
        """Return the error and the reason as plain values."""
        return {**super().fields(), "reason": self.reason.value}


class NeedsReboot(LuksctlError):
    """Done as far as possible; the rest happens at the next boot."""

    exit_code = 7


class NotConverged(LuksctlError):
    """Everything was applied, yet the state still differs from the config."""

    exit_code = 8


class DeviceError(LuksctlError):
    """A device, partition, filesystem or program failed."""

    exit_code = 9


class DeviceMissing(DeviceError):
    """No such device within its timeout."""


class CryptsetupError(DeviceError):
    """libcryptsetup returned an error: `errno` is positive, `log` holds what the library logged."""

    def __init__(
        self,
        cause: str,
        *,
        errno: int,
        log: tuple[str, ...] = (),
        volume: str | None = None,
        slot: int | None = None,
        operation: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(cause, volume=volume, slot=slot, operation=operation, hint=hint)
        self.errno = errno
        self.log = log


class SlotPassphraseRejected(CryptsetupError):
    """No keyslot opened with this passphrase (-EPERM)."""


class KdfOutOfBounds(CryptsetupError):
    """The header asks for key derivation costs outside the bounds; it was damaged or forged, and nothing was run."""


class KdfOutOfMemory(CryptsetupError):
    """The key derivation needs more memory than the machine has to give now; nothing was run (errno ENOMEM)."""


class MissingFunction(CryptsetupError):
    """The installed libcryptsetup is too old for the call; the message names the version that brings it."""


class MetaError(LuksctlError):
    """META is missing, unreadable, full, or its copies contradict each other."""

    exit_code = 10


class Busy(LuksctlError):
    """Another process holds the lock or the device."""

    exit_code = 11


class ReencryptionRunning(Busy):
    """The volume gets a new volume key, and nothing else can change its keyslots until that has ended."""


class Maintenance(LuksctlError):
    """The node has no config and waits for its first one."""

    exit_code = 12


class SealError(LuksctlError):
    """A public key, a private key, or what was sealed with them cannot be used."""

    exit_code = 13


class Unreachable(LuksctlError):
    """Another node was not reached, or what answered there was not luksctl."""

    exit_code = 14


class KeyRejected(LuksctlError):
    """Provider seam: the key is not this provider's; try the next one."""


class TpmRejected(KeyRejected):
    """The TPM does not give the key out, or cannot seal one; `reason` says why, `pcrs` which PCRs it is about."""

    def __init__(
        self,
        cause: str,
        *,
        reason: TpmReason = TpmReason.FAILED,
        pcrs: tuple[PcrChange, ...] = (),
        hint: str | None = None,
    ) -> None:
        super().__init__(cause, hint=hint)
        self.reason = reason
        self.pcrs = pcrs

    def fields(self) -> dict[str, object]:
        """Return the error, the reason and the PCRs as plain values."""
        listed = [{"pcr": change.pcr, "was": change.was, "now": change.now} for change in self.pcrs]
        return {**super().fields(), "reason": self.reason.value, "pcrs": listed}


class KmsRejected(KeyRejected):
    """No KMS gives the key to this node as things are, or the node will not ask it; `reason` says why."""

    def __init__(self, cause: str, *, reason: KmsReason = KmsReason.FAILED, hint: str | None = None) -> None:
        super().__init__(cause, hint=hint)
        self.reason = reason


class TokenInvalid(LuksctlError):
    """Provider seam: the slot's token is missing or not usable by this provider."""
