"""The tpm provider: 32 random bytes sealed in the TPM, their base64 text is the key, as Talos makes it.

The policy is Talos' own: PCR 11 as some known key signed it (PolicyAuthorize), and the listed PCRs as they are now
(PolicyPCR). Which part of it fails is found by computing the policy here, before the TPM is asked to unseal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from luksctl.errors import LuksctlError, TokenInvalid, TpmReason, TpmRejected, TpmUnavailable
from luksctl.hints import Final, Protocol, final
from luksctl.model.config import ConfiguredKey, TpmKey, TpmPolicy
from luksctl.model.ports import MadeKey
from luksctl.model.sealing import Vouching
from luksctl.providers.secure_boot import EFIVARS, read_secure_boot
from luksctl.providers.tpm_connection import TpmConnection
from luksctl.providers.tpm_device import SEALED_BYTES, Sealed, Tpm, another_tpm
from luksctl.providers.tpm_eventlog import EVENT_LOG
from luksctl.providers.tpm_files import DIRECTORIES, PolicyFiles
from luksctl.providers.tpm_judge import (
    Proof,
    digest_of_signed_phase,
    expect_measured,
    proofs_to_seal,
    proofs_to_unseal,
)
from luksctl.providers.tpm_policy import SIGNED_PCR, PcrValues, Policy
from luksctl.providers.tpm_signatures import SignedPolicy
from luksctl.providers.tpm_text import base64_text
from luksctl.providers.tpm_token import TpmToken, read_token, write_token
from luksctl.secret import Secret

DEFAULT_PCRS: Final = (7,)
_NOT_VOUCHED: Final = frozenset(
    {TpmReason.NO_SIGNED_POLICY, TpmReason.NO_SIGNATURE, TpmReason.PHASE_OVER, TpmReason.NOT_MEASURED}
)
# What only a fresh key mends, once another one opened the volume.
_FOR_A_FRESH_KEY: Final = frozenset({TpmReason.PCR_MISMATCH, TpmReason.SRK_CHANGED, TpmReason.DAMAGED})


class SealedPcrs(Protocol):
    """Where PCR values at sealing are noted, so that a mismatch can name old and new; by the policy's digest."""

    def note(self, policy_hash: bytes, values: PcrValues) -> None:
        """Remember that a key was sealed to `policy_hash` while the PCRs held `values`."""

    def recall(self, policy_hash: bytes) -> PcrValues | None:
        """Return the values that were noted for `policy_hash`, or None."""


@final
class TpmProvider:
    """Keys from the TPM behind `connection`, under the signed PCR policy that `policy` names or systemd's places hold.

    `make` and `recover` raise TpmUnavailable while the TPM is absent, busy, slow or locked, and TpmRejected with its
    reason where it says no. Nothing here has a deadline: luksctl.providers.deadline gives one.
    """

    def __init__(
        self,
        connection: TpmConnection,
        policy: TpmPolicy | None = None,
        *,
        directories: tuple[str, ...] = DIRECTORIES,
        efivars: str = EFIVARS,
        event_log: str = EVENT_LOG,
        sealed_pcrs: SealedPcrs | None = None,
    ) -> None:
        self._connection = connection
        self._policy = policy or TpmPolicy()
        self._files = PolicyFiles(self._policy.public_keys, self._policy.signatures, directories, event_log)
        self._efivars = efivars
        self._sealed_pcrs = sealed_pcrs

    def make(self, volume: str, key: ConfiguredKey) -> MadeKey:
        """Seal a fresh key to the present state of this machine, and see that it can be unsealed."""
        source = _tpm_key(key)
        with _placed(volume, key), self._connection.use() as tpm:
            self._expect_secure_boot(source)
            policy = self._policy_for(source)
            values = _measured(tpm, policy)
            return self._sealed(tpm, key.slot, policy, values)

    def recover(self, volume: str, key: ConfiguredKey, token: str | None) -> Iterator[Secret]:
        """Unseal the key in `token`; it is one candidate."""
        _tpm_key(key)
        with _placed(volume, key):
            read = read_token(token)
            with self._connection.use() as tpm:
                values = _measured(tpm, read.policy)
                with self._unsealed(tpm, read, values) as content:
                    return iter((base64_text(content),))

    def explain_rejection(self, volume: str, key: ConfiguredKey) -> str | None:  # noqa: ARG002
        """Return None: a key that was unsealed says nothing about why it does not fit."""
        return None

    def vouching(self, key: ConfiguredKey, token: str | None) -> Vouching:
        """Say what a key made now would be bound to, and whether the code that runs is vouched for.

        It is where Secure Boot is enforced and a known key signed what PCR 11 holds, by the TPM's own check. `policy`
        and `was` stand for a policy in one TPM. Raises as `make`, except PHASE_OVER, which is `late`.
        """
        source = _tpm_key(key)
        with self._connection.use() as tpm:
            policy = self._policy_for(source)
            digest, late = self._digest_to_seal(tpm, policy)
            return Vouching(
                policy=_state(digest, tpm.srk_name()),
                was=_state_of_token(token),
                holds=read_secure_boot(self._efivars).enforced and self._is_signed(tpm),
                late=late,
            )

    def deviation(self, key: ConfiguredKey, token: str | None) -> str | None:
        """Say how `token` is not bound to the PCRs of `key`, or None; raises TokenInvalid. The TPM is not asked.

        Signed or literal is not compared: META, from which STATE opens, does not know which the policy wants.
        """
        wanted, found = _bound(_tpm_key(key)), read_token(token).policy.bound
        return None if found == wanted else f"it is bound to {_named(found)}, and the config says {_named(wanted)}"

    def _digest_to_seal(self, tpm: Tpm, policy: Policy) -> tuple[bytes, bool]:
        values, node = _measured(tpm, policy), self._node(policy)
        try:
            return _first_verified(tpm, proofs_to_seal(policy, node, values)).digest, False
        except TpmRejected as error:
            if error.reason is not TpmReason.PHASE_OVER:
                raise
            return digest_of_signed_phase(policy, node, values), True

    def _is_signed(self, tpm: Tpm) -> bool:
        policy = Policy(signed=True, bound=())
        try:
            proofs = proofs_to_seal(policy, self._node(policy), _measured(tpm, policy))
        except TpmRejected as error:
            if error.reason in _NOT_VOUCHED:
                return False
            raise
        return any(_verifies(tpm, proof) for proof in proofs)

    def _node(self, policy: Policy) -> SignedPolicy:
        return self._files.read() if policy.signed else SignedPolicy()

    def _policy_for(self, source: TpmKey) -> Policy:
        policy = Policy(not self._policy.literal_pcrs, _bound(source))
        if not policy.pcrs:
            raise TpmRejected(
                "literalPCRs with an empty list of pcrs binds the key to nothing",
                reason=TpmReason.NO_SIGNED_POLICY,
                hint="name pcrs in the options of the key, or use a signed PCR policy",
            )
        return policy

    def _expect_secure_boot(self, source: TpmKey) -> None:
        if not source.check_secureboot_on_enroll:
            return
        state = read_secure_boot(self._efivars)
        if not state.enforced:
            raise TpmRejected(
                f"the key asks for Secure Boot when it is made: {state}",
                reason=TpmReason.NOT_SECURE_BOOT,
                hint="switch Secure Boot on in the firmware's setup, or take checkSecurebootStatusOnEnroll out",
            )

    def _sealed(self, tpm: Tpm, slot: int, policy: Policy, values: PcrValues) -> MadeKey:
        proof = _first_verified(tpm, proofs_to_seal(policy, self._node(policy), values))
        with Secret.random(SEALED_BYTES) as content:
            sealed = tpm.seal(content, proof.digest)
            with _unsealed_as_it_was(tpm, sealed, policy, values, proof) as again:
                if again != content:
                    raise TpmUnavailable("the TPM gave back another key than it was given", reason=TpmReason.FAILED)
            made = base64_text(content)
        if self._sealed_pcrs is not None:
            self._sealed_pcrs.note(proof.digest, values)
        signed = (SIGNED_PCR,) if policy.signed else ()
        token = TpmToken(slot, sealed.private, sealed.public, policy.bound, signed, proof.digest, sealed.srk_name)
        return MadeKey(made, write_token(token))

    def _unsealed(self, tpm: Tpm, token: TpmToken, values: PcrValues) -> Secret:
        past = None if self._sealed_pcrs is None else self._sealed_pcrs.recall(token.policy_hash)
        try:
            proofs = proofs_to_unseal(token.policy, token.policy_hash, self._node(token.policy), values, past)
        except TpmRejected:
            # Another TPM explains more than another PCR.
            if tpm.srk_name() != token.srk_name:
                raise another_tpm() from None
            raise
        sealed = Sealed(token.private, token.public, token.srk_name)
        return _unsealed_as_it_was(tpm, sealed, token.policy, values, _first_verified(tpm, proofs))


def _measured(tpm: Tpm, policy: Policy) -> PcrValues:
    tpm.check_bank()
    values = tpm.pcr_values(policy.pcrs)
    expect_measured(policy, values)
    return values


def _first_verified(tpm: Tpm, proofs: tuple[Proof, ...]) -> Proof:
    """Return the first whose signature holds; the last is not looked at, since the TPM will when it is used."""
    *others, last = proofs
    return next((proof for proof in others if _verifies(tpm, proof)), last)


def _verifies(tpm: Tpm, proof: Proof) -> bool:
    if proof.approval is None:
        return True
    try:
        tpm.verify(proof.approval)
    except TpmRejected as error:
        if error.reason is TpmReason.NO_SIGNATURE:
            return False
        raise
    return True


def _unsealed_as_it_was(tpm: Tpm, sealed: Sealed, policy: Policy, values: PcrValues, proof: Proof) -> Secret:
    """Unseal by `proof`, which holds for `values`; where it failed and they moved on meanwhile, that is the reason."""
    try:
        return tpm.unseal(sealed, policy, proof.approval)
    except (TpmRejected, TpmUnavailable) as error:
        if error.reason is TpmReason.SRK_CHANGED or tpm.pcr_values(policy.pcrs) == values:
            raise
        raise TpmUnavailable(
            "a PCR was extended while the key was unsealed", reason=TpmReason.BUSY, hint="luksctl retry tries again"
        ) from error


def _state(policy_hash: bytes, srk_name: bytes) -> str:
    """Return what stands for a policy in one TPM: another TPM makes another state, with the same PCRs, too."""
    return hashlib.sha256(srk_name + policy_hash).hexdigest()


def _state_of_token(text: str | None) -> str | None:
    try:
        token = read_token(text)
    except TokenInvalid:
        return None
    return _state(token.policy_hash, token.srk_name)


@contextmanager
def _placed(volume: str, key: ConfiguredKey) -> Iterator[None]:
    """Say in every error which slot it is about, and what to do where that takes its name."""
    try:
        yield
    except LuksctlError as error:
        error.volume, error.slot = volume, key.slot
        if error.hint is None and isinstance(error, TpmRejected) and error.reason in _FOR_A_FRESH_KEY:
            error.hint = f"once another key opened it: luksctl keys rotate {volume} --slot {key.slot}"
        raise


def _bound(source: TpmKey) -> tuple[int, ...]:
    return DEFAULT_PCRS if source.pcrs is None else tuple(sorted(set(source.pcrs)))


def _named(pcrs: tuple[int, ...]) -> str:
    return f"PCR {', '.join(map(str, pcrs))}" if pcrs else "no listed PCR"


def _tpm_key(key: ConfiguredKey) -> TpmKey:
    if not isinstance(key.source, TpmKey):
        raise TypeError(f"the tpm provider was given a {key.kind} key")
    return key.source
