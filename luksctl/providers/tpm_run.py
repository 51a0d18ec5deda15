"""The TPM for a whole run: one connection and one deadline, whatever volume and policy a key is of."""

from __future__ import annotations

from collections.abc import Callable

from luksctl.errors import TpmReason, TpmUnavailable
from luksctl.hints import final
from luksctl.model.config import ConfiguredKey, TpmPolicy
from luksctl.model.ports import KeyProvider
from luksctl.model.sealing import Vouching
from luksctl.providers.deadline import DEFAULT_TIMEOUT_S, Deadline, PunctualProvider
from luksctl.providers.tpm import TpmProvider
from luksctl.providers.tpm_connection import TpmConnection


@final
class TpmRun:
    """Give providers of tpm keys that answer in time: TpmUnavailable, SLOW, where the TPM does not."""

    def __init__(
        self,
        tell: Callable[[str], None] | None = None,
        connection: TpmConnection | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        self._connection = connection or TpmConnection()
        self._deadline = Deadline("the TPM", timeout_s, tell=tell, late=_slow)

    def provider(self, policy: TpmPolicy) -> KeyProvider:
        """Return who makes and recovers keys under `policy`."""
        return PunctualProvider(TpmProvider(self._connection, policy), self._deadline)

    def vouching(self, policy: TpmPolicy, key: ConfiguredKey, token: str | None) -> Vouching:
        """Say of `key` under `policy` what TpmProvider says, in time."""
        provider = TpmProvider(self._connection, policy)
        return self._deadline.run(lambda: provider.vouching(key, token), lambda _: None)


def _slow(cause: str) -> TpmUnavailable:
    hint = "luksctl retry tries again; a TPM that stays silent needs the machine powered off and on"
    return TpmUnavailable(cause, reason=TpmReason.SLOW, hint=hint)
