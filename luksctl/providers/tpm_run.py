"""The TPM for a whole run: one connection and one deadline, whatever volume and policy a key is of."""

from __future__ import annotations

from collections.abc import Callable

from luksctl.errors import TpmReason, TpmUnavailable
from luksctl.hints import final
from luksctl.model.config import ConfiguredKey, TpmPolicy
from luksctl.model.ports import KeyProvider
from luksctl.model.sealing import Vouching
from luksctl.providers.deadline import DEFAULT_TIMEOUT_S, Deadline, PunctualProvider
from luksctl.providers.tpm import SealedPcrs, TpmProvider
from luksctl.providers.tpm_connection import TpmConnection


@final
class TpmRun:
    """Give providers of tpm keys that answer in time: TpmUnavailable, SLOW, where the TPM does not.

    `sealed_pcrs` remembers what the PCRs held when keys were sealed.
    """

    def __init__(
        self,
        tell: Callable[[str], None] | None = None,
        connection: TpmConnection | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        *,
        sealed_pcrs: SealedPcrs | None = None,
    ) -> None:
        self._sealed_pcrs = sealed_pcrs
        self._connection = connection or TpmConnection()
        self._deadline = Deadline("the TPM", timeout_s, tell=tell, late=_slow)

    def provider(self, policy: TpmPolicy) -> KeyProvider:
        """Return who makes and recovers keys under `policy`."""
        provider = TpmProvider(self._connection, policy, sealed_pcrs=self._sealed_pcrs)
        return PunctualProvider(provider, self._deadline)

    def vouching(self, policy: TpmPolicy, key: ConfiguredKey, token: str | None) -> Vouching:
        """Say of `key` under `policy` what TpmProvider says, in time."""
        provider = TpmProvider(self._connection, policy)
        return self._deadline.run(lambda: provider.vouching(key, token), lambda _: None)

    def deviation(self, policy: TpmPolicy, key: ConfiguredKey, token: str | None) -> str | None:
        """Say how `token` is not bound as `key` and `policy` want it, or None; the TPM is not asked."""
        return TpmProvider(self._connection, policy).deviation(key, token)


def _slow(cause: str) -> TpmUnavailable:
    hint = "luksctl retry tries again; a TPM that stays silent needs the machine powered off and on"
    return TpmUnavailable(cause, reason=TpmReason.SLOW, hint=hint)
