"""What a config with kms keys says about reaching the KMS, all its documents together; and what is unwise about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from luksctl.config.clock import read_clock_wait_s
from luksctl.config.endpoint import read_endpoint
from luksctl.config.report import Report
from luksctl.config.roots import read_roots
from luksctl.config.split import Document
from luksctl.model.config import STATE, KeyKind, KmsPolicy, VolumeEncryption
from luksctl.value import replace


def read_reach(
    documents: Sequence[Document], policy: KmsPolicy, wanted: Mapping[str, VolumeEncryption], report: Report
) -> KmsPolicy:
    """Return `policy` with the certificate authorities of all documents; notes problems and warnings of the rest."""
    roots = tuple(dict.fromkeys(root for document in documents for root in read_roots(document)))
    _judge_plaintext(policy, report)
    state = wanted.get(STATE)
    if state is not None and any(key.kind is KeyKind.KMS for key in state.keys) and policy.has_credential:
        report.warn(
            f"{STATE}: what this node shows the KMS (clientKey, tokenFile) is kept in META, sealed in the TPM where "
            "there is one; without a TPM the disk carries its own KMS credential"
        )
    return replace(policy, roots=roots, clock_wait_s=read_clock_wait_s(documents, report))


def _judge_plaintext(policy: KmsPolicy, report: Report) -> None:
    for line, path, text in report.endpoints:
        endpoint = read_endpoint(text)
        if endpoint is None or endpoint.tls:
            continue
        if not endpoint.loopback and not policy.allow_plaintext:
            message = f"{text!r} is plain text: whoever is on the way to the KMS reads the keys"
            report.error(
                line, path, message, "write https://HOST:PORT, or set kms: {allowPlaintext: true} in the policy"
            )
        else:
            report.warn(f"the KMS at {text} is asked in plain text: whoever is on the way reads the keys")
        if policy.token_file is not None:
            report.error(
                line, path, f"{text!r} is plain text, and the token of tokenFile is never sent so", "use https"
            )
