"""What unseals a key now, or why nothing does: computed from PCR values, keys and signatures, without the TPM."""

from __future__ import annotations

from luksctl.errors import PcrChange, TpmReason, TpmRejected
from luksctl.hints import Final
from luksctl.providers.tpm_device import Approval
from luksctl.providers.tpm_eventlog import read_measured
from luksctl.providers.tpm_phases import Phase, find_phase
from luksctl.providers.tpm_policy import SIGNED_PCR, PcrValues, Policy, policy_digest
from luksctl.providers.tpm_signatures import PcrKey, SignedPolicy
from luksctl.value import frozen

_UNMEASURED: Final = (bytes(32), b"\xff" * 32)
_BOOT_SIGNED: Final = (
    "boot an image that was signed with that key; a TPM key opens before the phases after its own begin"
)
_NEXT_BOOT: Final = "nothing is wrong: tpm keys are made and opened early in the boot, and the next one does it"


@frozen
class Proof:
    """One way to fulfil a policy now: its digest, and who approved PCR 11 where the policy is signed."""

    digest: bytes
    approval: Approval | None


def expect_measured(policy: Policy, values: PcrValues) -> None:
    """Raise TpmRejected where a PCR of `policy` holds only zeros or only ones: then nothing was measured into it."""
    blank = [pcr for pcr in policy.pcrs if values[pcr] in _UNMEASURED]
    if not blank:
        return
    named = ", ".join(map(str, blank))
    hint = (
        "a signed PCR policy needs a unified kernel image (systemd-stub); without one: tpm: {literalPCRs: true}"
        if SIGNED_PCR in blank
        else "firmware measures into PCR 0 to 7 where its TPM support is on; choose other pcrs for the key"
    )
    raise TpmRejected(
        f"nothing was measured into PCR {named}, so it says nothing about what was booted",
        reason=TpmReason.NOT_MEASURED,
        pcrs=tuple(PcrChange(pcr, values[pcr].hex()) for pcr in blank),
        hint=hint,
    )


def proofs_to_seal(policy: Policy, node: SignedPolicy, values: PcrValues) -> tuple[Proof, ...]:
    """Return what a new key can be sealed to, best first; TpmRejected where that is nothing."""
    if not policy.signed:
        return (Proof(policy_digest(policy, None, values), None),)
    if not node.keys:
        raise TpmRejected(
            "this node has no signed PCR policy: no public key was found" + _problems(node),
            reason=TpmReason.NO_SIGNED_POLICY,
            hint="build the image with systemd-measure's key and signatures, or say tpm: {literalPCRs: true}",
        )
    return _approved(policy, node.keys, node, values)


def proofs_to_unseal(
    policy: Policy, policy_hash: bytes, node: SignedPolicy, values: PcrValues, past: PcrValues | None
) -> tuple[Proof, ...]:
    """Return what may unseal a key that was sealed to `policy_hash`; TpmRejected says why nothing does.

    `past` is what the PCRs held when it was sealed, where that was noted; a note that lacks one of them is none.
    """
    if past is not None and not past.keys() >= set(policy.bound):
        past = None
    if not policy.signed:
        if policy_digest(policy, None, values) != policy_hash:
            raise _changed(policy, values, past)
        return (Proof(policy_hash, None),)
    keys = _keys_of(policy, policy_hash, node, values)
    if keys:
        return _approved(policy, keys, node, values)
    known_before = past is not None and _keys_of(policy, policy_hash, node, past)
    if known_before or (past is None and policy.bound and node.keys):
        raise _changed(policy, values, past)
    cause = "the key was sealed for a signing key that is not on this node" + _problems(node)
    raise TpmRejected(
        cause,
        reason=TpmReason.KEY_UNKNOWN,
        hint="bring its public key back (tpm.publicKeys), or seal the key anew",
    )


def digest_of_signed_phase(policy: Policy, node: SignedPolicy, values: PcrValues) -> bytes:
    """Return what a key would have been sealed to in the phase that was signed, where `proofs_to_seal` says PHASE_OVER.

    By the first key that claims a phase of this image, which is the one that the next boot finds first.
    """
    measured = read_measured(SIGNED_PCR, node.event_log)
    key = next(key for key in node.keys if _phase(node, (key,), values, measured).over)
    return policy_digest(policy, key.name, values)


def _phase(node: SignedPolicy, keys: tuple[PcrKey, ...], values: PcrValues, measured: bytes | None) -> Phase:
    signed = [entry.digest for key in keys for entry in node.signatures_of(key)]
    return find_phase(values[SIGNED_PCR], signed, measured)


def _keys_of(policy: Policy, policy_hash: bytes, node: SignedPolicy, values: PcrValues) -> tuple[PcrKey, ...]:
    return tuple(key for key in node.keys if policy_digest(policy, key.name, values) == policy_hash)


def _approved(policy: Policy, keys: tuple[PcrKey, ...], node: SignedPolicy, values: PcrValues) -> tuple[Proof, ...]:
    proofs = tuple(
        Proof(policy_digest(policy, key.name, values), Approval(key.public, entry.digest, entry.signature))
        for key in keys
        for entry in node.approvals(key, values)
    )
    if proofs:
        return proofs
    signed = any(True for key in keys for _ in node.signatures_of(key))
    change = PcrChange(SIGNED_PCR, values[SIGNED_PCR].hex())
    phase = _phase(node, keys, values, read_measured(SIGNED_PCR, node.event_log))
    if phase.over:
        raise TpmRejected(str(phase), reason=TpmReason.PHASE_OVER, pcrs=(change,), hint=_NEXT_BOOT)
    if not node.signatures:
        told = f"no signature was found at all{phase.place}"
    else:
        told = str(phase) if signed else f"what was found is signed by other keys only{phase.place}"
    raise TpmRejected(
        f"no signature fits what PCR {SIGNED_PCR} holds: {told}" + _problems(node),
        reason=TpmReason.NO_SIGNATURE,
        pcrs=(change,),
        hint=_BOOT_SIGNED,
    )


def _changed(policy: Policy, values: PcrValues, past: PcrValues | None) -> TpmRejected:
    """Return the error for PCRs that are not what they were; without `past`, all that are bound are named."""
    changes = tuple(
        PcrChange(pcr, values[pcr].hex(), None if past is None else past[pcr].hex())
        for pcr in policy.bound
        if past is None or past[pcr] != values[pcr]
    )
    named = "; ".join(map(str, changes))
    if past is None and len(changes) > 1:
        cause = f"one or more of these PCRs changed since the key was sealed: {named}"
    else:
        cause = f"changed since the key was sealed: {named}"
    if past is None and policy.signed:
        cause += " (or it was sealed for a signing key that is not on this node)"
    return TpmRejected(cause, reason=TpmReason.PCR_MISMATCH, pcrs=changes)


def _problems(node: SignedPolicy) -> str:
    return f" ({'; '.join(node.problems)})" if node.problems else ""
