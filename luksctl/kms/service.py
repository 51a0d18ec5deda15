"""What happens to one request, whatever brought it: read, judged, sealed or unsealed, written down, counted.

Nodes that are unknown, pending or revoked, or come with a wrong certificate, get the same refusal, for the same work:
one look into the list. So nobody learns from it which UUIDs are in the list.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from luksctl.errors import LuksctlError
from luksctl.hints import Final, final
from luksctl.kms.admission import Outcome, Rules, Verb, judge
from luksctl.kms.audit import AuditLog
from luksctl.kms.backend import LONGEST_PLAIN, Backend, NotSealedHere
from luksctl.kms.board import Row
from luksctl.kms.identity import Caller, identity_of
from luksctl.kms.limit import RateLimit, Verdict
from luksctl.kms.nodes import NodeStore, Sighting
from luksctl.kms.notebook import Notebook
from luksctl.model.kms import Enrol, KnownNode
from luksctl.model.kms_wire import decode_request, encode_response
from luksctl.secret import Secret, wipe
from luksctl.value import frozen

# A UUID has 36 characters, the longest sealed data some more than a kilobyte.
LONGEST_REQUEST_BYTES: Final = 4096
# No hash of a UUID.
_NOBODY: Final = bytes(32)
_GRANTED: Final = frozenset({Outcome.OK, Outcome.ENROLLED})
# One place for what is unsealed in each thread: mapping memory for each call would cost as much as the cipher.
_own: Final = threading.local()


class Denied(Exception):
    """There is no answer; `outcome` says why."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.value)
        self.outcome = outcome


@frozen
class Parts:
    """What a service works with."""

    backend: Backend
    store: NodeStore | None
    rules: Rules
    audit: AuditLog
    row: Row
    limit: RateLimit
    notebook: Notebook | None


@final
class Service:
    """Answers Seal and Unseal. Without a store every node is one to it, as to the reference server."""

    def __init__(self, parts: Parts, clock: Callable[[], float] = time.time) -> None:
        self._parts = parts
        self._clock = clock
        self._trouble = ""

    @property
    def rules(self) -> Rules:
        """Return what callers have to show."""
        return self._parts.rules

    def look(self, address: str) -> None:
        """Return where nodes can be answered; DeviceError where the list cannot be read, Denied for too many looks."""
        if self._parts.limit.judge(address, time.monotonic()) is not Verdict.TAKEN:
            raise Denied(Outcome.LIMITED)
        if self._parts.store is not None:
            self._parts.store.find(_NOBODY)

    def answer(self, verb: Verb, wire: bytes, caller: Caller) -> bytes:
        """Return the Response as bytes; Denied where there is none. Each call is written down before it is answered."""
        call = _Call(self._parts, verb, caller, self._clock())
        begun = time.perf_counter()
        try:
            reply = call.reply(wire)
        except LuksctlError as error:
            self._tell(error)
            call.outcome, reply = Outcome.UNAVAILABLE, b""
        except BaseException:
            call.outcome = Outcome.FAILED
            self._conclude(call, time.perf_counter() - begun)
            raise
        self._conclude(call, time.perf_counter() - begun)
        if call.outcome not in _GRANTED:
            raise Denied(call.outcome)
        return reply

    def _tell(self, error: LuksctlError) -> None:
        """Say why nothing can be answered; the caller does not learn it. Once, however many ask while it lasts."""
        if str(error) != self._trouble:
            self._trouble = str(error)
            with suppress(OSError):
                sys.stderr.write(f"luksctl kms: {error}\n")
                sys.stderr.flush()

    def _conclude(self, call: _Call, took_s: float) -> None:
        """Write the call down, and count it; a key that nobody could write down is not given out.

        Of requests that are too many, the first is written down: else whoever sends them could fill the disk.
        """
        audit, row = self._parts.audit, self._parts.row
        try:
            if call.is_told:
                audit.write(
                    call.verb, call.outcome, node=call.node, peer=call.caller.address, began=call.now, took_s=took_s
                )
        except LuksctlError as error:
            self._tell(error)
            row.audit_failed()
            if call.outcome in _GRANTED:
                call.outcome = Outcome.UNAVAILABLE
        row.request(call.verb, call.outcome, took_s)


@final
class _Call:
    """One request on its way."""

    def __init__(self, parts: Parts, verb: Verb, caller: Caller, now: float) -> None:
        self._parts = parts
        self.verb = verb
        self.caller = caller
        self.now = now
        self.node: bytes | None = None
        self.outcome = Outcome.MALFORMED
        self.is_told = True

    def reply(self, wire: bytes) -> bytes:
        """Return the Response, and say in `outcome` how it ended."""
        verdict = self._parts.limit.judge(self.caller.address, time.monotonic())
        if verdict is not Verdict.TAKEN:
            self.outcome, self.is_told = Outcome.LIMITED, verdict is Verdict.REFUSED
            return b""
        try:
            uuid, data = decode_request(wire)
            if self._parts.store is not None:
                self.node = identity_of(uuid)
        except ValueError:  # of a message that is none, a text that is none, and a UUID that is none
            return b""
        self.outcome = self._admission(self._parts.store)
        if self.outcome not in _GRANTED:
            return b""
        try:
            return self._sealed(data) if self.verb is Verb.SEAL else self._unsealed(data)
        except NotSealedHere:
            self.outcome = Outcome.NOT_SEALED_HERE
            return b""

    def _sealed(self, data: memoryview) -> bytes:
        return encode_response(self._parts.backend.seal(self.node or b"", data))

    def _unsealed(self, data: memoryview) -> bytes:
        place: Secret | None = getattr(_own, "place", None)
        if place is None:
            place = _own.place = Secret(LONGEST_PLAIN)
        with place.view() as view:
            try:
                length = self._parts.backend.unseal(self.node or b"", data, view)
                return encode_response(view[:length])
            finally:
                wipe(view)

    def _admission(self, store: NodeStore | None) -> Outcome:
        if store is None or self.node is None:
            return Outcome.OK
        rules = self._parts.rules
        known = store.recall(self.node)
        if known is not None and judge(self.verb, self.node, known, self.caller, rules, self.now) is Outcome.OK:
            return self._bound(store, known)
        # Whoever is refused has cost one look into the list, also where what it would say was known.
        known = store.find(self.node)
        outcome = judge(self.verb, self.node, known, self.caller, rules, self.now)
        if outcome is Outcome.ENROLLED and not store.enrol(self.node, self._sighting()):
            return self._overtaken(store)
        if outcome is Outcome.OK:
            return self._bound(store, known)
        if outcome is Outcome.UNKNOWN and rules.mode is not Enrol.CLOSED and self._parts.notebook is not None:
            self._parts.notebook.pending(self.node, self._sighting())
        return outcome

    def _bound(self, store: NodeStore, known: KnownNode | None) -> Outcome:
        """Bind the certificate of an allowed node that comes with its first one."""
        assert self.node is not None
        certificate = self.caller.certificate
        if certificate is not None and known is not None and known.certificate is None:
            if not store.bind(self.node, certificate.key, int(self.now)):
                return self._overtaken(store)
        elif self._parts.notebook is not None:
            self._parts.notebook.seen(self.node, int(self.now))
        return Outcome.OK

    def _overtaken(self, store: NodeStore) -> Outcome:
        """Judge anew, without another attempt: somebody else changed the node between our look and our write."""
        assert self.node is not None
        outcome = judge(self.verb, self.node, store.find(self.node), self.caller, self._parts.rules, self.now)
        return Outcome.UNAVAILABLE if outcome in _GRANTED else outcome

    def _sighting(self) -> Sighting:
        certificate = self.caller.certificate
        return Sighting(self.caller.address, None if certificate is None else certificate.key, int(self.now))
