"""Who may, decided without a server."""

from __future__ import annotations

from itertools import product

import pytest

from luksctl.errors import UsageError
from luksctl.kms.admission import DENIED, Outcome, Rules, Verb, judge, read_rules
from luksctl.kms.identity import Caller, PeerCertificate, identity_of
from luksctl.model.kms import Enrol, Enrolment, KnownNode, NodeState
from tests.kms.serving import NODE, OTHER

WHO = identity_of(NODE)
OURS, FOREIGN = PeerCertificate(frozenset({WHO}), "aa"), PeerCertificate(frozenset({identity_of(OTHER)}), "aa")
SECOND = PeerCertificate(frozenset({WHO}), "bb")


def _rules(mode: Enrol = Enrol.AUTO, *, certificates: bool = False) -> Rules:
    bounds = (("10.0.0.0/8", "fd00::/16"), 1000.0) if mode is Enrol.AUTO else ((), None)
    return read_rules(Enrolment(mode, *bounds), certificates=certificates)


def _known(state: NodeState, certificate: str | None = None) -> KnownNode:
    return KnownNode(WHO, state, certificate, 0, 0, None, None, "")


@pytest.mark.parametrize(
    ("address", "now", "admitted"),
    [
        ("10.1.2.3", 999.0, True),
        ("10.1.2.3", 1000.0, False),
        ("11.0.0.1", 0.0, False),
        ("::ffff:10.0.0.1", 0.0, True),
        ("fd00::1", 0.0, True),
        ("fe80::1", 0.0, False),
        ("unix", 0.0, False),
        ("", 0.0, False),
    ],
)
def test_auto_is_bounded_by_network_and_time(address: str, now: float, admitted: bool) -> None:  # noqa: FBT001
    """Inside both, to the second; an address that is none is outside."""
    assert _rules().admits(Caller(address), now) is admitted


@pytest.mark.parametrize("mode", [Enrol.PENDING, Enrol.CLOSED])
def test_only_auto_admits(mode: Enrol) -> None:
    """Nobody gets in by itself otherwise."""
    assert not _rules(mode).admits(Caller("10.0.0.1"), 0.0)


def test_nobody_but_the_allowed_is_ever_ok() -> None:
    """Over every state, certificate and rule: OK takes the state allowed and, where one is bound, its certificate."""
    states = [None, *(_known(state, bound) for state in NodeState for bound in (None, "aa"))]
    callers = [Caller("10.0.0.1", certificate) for certificate in (None, OURS, FOREIGN, SECOND)]
    rules = [_rules(mode, certificates=asked) for mode in Enrol for asked in (True, False)]
    for verb, known, caller, rule in product(Verb, states, callers, rules):
        outcome = judge(verb, WHO, known, caller, rule, 0.0)
        assert outcome in {Outcome.OK, Outcome.ENROLLED} | DENIED
        if outcome is Outcome.OK:
            assert known is not None
            assert known.state is NodeState.ALLOWED
            assert known.certificate is None or (caller.certificate or FOREIGN).key == known.certificate
        if outcome is Outcome.ENROLLED:
            assert verb is Verb.SEAL
            assert rule.mode is Enrol.AUTO
            assert known is None or known.state is NodeState.PENDING
        if rule.certificates and caller.certificate in {None, FOREIGN}:
            assert outcome is Outcome.WRONG_CERTIFICATE


def test_a_second_certificate_is_told_from_a_revoked_node() -> None:
    """The alarm is more than that the node was taken out."""
    caller = Caller("10.0.0.1", SECOND)
    for state in NodeState:
        outcome = judge(Verb.SEAL, WHO, _known(state, "aa"), caller, _rules(certificates=True), 0.0)
        assert outcome is Outcome.SECOND_CERTIFICATE


@pytest.mark.parametrize(
    ("enrolment", "said"),
    [
        (Enrolment(Enrol.AUTO), "needs bounds"),
        (Enrolment(Enrol.AUTO, ("10.0.0.0/8",)), "needs bounds"),
        (Enrolment(Enrol.AUTO, (), 1.0), "needs bounds"),
        (Enrolment(Enrol.AUTO, ("10.0.0.1/8",), 1.0), "--enroll-from"),
        (Enrolment(Enrol.AUTO, ("everywhere",), 1.0), "--enroll-from"),
        (Enrolment(Enrol.PENDING, ("10.0.0.0/8",)), "belong to"),
        (Enrolment(Enrol.CLOSED, (), 1.0), "belong to"),
    ],
)
def test_bounds_belong_to_auto_and_auto_to_bounds(enrolment: Enrolment, said: str) -> None:
    """Whoever leaves one out is told."""
    with pytest.raises(UsageError, match=said):
        read_rules(enrolment, certificates=False)
