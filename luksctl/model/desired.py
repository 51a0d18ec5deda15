"""What one volume should be, worked out from config, META and settings; pure input of plan."""

from __future__ import annotations

from luksctl.model.config import EncryptionPolicy, Filesystem, VolumeEncryption
from luksctl.model.sealing import Resealing
from luksctl.value import frozen


@frozen
class DesiredVolume:
    """The wish for one volume. `encryption` None means a plain filesystem.

    `format_refusal` says why nothing may be formatted whatever is found (the wish comes from META alone, the node is
    locked, …); None allows it. `follow_in_meta` lets tag 9 follow the wish for STATE: only STATE's own config may.
    `sync` lets the keyslots follow the wish after the volume was opened; without it they are only looked at. `fallback`
    are the key lists that the volume had before, newest first: they open it where a change is unfinished.
    `rotate` are slots whose keys are made anew, though what they hold is in sync. `expect_encrypted` is what
    `luksctl enable` recorded: a plain filesystem there is never mounted. `resealing` is what speaks for and against
    sealing a lost tpm key anew in this run. `booting`: a boot runs it, and every key should serve now.
    `trial`: it may be taken back, so keys are only added. On another volume that lasts, `detached` is the file for the
    header of one that is decrypted in place, and `shrinking` for what shrinking overwrites; empty where there is none.
    """

    volume: str
    encryption: VolumeEncryption | None
    policy: EncryptionPolicy
    format_refusal: str | None = None
    follow_in_meta: bool = False
    expect_encrypted: bool = False
    sync: bool = False
    fallback: tuple[VolumeEncryption, ...] = ()
    rotate: tuple[int, ...] = ()
    resealing: Resealing = Resealing()
    booting: bool = False
    trial: bool = False
    detached: str = ""
    shrinking: str = ""

    @property
    def mapped_name(self) -> str:
        """Return the /dev/mapper name, as Talos 1.12 and later choose it."""
        return f"luks2-{self.volume}"

    @property
    def filesystem(self) -> Filesystem:
        """Return the filesystem to make where there is none."""
        return self.policy.filesystem(self.volume)
