"""What one run knows: the volume key, keys it made, and which keys opened which slots; wiped when the run ends."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType

from luksctl.errors import NotConverged
from luksctl.hints import TYPE_CHECKING, Self
from luksctl.model.config import ConfiguredKey, VolumeEncryption
from luksctl.model.ports import MadeKey
from luksctl.reconcile.keys import Failures
from luksctl.secret import Secret
from luksctl.value import frozen

if TYPE_CHECKING:
    from luksctl.reconcile.fingerprints import VolumeMac


@frozen
class Proof:
    """In this run, `secret`, which the provider of `key` gave, opened a slot.

    `digest` is what the slot was just before it was tried, None where nobody looked.
    """

    key: ConfiguredKey
    secret: Secret
    digest: bytes | None = None


class Keyring:
    """The secrets and proofs of one run over one volume."""

    def __init__(self, volume: str) -> None:
        self.volume = volume
        self.made: dict[int, MadeKey] = {}
        self.proofs: dict[int, Proof] = {}
        self.failures = Failures(volume)
        self.opener: ConfiguredKey | None = None
        self._volume_key: Secret | None = None
        self._mac: VolumeMac | None = None
        self._secrets = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._mac is not None:
            self._mac.close()
        self._secrets.close()

    def keep(self, secret: Secret) -> Secret:
        """Hold `secret` until the run ends, and return it."""
        return self._secrets.enter_context(secret)

    @property
    def has_volume_key(self) -> bool:
        """Tell whether this run formatted or unlocked the volume."""
        return self._volume_key is not None

    @property
    def volume_key(self) -> Secret:
        """Return the volume key; NotConverged where this run neither formatted nor unlocked the volume."""
        if self._volume_key is None:
            raise NotConverged("the volume key was needed, and this run did not unlock the volume", volume=self.volume)
        return self._volume_key

    def hold_volume_key(self, key: Secret) -> None:
        """Keep the volume key for the rest of the run."""
        self._volume_key = self.keep(key)

    def mac(self, header_uuid: str) -> VolumeMac:
        """Return the MACs under the volume key, made once: a run is about one header."""
        if self._mac is None:
            from luksctl.reconcile.fingerprints import VolumeMac  # noqa: PLC0415  # first the key; a start is timed

            self._mac = VolumeMac(self.volume_key, header_uuid)
        return self._mac

    def prove(self, slot: int, key: ConfiguredKey, secret: Secret, digest: bytes | None = None) -> None:
        """Note that `secret` opened `slot`, which had `digest` before, and keep a copy; the first is the opener."""
        self.opener = self.opener or key
        self.proofs[slot] = Proof(key, self.keep(Secret.join(secret)), digest)

    def proven_with(self, slot: int, key: ConfiguredKey | None) -> bool:
        """Tell whether this very key opened `slot`; keys of an earlier config may have had its number."""
        proof = self.proofs.get(slot)
        return proof is not None and proof.key == key

    def renewed(self, slot: int) -> bool:
        """Tell whether the key that this run made for `slot` opened it."""
        made, proof = self.made.get(slot), self.proofs.get(slot)
        return made is not None and proof is not None and proof.secret == made.key

    def proven_key_of(self, encryption: VolumeEncryption) -> bool:
        """Tell whether any key of `encryption` opened any slot."""
        return any(proof.key == key for proof in self.proofs.values() for key in encryption.keys)
