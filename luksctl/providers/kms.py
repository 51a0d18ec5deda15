"""The kms provider: 32 random bytes sealed by a KMS, their base64 text is the key, as Talos makes it.

The KMS knows the node by its UUID, and by what the node shows of itself besides. A key is unsealed again and compared
before it is trusted with a slot; that a KMS unsealed the right one later, only the slot can tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from luksctl.errors import KmsReason, KmsRejected, KmsUnavailable, LuksctlError
from luksctl.hints import Final, Protocol, final
from luksctl.model.config import ConfiguredKey, KmsKey
from luksctl.model.kms_wire import SEAL, UNSEAL
from luksctl.model.ports import MadeKey
from luksctl.providers.kms_connection import Call, KmsFailure
from luksctl.providers.kms_errors import unavailable
from luksctl.providers.kms_token import LONGEST_SEALED_BYTES, read_token, write_token
from luksctl.providers.node_id import low_entropy, short_hash
from luksctl.providers.tpm_text import base64_text
from luksctl.secret import Secret

KEY_BYTES: Final = 32


class Answers(Protocol):
    """A KMS, at one endpoint or several."""

    def answers(self, call: Call) -> Iterator[tuple[str, Secret | KmsFailure]]:
        """Yield what each endpoint says, with its text, as it comes."""


@final
class KmsProvider:
    """Keys from the KMS that `connect` gives, for the node whose UUID `read_uuid` gives (META's override, or SMBIOS).

    `make` and `recover` raise KmsUnavailable where no endpoint answers as it should, or none serves this node, and
    KmsRejected where asking again is of no use. Nothing here has a deadline for all: luksctl.providers.deadline does.
    """

    def __init__(self, connect: Callable[[], Answers], read_uuid: Callable[[], str | None]) -> None:
        self._connect = connect
        self._read_uuid = read_uuid
        # Slots for which every answer was tried, and none opened them.
        self._refused: set[tuple[str, int]] = set()

    def make(self, volume: str, key: ConfiguredKey) -> MadeKey:
        """Have fresh random bytes sealed, and see that they are given back."""
        endpoint = _endpoint(key)
        with _placed(volume, key), Secret.random(KEY_BYTES) as content:
            uuid = self._uuid(making=True)
            kms = self._connect()
            sealed = _sealed(kms, Call(SEAL, endpoint, uuid, content))
            _expect_given_back(kms, Call(UNSEAL, endpoint, uuid, sealed), content)
            return MadeKey(base64_text(content), write_token(sealed))

    def recover(self, volume: str, key: ConfiguredKey, token: str | None) -> Iterator[Secret]:
        """Yield what the endpoints unseal the token to, the first answer first; the others follow only where asked for.

        An endpoint that failed is told of when no other one gave a key, or the ones that they gave opened nothing.
        """
        endpoint = _endpoint(key)
        with _placed(volume, key):
            call = Call(UNSEAL, endpoint, self._uuid(making=False), read_token(token))
        return self._candidates(volume, key, call)

    def explain_rejection(self, volume: str, key: ConfiguredKey) -> str | None:
        """Say what it means that every key that the KMS gave was refused; None where nobody went through them all."""
        if (volume, key.slot) not in self._refused:
            return None
        return (
            f"the KMS at {_endpoint(key)} answered, and the key that it gave does not open the keyslot: it has another "
            "master key now, or takes this node for another one"
        )

    def _candidates(self, volume: str, key: ConfiguredKey, call: Call) -> Iterator[Secret]:
        failures: list[KmsFailure] = []
        given: list[str] = []
        with _placed(volume, key), ExitStack() as kept:
            seen: list[Secret] = []
            for where, content in _unsealed(self._connect(), call):
                if not isinstance(content, Secret):
                    failures.append(content)
                    continue
                kept.enter_context(content)
                given.append(where)
                if content not in seen:
                    seen.append(content)
                    yield base64_text(content)
            if failures and (not given or any(isinstance(failure, KmsUnavailable) for failure in failures)):
                raise _combined(failures, given)
        self._refused.add((volume, key.slot))

    def _uuid(self, *, making: bool) -> str:
        uuid = self._read_uuid()
        if uuid is None:
            raise KmsRejected(
                "this machine has no SMBIOS UUID, by which a KMS would know it",
                reason=KmsReason.NO_UUID,
                hint="give the node an identity of its own: luksctl meta write 0x0f UUID",
            )
        # A slot that Talos made so has to open; another one is not to be made.
        if making and low_entropy(uuid):
            raise KmsRejected(
                f"the node UUID (hash {short_hash(uuid)}) was left unset by the vendor: other machines have it too",
                reason=KmsReason.NO_UUID,
                hint="give the node an identity of its own: luksctl meta write 0x0f UUID",
            )
        return uuid


def _sealed(kms: Answers, call: Call) -> bytes:
    failures: list[KmsFailure] = []
    for where, answer in kms.answers(call):
        if not isinstance(answer, Secret):
            failures.append(answer)
        elif len(answer) > LONGEST_SEALED_BYTES:
            answer.close()
            failures.append(unavailable(KmsReason.WRONG_ANSWER, f"the KMS at {where} sealed a key into far too much"))
        else:
            with answer, answer.view() as view:
                return bytes(view)
    raise _combined(failures)


def _unsealed(kms: Answers, call: Call) -> Iterator[tuple[str, Secret | KmsFailure]]:
    """Yield the answers to an Unseal; one of the wrong length is a failure."""
    for where, answer in kms.answers(call):
        if isinstance(answer, Secret) and len(answer) != KEY_BYTES:
            cause = f"the KMS at {where} answered with {len(answer)} bytes, and a key has {KEY_BYTES}"
            answer.close()
            yield where, unavailable(KmsReason.WRONG_ANSWER, cause)
        else:
            yield where, answer


def _expect_given_back(kms: Answers, call: Call, content: Secret) -> None:
    failures: list[KmsFailure] = []
    for where, answer in _unsealed(kms, call):
        if not isinstance(answer, Secret):
            failures.append(answer)
            continue
        with answer:
            if answer == content:
                return
        cause = f"the KMS at {where} gave back another key than it was given to seal"
        failures.append(unavailable(KmsReason.WRONG_ANSWER, cause))
    raise _combined(failures)


def _combined(failures: list[KmsFailure], given: list[str] | None = None) -> KmsFailure:
    """Return one error for all endpoints: unavailable where any of them may do better later."""
    first = next((failure for failure in failures if isinstance(failure, KmsUnavailable)), failures[0])
    causes = [f"the key that {where} gave opens nothing" for where in given or ()]
    causes += [failure.cause for failure in failures]
    return type(first)("; ".join(causes), reason=first.reason, hint=first.hint)


@contextmanager
def _placed(volume: str, key: ConfiguredKey) -> Iterator[None]:
    try:
        yield
    except LuksctlError as error:
        error.volume, error.slot = volume, key.slot
        raise


def _endpoint(key: ConfiguredKey) -> str:
    if not isinstance(key.source, KmsKey):
        raise TypeError(f"the kms provider was given a {key.kind} key")
    return key.source.endpoint
