"""The KMS for a whole run: one connection for each way to reach it, and one deadline, whatever volume a key is of."""

from __future__ import annotations

from collections.abc import Callable

from luksctl.errors import KmsReason, KmsUnavailable
from luksctl.hints import Final, final
from luksctl.model.config import KmsPolicy
from luksctl.model.meta import KmsAccess
from luksctl.model.ports import KeyProvider
from luksctl.providers.deadline import Deadline, PunctualProvider
from luksctl.providers.kms import KmsProvider
from luksctl.providers.kms_connection import CALL_TIMEOUT_S, KmsConnection
from luksctl.providers.kms_errors import unavailable

# A key is made with two calls, one after the other; names have to be looked up, and TLS takes its turns.
TIMEOUT_S: Final = 2.5 * CALL_TIMEOUT_S


@final
class KmsRun:
    """Give providers of kms keys that answer in time: KmsUnavailable, SLOW, where the KMS does not.

    `read_access` turns a policy into what it takes to reach the KMS. Files are read for every key, and what META keeps
    again after a failure: in the hours that a boot may wait, an operator may have put another certificate there.
    """

    def __init__(
        self,
        read_uuid: Callable[[], str | None],
        read_access: Callable[[KmsPolicy], KmsAccess],
        tell: Callable[[str], None] | None = None,
        *,
        connect: Callable[[KmsAccess], KmsConnection] = KmsConnection,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._read_uuid = read_uuid
        self._read_access = read_access
        self._connect = connect
        self._deadline = Deadline("the KMS", timeout_s, tell=tell, late=_slow)
        self._connections: dict[KmsPolicy, tuple[KmsAccess, KmsConnection]] = {}

    def provider(self, policy: KmsPolicy) -> KeyProvider:
        """Return who makes and recovers keys by `policy`."""
        return PunctualProvider(KmsProvider(lambda: self._connection(policy), self._read_uuid), self._deadline)

    def close(self) -> None:
        """Close every connection."""
        for _, connection in self._connections.values():
            connection.close()
        self._connections.clear()

    def _connection(self, policy: KmsPolicy) -> KmsConnection:
        known = self._connections.get(policy)
        if known is not None and policy.from_meta and not known[1].failed:
            return known[1]
        access = self._read_access(policy)
        if known is not None:
            if known[0] == access and not known[1].failed:
                return known[1]
            known[1].close()
        connection = self._connect(access)
        self._connections[policy] = (access, connection)
        return connection


def _slow(cause: str) -> KmsUnavailable:
    return unavailable(KmsReason.SLOW, cause)
