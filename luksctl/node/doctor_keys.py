"""Probes of the keys of one volume: why one cannot serve, slots and tokens nobody wants, and proofs that grew old."""

from __future__ import annotations

from collections.abc import Iterator

from luksctl.errors import Busy
from luksctl.hints import Final
from luksctl.model.bookkeeping import TOKEN_TYPE, Bookkeeping, Purpose
from luksctl.model.config import ConfiguredKey, KeyKind
from luksctl.model.observed import Luks2
from luksctl.node.check import NO_FAULT, cost_problem
from luksctl.node.checked import slot_digest, timestamp
from luksctl.node.finding import Finding, NodeFacts, VolumeFacts, Weight
from luksctl.reconcile.books import unverified
from luksctl.units import KIB, format_size
from luksctl.value import replace

# Their keys are kept in a token.
_WITH_TOKEN: Final = frozenset({KeyKind.KMS, KeyKind.TPM})
_DAY_S: Final = 86400
# The timer runs once a week: two weeks without a proof are more than a node that was off at the hour of the timer.
STALE_AFTER_S: Final = 15 * _DAY_S
# The rest of the machine needs some, too: a key derivation that takes more than this ends by the kernel's hand.
_MEMORY_SHARE: Final = 0.75


def in_header(volume: str, key: ConfiguredKey, found: Luks2, memory_kib: int) -> Iterator[Finding]:
    """Find why `key` cannot open its slot, as the header alone tells it."""
    header, name = found.header, _named(key)
    slot = header.keyslot(key.slot)
    if slot is None:
        yield _obstacle(key, f"{name} is configured, and the header has no such keyslot", f"luksctl sync {volume}")
        return
    if key.kind in _WITH_TOKEN and header.token(key.slot) is None:
        yield _obstacle(key, f"{name} has a keyslot, and no token to recover its key by", f"luksctl sync {volume}")
    costs = cost_problem(header, key.slot, found.device.path)
    if costs is not None:
        yield _obstacle(key, f"{name}: {costs.cause}", costs.hint)
    elif slot.memory_kib is not None and slot.memory_kib > memory_kib * _MEMORY_SHARE:
        needed, there = format_size(slot.memory_kib * KIB), format_size(memory_kib * KIB)
        what = f"{name} takes {needed} of memory to derive, and this machine has {there}"
        fix = "give it more memory once, and then its key another slot in the config: what is made here fits here"
        yield _obstacle(key, what, fix)


def of_provider(volume: str, key: ConfiguredKey, explained: str, fix: str | None) -> Finding:
    """Return what the provider said about its key."""
    another = f"luksctl status {volume}; another key of the volume has to serve"
    return _obstacle(key, f"{_named(key)}: {explained}", fix or another)


def key_obstacles(_: NodeFacts, volume: VolumeFacts) -> Iterator[Finding]:
    """Find the keys that cannot serve: they are why a closed volume stays so where no key is left that could."""
    hopeless = not volume.is_up and all(key.obstacles for key in volume.keys)
    for key in volume.keys:
        for obstacle in key.obstacles:
            yield replace(obstacle, weight=Weight.BROKEN) if hopeless else obstacle


def tried_now(facts: NodeFacts, volume: VolumeFacts) -> Iterator[Finding]:
    """Find the keys that did not work when they were tried, but for those with an obstacle that says why already."""
    result = None if facts.checked is None else facts.checked.of(volume.name)
    if result is None:
        return
    explained = {key.key.slot for key in volume.keys if key.obstacles}
    hopeless = not volume.is_up and all(key.outcome not in NO_FAULT for key in result.keys)
    for key in result.keys:
        if key.outcome not in NO_FAULT and key.slot not in explained:
            what = f"slot {key.slot} ({key.kind}) was tried: {key.outcome}; {key.cause}"
            yield Finding(Weight.BROKEN if hopeless else Weight.RISK, what, key.hint, slot=key.slot)
    busy = result.problem
    if isinstance(busy, Busy):
        yield Finding(Weight.NOTE, f"its keys could not be tried to the end: {busy.cause}", busy.hint)


def slots_nobody_configured(_: NodeFacts, volume: VolumeFacts) -> Iterator[Finding]:
    """Find keyslots that no configured key is for, but for recovery keys, which never are in a config.

    Whose they are, the header's bookkeeping says, and nobody opened the volume to verify it: it tells, and no more.
    """
    if volume.header is None or volume.seen.desired is None or volume.seen.desired.encryption is None:
        return
    configured = {key.slot for key in volume.seen.desired.encryption.keys}
    books = unverified(volume.header) or Bookkeeping()
    for number in (slot.number for slot in volume.header.keyslots if slot.number not in configured):
        note = books.note(number)
        if note is None and not books.announced(number):
            what = f"slot {number} is no configured key's; whoever holds its key opens the volume"
            yield Finding(Weight.NOTE, what, f"luksctl status {volume.name}", slot=number)
        elif note is None or note.purpose is Purpose.CONFIG:
            what = f"slot {number} is left of a change that did not end, and its key still opens the volume"
            yield Finding(Weight.RISK, what, f"luksctl sync {volume.name}", slot=number)


def out_of_sync(_: NodeFacts, volume: VolumeFacts) -> Iterator[Finding]:
    """Find keyslots that are not those of the config, as the last boot or sync saw it."""
    if volume.luks is not None and volume.report is not None and volume.report.in_sync is False:
        yield Finding(Weight.RISK, "its keyslots were not made those of the config", f"luksctl sync {volume.name}")


def stray_tokens(_: NodeFacts, volume: VolumeFacts) -> Iterator[Finding]:
    """Find tokens whose keyslot is gone."""
    header = volume.header
    if header is None:
        return
    for token in header.tokens:
        if token.type != TOKEN_TYPE and not any(header.keyslot(slot) for slot in token.keyslots):
            what = f"token {token.number} ({token.type}) belongs to no keyslot, and opens nothing"
            device = "DEVICE" if volume.device is None else volume.device.path
            fix = f"cryptsetup token remove --token-id {token.number} {device}"
            yield Finding(Weight.RISK, what, fix, slot=token.number)


def not_proven_for_long(facts: NodeFacts, volume: VolumeFacts) -> Iterator[Finding]:
    """Find keys that failed at the last check, or that nobody tried for long; a slot written since is another slot."""
    if volume.header is None or not facts.known.view.state_mounted or facts.checked is not None:
        return
    known = {entry.digest: entry for entry in volume.records}
    fix = f"luksctl check {volume.name}"
    for key in volume.keys:
        if key.obstacles or volume.header.keyslot(key.key.slot) is None:
            continue  # that it was not proven is no wonder
        entry, name = known.get(slot_digest(volume.header, key.key.slot)), _named(key.key)
        if entry is None:
            yield Finding(Weight.NOTE, f"{name} was never proven by a check", fix, slot=key.key.slot)
        elif entry.outcome not in NO_FAULT:
            what = f"{name} did not open at the last check, {timestamp(entry.tried_s)}: {entry.outcome}"
            yield Finding(Weight.RISK, what, fix, slot=key.key.slot)
        elif entry.proven_s is not None and facts.now_s - entry.proven_s > STALE_AFTER_S:
            days = (facts.now_s - entry.proven_s) // _DAY_S
            yield Finding(Weight.RISK, f"{name} was last proven {days} days ago", fix, slot=key.key.slot)


def _named(key: ConfiguredKey) -> str:
    return f"slot {key.slot} ({key.kind})"


def _obstacle(key: ConfiguredKey, what: str, fix: str | None) -> Finding:
    return Finding(Weight.RISK, what, fix, slot=key.slot)
