"""What a made-up header cannot do: libcryptsetup re-encrypts image files, so tests of that use those."""

from __future__ import annotations

from collections.abc import Callable

from luksctl.model.config import KdfCost
from luksctl.model.intent import MovedSlot, ReencryptIntent
from luksctl.model.ports import Activation
from luksctl.model.probe import Device
from luksctl.secret import Secret


class NothingReencrypted:
    """Those calls of the Headers port that a re-encryption makes; each is a mistake of the test."""

    def activate_reencrypting(self, device: Device, mapped_name: str, key: Secret, how: Activation) -> None:
        raise AssertionError(f"nothing is re-encrypted here: {device.path}, {mapped_name}, {len(key)}, {how}")

    def why_not_reencrypt(self) -> str | None:
        raise AssertionError("nothing is re-encrypted here")

    def add_new_keyslot(
        self, device: Device, slot: int, key: Secret, volume_key: Secret, kdf: KdfCost, *, first: bool
    ) -> None:
        raise AssertionError(
            f"nothing is re-encrypted here: {device.path}, {slot}, {key}, {volume_key}, {kdf}, {first}"
        )

    def start_reencryption(
        self, device: Device, key: Secret, slots: MovedSlot, how: ReencryptIntent, mapped_name: str | None
    ) -> None:
        raise AssertionError(f"nothing is re-encrypted here: {device.path}, {slots}, {key}, {how}, {mapped_name}")

    def run_reencryption(
        self,
        device: Device,
        key: Secret,
        how: ReencryptIntent,
        mapped_name: str | None,
        progress: Callable[[int, int], None],
    ) -> None:
        raise AssertionError(f"nothing is re-encrypted here: {device.path}, {key}, {how}, {mapped_name}, {progress}")

    def end_reencryption(self, device: Device, how: ReencryptIntent) -> None:
        raise AssertionError(f"nothing is re-encrypted here: {device.path}, {how}")


class NoHotZone:
    """The kernel's side of it, which nothing asks for where nothing is re-encrypted."""

    def hot_zone(self, mapped_name: str) -> str | None:
        """Fail."""
        raise AssertionError(f"no step asks for a hot zone of {mapped_name}")

    def fail_hot_zone(self, hot_zone_name: str) -> None:
        """Fail."""
        raise AssertionError(f"no step fails {hot_zone_name}")
