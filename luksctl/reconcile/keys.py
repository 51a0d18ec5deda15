"""Find the key that opens a volume: ask the providers, try cheap slots first, and say for every key why it did not."""

from __future__ import annotations

from collections.abc import Callable

from luksctl.errors import (
    DeviceError,
    KeyRejected,
    KmsReason,
    KmsUnavailable,
    Locked,
    LuksctlError,
    ProviderUnavailable,
    SlotPassphraseRejected,
    TpmReason,
    TpmRejected,
)
from luksctl.hints import TypeVar
from luksctl.model.config import ConfiguredKey
from luksctl.model.header import Keyslot, LuksHeader
from luksctl.model.ports import KeyProvider, MadeKey
from luksctl.secret import Secret

Result = TypeVar("Result")


class Failures:
    """Why each configured key did not serve, slot by slot."""

    def __init__(self, volume: str) -> None:
        self.volume = volume
        self.errors: list[LuksctlError] = []

    def add(self, key: ConfiguredKey, error: LuksctlError) -> None:
        """Note `error` for the slot of `key`."""
        error.volume, error.slot = self.volume, key.slot
        if error.operation is None:
            error.operation = f"{key.kind} key"
        self.errors.append(error)

    def wait_for_boot(self, slot: int) -> bool:
        """Tell whether the key of `slot` could not be made only because this boot is past making it."""
        return any(error.slot == slot and _comes_too_late(error) for error in self.errors)

    def combined(self, purpose: str, otherwise: type[LuksctlError] = Locked) -> LuksctlError:
        """Return one error that shows all: unavailable if any key may come back, else `otherwise`."""
        every = "; ".join(f"slot {error.slot} ({error.operation}): {error.cause}" for error in self.errors)
        cause = f"no configured key {purpose}: {every or 'no key is configured'}"
        waiting = [error for error in self.errors if isinstance(error, ProviderUnavailable)]
        hints = [error.hint for error in self.errors if error.hint is not None]
        # A key that does not open is KeyRejected by now.
        broken = any(isinstance(error, DeviceError) for error in self.errors)
        look = "see what the kernel says of the disk (journalctl -k)" if broken else "check the keys in the config"
        hint = hints[0] if hints else f"{look}, then: luksctl retry {self.volume}"
        # What else waits is waited for there as well.
        if any(needs_network(error) for error in waiting):
            combined = KmsUnavailable(cause, reason=KmsReason.NETWORK_LATER, hint=hint)
            combined.volume = self.volume
            return combined
        kind = ProviderUnavailable if waiting else otherwise
        return kind(cause, volume=self.volume, hint=hint)


def needs_network(error: LuksctlError) -> bool:
    """Tell whether only the stage of a boot that has a network can do better: waiting for it here is of no use."""
    return isinstance(error, KmsUnavailable) and error.reason is KmsReason.NETWORK_LATER


def _comes_too_late(error: LuksctlError) -> bool:
    return isinstance(error, TpmRejected) and error.reason is TpmReason.PHASE_OVER


def cheapest_first(keys: tuple[ConfiguredKey, ...], header: LuksHeader) -> tuple[ConfiguredKey, ...]:
    """Order keys by what one try at their slot costs, then by slot; slots that are not in use come last."""

    def cost(key: ConfiguredKey) -> tuple[int, int]:
        slot = header.keyslot(key.slot)
        return (1 << 62 if slot is None else _kdf_work(slot), key.slot)

    return tuple(sorted(keys, key=cost))


def _kdf_work(slot: Keyslot) -> int:
    if slot.iterations is not None:
        return slot.iterations
    # One pass over one KiB of Argon2 memory takes about as long as one PBKDF2 iteration.
    return (slot.time or 1) * (slot.memory_kib or 1)


def expect_given_back(volume: str, key: ConfiguredKey, made: MadeKey, provider: KeyProvider) -> None:
    """Raise KeyRejected unless `provider` recovers the key it has just made, so that no slot is written for nothing."""
    for candidate in provider.recover(volume, key, made.token):
        with candidate:
            if candidate == made.key:
                return
    raise KeyRejected("its provider does not give back the key it made", volume=volume, slot=key.slot)


def try_key(
    volume: str,
    key: ConfiguredKey,
    token: str | None,
    provider: KeyProvider,
    use: Callable[[Secret], Result],
) -> Result:
    """Return what `use` makes of the first candidate that opens the slot; KeyRejected when none does."""
    for candidate in provider.recover(volume, key, token):
        with candidate:
            try:
                return use(candidate)
            except SlotPassphraseRejected:
                continue
    explained = provider.explain_rejection(volume, key)
    raise KeyRejected(explained or "the key does not open this slot", volume=volume, slot=key.slot)
