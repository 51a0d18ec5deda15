"""What went wrong between node and KMS, said once for people: gRPC's codes and texts turned into our errors.

gRPC says why TLS failed in a text only; what is not known here is shown as it is, since no text of it has a secret.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from luksctl.errors import KmsReason, KmsRejected, KmsUnavailable
from luksctl.hints import Final

# No clock that is right shows an earlier time than the day on which this was written: 2026-11-01.
RELEASED_S: Final = 1793491200
_LONGEST_DETAIL: Final = 300

# Part of gRPC's text → why, in its words and ours.
_TLS: Final = (
    ("certificate has expired", KmsReason.EXPIRED, "the certificate of the KMS has expired"),
    ("certificate is not yet valid", KmsReason.NOT_YET_VALID, "the certificate of the KMS is not valid yet"),
    ("Hostname Verification Check failed", KmsReason.WRONG_NAME, "the certificate of the KMS is for another name"),
    ("not in peer certificate", KmsReason.WRONG_NAME, "the certificate of the KMS is for another name"),
    ("WRONG_VERSION_NUMBER", KmsReason.NO_TLS, "what listens there does not speak TLS"),
    ("CERTIFICATE_VERIFY_FAILED", KmsReason.UNKNOWN_CA, "the certificate of the KMS is from an unknown authority"),
    ("security handshaker", KmsReason.TLS, "the certificates or the private key of this node cannot be used"),
    ("handshake failed", KmsReason.TLS, "TLS with the KMS failed"),
    ("CERTIFICATE_REQUIRED", KmsReason.NOT_ALLOWED, "the KMS asks for a certificate of this node"),
)
_HINTS: Final = {
    KmsReason.EXPIRED: "give the KMS a new certificate; and see that the clock of this node is right: timedatectl",
    KmsReason.NOT_YET_VALID: "see that the clock of this node is right: timedatectl",
    KmsReason.WRONG_NAME: "name the KMS in the config as its certificate does",
    KmsReason.NO_TLS: "a KMS without TLS has the scheme grpc://, and allowPlaintext in the policy",
    KmsReason.UNKNOWN_CA: "add its certificate authority: kms: {caFiles: [FILE]} in the policy, or TrustedRootsConfig",
    KmsReason.TLS: "openssl s_client -CAfile /run/luksctl/kms-roots.pem -connect HOST:PORT says more",
    KmsReason.NOT_ALLOWED: "name the files of one: kms: {clientCertificate: FILE, clientKey: FILE} in the policy",
    KmsReason.UNREACHABLE: "see that the KMS runs and that this node has a network",
    KmsReason.SLOW: "see that the KMS runs and that this node has a network",
}


def unavailable(reason: KmsReason, cause: str, note: str | None = None) -> KmsUnavailable:
    """Return the error for `reason` with what to do; `note` is what the operator wrote about this node's network."""
    hint = _HINTS.get(reason)
    if note is not None and reason in (KmsReason.UNREACHABLE, KmsReason.SLOW):
        hint = f"{hint} ({note})"
    return KmsUnavailable(cause, reason=reason, hint=hint)


def translate(
    code: str,
    details: str,
    where: str,
    note: str | None = None,
    *,
    node: str = "NODE",
    now: Callable[[], float] = time.time,
    clock_awaited: Callable[[], bool] = lambda: False,
) -> KmsUnavailable | KmsRejected:
    """Return our error for a call to `where` that ended with gRPC's `code` (its name) and text.

    `node` is what the KMS shows of this node; `clock_awaited` tells whether its clock is still to be synchronised.
    """
    said = _shortened(details)
    match code:
        case "UNAVAILABLE" | "UNKNOWN" if (found := _tls(details, where, now, clock_awaited)) is not None:
            return found
        case "UNAVAILABLE":
            return unavailable(KmsReason.UNREACHABLE, f"the KMS at {where} is not reached: {said}", note)
        case "DEADLINE_EXCEEDED":
            return unavailable(KmsReason.SLOW, f"the KMS at {where} did not answer in time", note)
        case "PERMISSION_DENIED" | "UNAUTHENTICATED":
            cause = f"the KMS at {where} does not serve this node (unknown, pending or revoked): {said}"
            hint = f"where the KMS runs: luksctl kms node allow {node}"
            return KmsUnavailable(cause, reason=KmsReason.NOT_ALLOWED, hint=hint)
        case "INVALID_ARGUMENT" | "NOT_FOUND" | "DATA_LOSS" | "FAILED_PRECONDITION":
            return KmsRejected(
                f"the KMS at {where} cannot unseal this key: {said}",
                reason=KmsReason.CANNOT_UNSEAL,
                hint="another KMS sealed it, or this one has lost the master key that it was sealed under",
            )
        case _:
            return unavailable(KmsReason.FAILED, f"the KMS at {where} failed: {code}: {said}")


def _tls(
    details: str, where: str, now: Callable[[], float], clock_awaited: Callable[[], bool]
) -> KmsUnavailable | None:
    found = next(((reason, words) for text, reason, words in _TLS if text.lower() in details.lower()), None)
    if found is None:
        return None
    reason, words = found
    wrong = now() < RELEASED_S
    if reason in (KmsReason.EXPIRED, KmsReason.NOT_YET_VALID) and (wrong or clock_awaited()):
        shown = time.strftime("%Y-%m-%d", time.gmtime(now()))
        how = "wrong" if wrong else "not synchronised yet"
        cause = f"the clock of this node is {how} ({shown}), so the certificate of the KMS at {where} cannot be judged"
        return KmsUnavailable(cause, reason=KmsReason.CLOCK, hint="set the clock: timedatectl, or the firmware's setup")
    explained = f" ({_shortened(details)})" if reason in (KmsReason.TLS, KmsReason.UNKNOWN_CA) else ""
    return unavailable(reason, f"{where}: {words}{explained}")


def _shortened(details: str) -> str:
    """Return the last part of gRPC's text, which says most, on one line."""
    text = " ".join(details.split()).rpartition("last error: ")[2]
    text = "".join(character if character.isprintable() else "?" for character in text)
    return text if len(text) <= _LONGEST_DETAIL else text[:_LONGEST_DETAIL] + "..."
