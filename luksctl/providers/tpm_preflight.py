"""Whether a tpm key will open at the next boot: the image that comes brings other signatures, firmware other PCRs.

Computed from the token, the files and what the operator foresees; the TPM is asked for what stays as it is, and whether
a signature is one. Nothing is unsealed: a key whose PCR 11 phase is over would not be given out now.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from luksctl.errors import TokenInvalid, TpmReason, TpmRejected
from luksctl.hints import final
from luksctl.model.config import TpmPolicy
from luksctl.providers.tpm_connection import TpmConnection
from luksctl.providers.tpm_device import Approval, Tpm, another_tpm
from luksctl.providers.tpm_files import DIRECTORIES, PolicyFiles
from luksctl.providers.tpm_policy import SIGNED_PCR, PcrValues, pcr_policy, policy_digest
from luksctl.providers.tpm_signatures import PcrKey, PcrSignature, SignedPolicy
from luksctl.providers.tpm_token import TpmToken, read_token
from luksctl.value import frozen


@frozen
class Forecast:
    """Whether the key will open, and why or why not, as a sentence without a full stop."""

    opens: bool
    because: str


@final
class TpmPreflight:
    """Look ahead on the TPM behind `connection`, with the files that `policy` names or systemd's places hold.

    `signatures` are signature files of the image that comes; without any, those of the node count. `foreseen` are the
    PCR values (32 bytes each) that are known beforehand; all others stay as they are.
    """

    def __init__(
        self,
        connection: TpmConnection,
        policy: TpmPolicy,
        *,
        signatures: tuple[str, ...] = (),
        foreseen: Mapping[int, bytes] | None = None,
        directories: tuple[str, ...] = DIRECTORIES,
    ) -> None:
        self._connection = connection
        self._files = PolicyFiles(policy.public_keys, signatures or policy.signatures, directories)
        self._foreseen = dict(foreseen or {})

    def forecast(self, token: str | None) -> Forecast:
        """Say whether the key in `token` will open; TpmUnavailable where the TPM cannot be asked."""
        try:
            read = read_token(token)
            with self._connection.use() as tpm:
                return self._forecast(tpm, read)
        except (TokenInvalid, TpmRejected) as error:
            return Forecast(opens=False, because=error.cause)

    def _forecast(self, tpm: Tpm, token: TpmToken) -> Forecast:
        tpm.check_bank()
        if tpm.srk_name() != token.srk_name:
            raise another_tpm()
        now = tpm.pcr_values(token.policy.bound) if token.policy.bound else {}
        values = {**now, **self._foreseen}
        if token.policy.signed:
            return self._signed(tpm, token, values)
        if policy_digest(token.policy, None, values) != token.policy_hash:
            return _changed(token)
        return Forecast(opens=True, because=f"{_named(token)} will be as it was")

    def _signed(self, tpm: Tpm, token: TpmToken, values: PcrValues) -> Forecast:
        node = self._files.read()
        told = f" ({'; '.join(node.problems)})" if node.problems else ""
        if not node.keys:
            return Forecast(opens=False, because=f"no public key of a signed PCR policy was found{told}")
        keys = [key for key in node.keys if policy_digest(token.policy, key.name, values) == token.policy_hash]
        if not keys:
            changed = _changed(token).because if token.policy.bound else "no key here is the one that it was sealed for"
            return Forecast(opens=False, because=changed + told)
        good = [entry for key in keys for entry in self._valid(tpm, key, node)]
        if not good:
            return Forecast(opens=False, because=f"the image has no valid signature by a key that counts{told}")
        if SIGNED_PCR not in self._foreseen:
            return Forecast(opens=True, because=f"PCR {SIGNED_PCR} is signed for {len(good)} value(s)")
        wanted = pcr_policy(self._foreseen, (SIGNED_PCR,))
        if any(entry.digest == wanted for entry in good):
            return Forecast(opens=True, because=f"the value given for PCR {SIGNED_PCR} is signed")
        return Forecast(opens=False, because=f"no signature is for the value given for PCR {SIGNED_PCR}")

    def _valid(self, tpm: Tpm, key: PcrKey, node: SignedPolicy) -> Iterator[PcrSignature]:
        for entry in node.signatures_of(key):
            try:
                tpm.verify(Approval(key.public, entry.digest, entry.signature))
            except TpmRejected as error:
                if error.reason is not TpmReason.NO_SIGNATURE:
                    raise
            else:
                yield entry


def _named(token: TpmToken) -> str:
    return f"PCR {', '.join(map(str, token.policy.bound))}"


def _changed(token: TpmToken) -> Forecast:
    because = f"{_named(token)} will not be what it was when the key was sealed"
    if token.policy.signed:
        because += ", or the key was sealed for a signing key that is not here"
    return Forecast(opens=False, because=because)
