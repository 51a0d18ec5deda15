"""What holds for every provider; a new one adds a line to CASES."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from luksctl.errors import KeyRejected, LuksctlError, ProviderUnavailable, TokenInvalid
from luksctl.model.config import ConfiguredKey, KmsKey, NodeIdKey, StaticKey, TpmKey, TpmPolicy
from luksctl.model.meta import KmsAccess
from luksctl.model.ports import KeyProvider, MadeKey
from luksctl.providers.deadline import Deadline, PunctualProvider
from luksctl.providers.kms import KmsProvider
from luksctl.providers.kms_connection import KmsConnection
from luksctl.providers.node_id import NodeIdProvider
from luksctl.providers.salted import SaltedProvider
from luksctl.providers.static import StaticProvider
from luksctl.providers.tpm import TpmProvider
from luksctl.providers.tpm_connection import TpmConnection
from luksctl.secret import Secret
from tests.marker import MARKER, shown_in
from tests.providers.authorities import Authority
from tests.providers.kms_server import KmsServer, free_port
from tests.providers.measured_boot import boot
from tests.providers.swtpm import Swtpm

UUID = "4c4c4544-0042-3510-8051-b4c04f4e5731"
SALT = b"a marker in a salt\nof 32 bytes.."
KMS_PORT = free_port()
KMS_ENDPOINT = f"https://127.0.0.1:{KMS_PORT}"
DOCUMENTED = (KeyRejected, TokenInvalid, ProviderUnavailable)


class SealingProvider:
    """A provider with tokens, as kms and tpm are: seals by turning the key round. For tests only."""

    def make(self, volume: str, key: ConfiguredKey) -> MadeKey:  # noqa: ARG002  # the port
        """Make a key and seal it into a token."""
        fresh = MARKER + volume.encode()
        token = {"UserData": {"sealedData": base64.b64encode(fresh[::-1]).decode()}, "type": "fake", "keyslots": []}
        return MadeKey(Secret.take(fresh), json.dumps(token))

    def recover(self, volume: str, key: ConfiguredKey, token: str | None) -> Iterator[Secret]:
        """Yield what the token seals."""
        if token is None:
            raise TokenInvalid("the slot has no token", volume=volume, slot=key.slot)
        document = json.loads(token)
        if document.get("type") != "fake":
            raise TokenInvalid("the token is of another type", volume=volume, slot=key.slot)
        return iter([Secret.take(base64.b64decode(document["UserData"]["sealedData"])[::-1])])

    def explain_rejection(self, volume: str, key: ConfiguredKey) -> str | None:  # noqa: ARG002  # the port
        """Know nothing."""
        return None


class Salt:
    """A STATE that holds a salt with a newline in it."""

    def existing(self) -> Secret:
        """Return it."""
        return Secret.take(SALT)

    existing_or_new = existing


class MeasuredMachine:
    """The tpm provider on one software TPM that is started when it is first needed, and stopped with the module."""

    def __init__(self) -> None:
        self._running: Swtpm | None = None

    def __call__(self) -> KeyProvider:
        """Return a provider with a connection of its own."""
        if self._running is None:
            self._running = Swtpm()
            boot(self._running)
        self._connection.close()
        self._connection = TpmConnection(self._running.tcti)
        return TpmProvider(self._connection, TpmPolicy(literal_pcrs=True))

    _connection = TpmConnection()

    def stop(self) -> None:
        """Stop the TPM, if it was started."""
        self._connection.close()
        if self._running is not None:
            self._running.__exit__(None, None, None)


class NetworkedMachine:
    """The kms provider and a KMS that is started when it is first needed, and stopped with the module."""

    def __init__(self) -> None:
        self._authority = Authority()
        self._running: KmsServer | None = None
        self._connections: list[KmsConnection] = []

    def __call__(self) -> KeyProvider:
        """Return a provider with a connection of its own."""
        if self._running is None:
            self._running = KmsServer(self._authority, port=KMS_PORT)
            self._running.__enter__()
        connection = KmsConnection(KmsAccess(roots=(self._authority.pem,)))
        self._connections.append(connection)
        return KmsProvider(lambda: connection, lambda: UUID)

    def stop(self) -> None:
        """Stop the KMS, if it was started."""
        for connection in self._connections:
            connection.close()
        if self._running is not None:
            self._running.stop()


KMS = NetworkedMachine()
TPM = MeasuredMachine()
DEADLINE = Deadline("the TPM")


@dataclass(frozen=True, slots=True)
class Case:
    """One provider with a key of its kind; `tokens` says whether it needs one, `fresh` whether each key is another one.

    `secrets` are never to be seen.
    """

    provider: Callable[[], KeyProvider]
    key: ConfiguredKey
    tokens: bool
    secrets: tuple[bytes, ...]
    fresh: bool = False


CASES = {
    "static": Case(StaticProvider, ConfiguredKey(0, StaticKey(Secret.take(bytes(MARKER)))), False, (MARKER,)),
    "static, two lines": Case(
        StaticProvider, ConfiguredKey(0, StaticKey(Secret.take(MARKER + b"\nsecond"))), False, (MARKER,)
    ),
    "nodeID": Case(lambda: NodeIdProvider(lambda: UUID), ConfiguredKey(3, NodeIdKey()), False, (UUID.encode(),)),
    "nodeID, override": Case(
        lambda: NodeIdProvider(lambda: UUID, override="another-identity"),
        ConfiguredKey(3, NodeIdKey()),
        False,
        (UUID.encode(), b"another-identity"),
    ),
    "static, locked": Case(
        lambda: SaltedProvider(StaticProvider(), Salt()),
        ConfiguredKey(1, StaticKey(Secret.take(bytes(MARKER))), lock_to_state=True),
        False,
        (MARKER, SALT),
    ),
    "static, two lines, locked": Case(
        lambda: SaltedProvider(StaticProvider(), Salt()),
        ConfiguredKey(1, StaticKey(Secret.take(MARKER + b"\nsecond")), lock_to_state=True),
        False,
        (MARKER, SALT),
    ),
    "nodeID, locked": Case(
        lambda: SaltedProvider(NodeIdProvider(lambda: UUID), Salt()),
        ConfiguredKey(3, NodeIdKey(), lock_to_state=True),
        False,
        (UUID.encode(), SALT),
    ),
    "a fake with tokens, locked": Case(
        lambda: SaltedProvider(SealingProvider(), Salt()),
        ConfiguredKey(5, KmsKey("h"), lock_to_state=True),
        True,
        (MARKER, SALT),
    ),
    "tpm": Case(TPM, ConfiguredKey(6, TpmKey()), True, (), fresh=True),
    "tpm, in time": Case(lambda: PunctualProvider(TPM(), DEADLINE), ConfiguredKey(6, TpmKey()), True, (), fresh=True),
    "tpm, locked": Case(
        lambda: SaltedProvider(TPM(), Salt()),
        ConfiguredKey(6, TpmKey(), lock_to_state=True),
        True,
        (SALT,),
        fresh=True,
    ),
    "kms": Case(KMS, ConfiguredKey(4, KmsKey(KMS_ENDPOINT)), True, (UUID.encode(),), fresh=True),
    "kms, in time": Case(
        lambda: PunctualProvider(KMS(), Deadline("the KMS")),
        ConfiguredKey(4, KmsKey(KMS_ENDPOINT)),
        True,
        (UUID.encode(),),
        fresh=True,
    ),
    "kms, locked": Case(
        lambda: SaltedProvider(KMS(), Salt()),
        ConfiguredKey(4, KmsKey(KMS_ENDPOINT), lock_to_state=True),
        True,
        (UUID.encode(), SALT),
        fresh=True,
    ),
    "a fake with tokens": Case(SealingProvider, ConfiguredKey(5, KmsKey("h")), True, (MARKER,)),
}


@pytest.fixture(scope="module", autouse=True)
def _stopped_services() -> Iterator[None]:
    yield
    TPM.stop()
    KMS.stop()


@pytest.fixture(params=list(CASES.values()), ids=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    """Give each provider in turn."""
    assert isinstance(request.param, Case)
    return request.param


def content(secret: Secret) -> bytes:
    """Return the bytes of `secret`, for a comparison."""
    with secret.view() as view:
        return bytes(view)


def test_the_first_candidate_is_the_key_that_was_made(case: Case) -> None:
    """Another provider object recovers it, from the token alone."""
    made = case.provider().make("EPHEMERAL", case.key)
    assert (made.token is not None) == case.tokens
    first = next(iter(case.provider().recover("EPHEMERAL", case.key, made.token)))
    assert content(first) == content(made.key)


def test_candidates_are_fresh_secrets_that_differ(case: Case) -> None:
    """Each is the caller's to close; closing one harms neither the others nor the configured key."""
    token = case.provider().make("EPHEMERAL", case.key).token
    candidates = list(case.provider().recover("EPHEMERAL", case.key, token))
    assert all(isinstance(candidate, Secret) for candidate in candidates)
    contents = [content(candidate) for candidate in candidates]
    assert len(set(contents)) == len(contents) >= 1
    for candidate in candidates:
        candidate.close()
    again = case.provider().recover("EPHEMERAL", case.key, token)
    assert [content(candidate) for candidate in again] == contents


def test_a_key_that_was_made_is_the_callers(case: Case) -> None:
    """Closing it does not take it from the provider or the config; a kind that is fresh each time gives another one."""
    provider = case.provider()
    made = provider.make("EPHEMERAL", case.key)
    with made.key as first:
        expected = content(first)
    assert (content(provider.make("EPHEMERAL", case.key).key) != expected) == case.fresh
    assert content(next(iter(provider.recover("EPHEMERAL", case.key, made.token)))) == expected


def test_a_token_that_is_not_its_own_is_told_apart(case: Case) -> None:
    """A provider with tokens refuses none and a foreign one by TokenInvalid; one without does not look."""
    provider = case.provider()
    for token in (None, '{"type":"systemd-tpm2","keyslots":["3"]}'):
        if case.tokens:
            with pytest.raises(TokenInvalid):
                next(iter(provider.recover("EPHEMERAL", case.key, token)))
        else:
            assert content(next(iter(provider.recover("EPHEMERAL", case.key, token))))


def test_no_secret_is_shown(case: Case) -> None:
    """Neither by the provider, nor by what it makes, nor by its explanation."""
    provider = case.provider()
    made = provider.make("EPHEMERAL", case.key)
    candidates = list(provider.recover("EPHEMERAL", case.key, made.token))
    shown = [repr(provider), repr(case.key), repr(made.key), repr(candidates), str(candidates[0])]
    shown.append(str(provider.explain_rejection("EPHEMERAL", case.key)))
    for secret in case.secrets:
        assert [shown_in(text, secret) for text in shown] == [[]] * len(shown)


def unreadable() -> str | None:
    raise ProviderUnavailable("cannot read it")


@pytest.mark.parametrize(
    "provider",
    [
        NodeIdProvider(lambda: None),
        NodeIdProvider(lambda: ""),
        NodeIdProvider(lambda: "00000000-0000-0000-0000-000000000000"),
        NodeIdProvider(unreadable),
    ],
)
def test_failures_are_of_the_documented_classes(provider: KeyProvider) -> None:
    """What the pipe knows how to go on from; both methods say the same."""
    key = ConfiguredKey(1, NodeIdKey())
    raised: list[type[LuksctlError]] = []
    for attempt in (lambda: provider.make("EPHEMERAL", key), lambda: list(provider.recover("EPHEMERAL", key, None))):
        with pytest.raises(DOCUMENTED) as caught:
            attempt()
        raised.append(caught.type)
    assert raised[0] is raised[1]
