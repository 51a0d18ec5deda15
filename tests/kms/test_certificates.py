"""mTLS: a node is who its certificate says, and its first certificate is its only one."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from luksctl.kms.admission import Outcome, Verb
from luksctl.kms.identity import identity_of, read_certificate
from luksctl.kms.room import Kms
from luksctl.model.kms import Enrol, Enrolment, NodeState
from tests.kms.pki import Authority, Pair, new_key
from tests.kms.serving import CHEAP, KEY, NODE, OTHER, Serving, allow, serving

URN = f"urn:uuid:{NODE}"


def _shown(running: Serving, *, uuid: str = NODE) -> Pair:
    return running.authority.client(uris=(f"urn:uuid:{uuid}",))


def test_the_certificate_of_the_node_is_let_in(tmp_path: Path) -> None:
    """By a URI that names it, in any case of letters, or by its common name; and its key is bound."""
    with serving(tmp_path, client_ca=True) as running:
        allow(tmp_path, NODE, OTHER)
        first = running.client(
            running.authority.client(uris=("urn:other", URN.upper().replace("URN:UUID", "urn:uuid")))
        )
        assert first.unseal(first.seal().granted).granted == KEY
        by_name = running.client(running.authority.client(common_name=OTHER))
        assert by_name.seal(OTHER).data is not None
        assert all(node.certificate is not None for node in running.store.every())


@pytest.mark.parametrize(
    "uris", [(), (f"urn:uuid:{OTHER}",), ("urn:uuid:nonsense",)], ids=["none", "other", "nonsense"]
)
def test_a_certificate_that_names_another_node_is_refused(tmp_path: Path, uris: tuple[str, ...]) -> None:
    """It was signed by our CA, and is no certificate of this node."""
    with serving(tmp_path, client_ca=True) as running:
        allow(tmp_path, NODE)
        reply = running.client(running.authority.client(uris=uris)).seal()
        assert reply.code is grpc.StatusCode.PERMISSION_DENIED
        assert running.outcomes() == ["wrong-certificate"]
        assert running.store.every()[0].certificate is None


def test_without_a_certificate_of_our_ca_there_is_no_connection(tmp_path: Path) -> None:
    """TLS itself refuses: no certificate, and one of another CA."""
    with serving(tmp_path, client_ca=True) as running:
        allow(tmp_path, NODE)
        for certificate in (None, Authority().client(uris=(URN,))):
            assert running.client(certificate).seal().code is grpc.StatusCode.UNAVAILABLE
        assert running.audit() == []


def test_a_second_certificate_for_a_node_is_an_alarm(tmp_path: Path) -> None:
    """Refused like everybody, written down and counted as what it is; the first one goes on."""
    with serving(tmp_path, client_ca=True) as running:
        allow(tmp_path, NODE)
        first, second = running.client(_shown(running)), running.client(_shown(running))
        sealed = first.seal().granted
        reply = second.unseal(sealed)
        assert (reply.code, reply.details) == (
            grpc.StatusCode.PERMISSION_DENIED,
            "this node may not use this KMS",
        )
        assert running.outcomes() == ["ok", "second-certificate"]
        assert running.board.requests()[Verb.UNSEAL, Outcome.SECOND_CERTIFICATE] == 1
        assert first.unseal(sealed).granted == KEY


def test_a_renewed_certificate_with_the_same_key_goes_on(tmp_path: Path) -> None:
    """What is bound is the key, not the paper."""
    with serving(tmp_path, client_ca=True) as running:
        allow(tmp_path, NODE)
        key = new_key()
        sealed = running.client(running.authority.client(uris=(URN,), key=key)).seal().granted
        renewed = running.authority.client(uris=(URN,), key=key, common_name="renewed")
        assert running.client(renewed).unseal(sealed).granted == KEY


def test_a_pending_node_is_bound_to_what_it_asked_with(tmp_path: Path) -> None:
    """The operator allows what was seen; somebody else with the same UUID is an alarm, before and after."""
    with serving(tmp_path, client_ca=True) as running:
        first, second = running.client(_shown(running)), running.client(_shown(running))
        first.seal()
        running.notebook.flush()
        second.seal()
        allow(tmp_path, running.store.every()[0].shown)
        assert second.seal().code is grpc.StatusCode.PERMISSION_DENIED
        assert first.seal().data is not None
        assert running.outcomes() == ["unknown", "second-certificate", "second-certificate", "ok"]


def test_the_operator_may_forget_a_certificate(tmp_path: Path) -> None:
    """A node that was set up anew: with --new-certificate the next one is bound, and the old one is the alarm."""
    with serving(tmp_path, client_ca=True) as running:
        allow(tmp_path, NODE)
        old, new = running.client(_shown(running)), running.client(_shown(running))
        sealed = old.seal().granted
        Kms(CHEAP).change_nodes(str(tmp_path), [NODE], NodeState.ALLOWED, note=None, new_certificate=True)
        assert new.unseal(sealed).granted == KEY
        assert old.unseal(sealed).code is grpc.StatusCode.PERMISSION_DENIED


def test_a_bound_node_does_not_come_without_its_certificate(tmp_path: Path) -> None:
    """A server that was started without --client-ca does not make the UUID enough again."""
    with serving(tmp_path, client_ca=True) as running:
        allow(tmp_path, NODE)
        running.client(_shown(running)).seal()
    with serving(tmp_path) as running:
        assert running.client().seal().code is grpc.StatusCode.PERMISSION_DENIED
        assert running.outcomes()[-1] == "wrong-certificate"


def test_enrolling_by_itself_binds(tmp_path: Path) -> None:
    """The node and its certificate are in the list together."""
    enrolment = Enrolment(Enrol.AUTO, ("127.0.0.0/8",), 4e9)
    with serving(tmp_path, client_ca=True, enrolment=enrolment) as running:
        first, second = running.client(_shown(running)), running.client(_shown(running))
        assert first.seal().data is not None
        assert second.seal().code is grpc.StatusCode.PERMISSION_DENIED
        (node,) = running.store.every()
        assert (node.state, node.certificate is None) == (NodeState.ALLOWED, False)


def test_names_of_a_certificate_that_are_no_nodes_are_left_alone() -> None:
    """A host name beside the UUID is nobody."""
    pair = Authority().client(uris=(URN, "https://node.example"), common_name="node7")
    assert read_certificate(pair.certificate).nodes == {identity_of(NODE)}
    assert read_certificate(Authority().certificate).nodes == frozenset()
