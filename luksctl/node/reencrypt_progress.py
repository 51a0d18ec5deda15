"""How far a re-encryption is: the header says how much is done, the run that works on it says how fast it goes."""

from __future__ import annotations

from luksctl.hints import Final
from luksctl.model.intent import ReencryptKind
from luksctl.model.observed import Luks2, ReencryptStage
from luksctl.node.node import Node
from luksctl.node.reencrypt_pace import Stop, read_rate, read_stop
from luksctl.reconcile.plan_reencrypt import bytes_done
from luksctl.units import format_size
from luksctl.value import frozen

_DOING: Final = {
    ReencryptKind.RENEW: "re-encrypted",
    ReencryptKind.ENCRYPT: "encrypted in place",
    ReencryptKind.DECRYPT: "decrypted in place",
}


@frozen
class ReencryptProgress:
    """Where one volume stands. Rate and remaining time are None where no run has told them; `running`: one is at it.

    `stop` is what ended the last run, where none is at it.
    """

    stage: ReencryptStage
    done_bytes: int
    total_bytes: int
    bytes_per_s: float | None = None
    remaining_s: float | None = None
    kind: ReencryptKind = ReencryptKind.RENEW
    stop: Stop | None = None

    @property
    def running(self) -> bool:
        """Tell whether a run works on it now, as far as it told."""
        return self.bytes_per_s is not None

    @property
    def left_to_boot(self) -> bool:
        """Tell whether nothing is left but what only the next boot can do: the kernel still maps what is plain."""
        return self.kind is ReencryptKind.DECRYPT and self.done_bytes == self.total_bytes

    def text(self) -> str:
        """Return it in words."""
        if self.stage is ReencryptStage.PREPARING:
            return "its re-encryption was prepared, and did not start"
        if self.stage is ReencryptStage.SETTLING:
            keys = "; its keys go back to their slots" if self.kind is ReencryptKind.RENEW else ""
            return f"it is {_DOING[self.kind]}{keys}"
        if self.left_to_boot:
            return "it is decrypted; the next boot mounts it plain"
        share = 100 * self.done_bytes // max(self.total_bytes, 1)
        known = f"{_DOING[self.kind]}: {share} % of {format_size(self.total_bytes)}"
        if self.bytes_per_s is None:
            return f"{known}; nothing works on it now"
        left = "" if self.remaining_s is None else f", {duration(self.remaining_s)} left"
        return f"{known}, {format_size(int(self.bytes_per_s))}/s{left}"


def progress_of(node: Node, volume: str, found: Luks2) -> ReencryptProgress | None:
    """Return how far the announced re-encryption of `volume` is, None where none is announced."""
    stage = found.reencrypt_stage
    if stage is None or found.reencryption is None:
        return None
    kind = found.reencryption.kind
    done_bytes, total_bytes = bytes_done(found)
    rate = read_rate(node, volume)
    if rate is None:
        return ReencryptProgress(stage, done_bytes, total_bytes, kind=kind, stop=read_stop(node, volume))
    remaining_s = (total_bytes - done_bytes) / rate.bytes_per_s if rate.bytes_per_s > 0 else None
    return ReencryptProgress(stage, done_bytes, total_bytes, rate.bytes_per_s, remaining_s, kind)


def duration(seconds: float) -> str:
    """Return a time as people say it: the two largest units."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
