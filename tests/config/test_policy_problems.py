"""Every problem of an EncryptionPolicy document, with its line and path."""

from __future__ import annotations

import pytest

from tests.config.reading import problems

HEAD = "apiVersion: luksctl/v1alpha1\nkind: EncryptionPolicy\n"
ENDPOINTS = "EncryptionPolicy.kms.endpoints[0]"
BY_KIND = "EncryptionPolicy.kdfByKind"

# What stands from line 3 on, then the line, the path, and parts of message and hint.
POLICIES = [
    ("kdf: {time: 3}\n", 3, "EncryptionPolicy.kdf.time", "3 is outside 4-4096", ""),
    ("kdf: {time: 0}\n", 3, "EncryptionPolicy.kdf.time", "0 is outside 4-4096", ""),
    ("kdf: {time: 5000}\n", 3, "EncryptionPolicy.kdf.time", "5000 is outside 4-4096", ""),
    ("kdf: {threads: 5}\n", 3, "EncryptionPolicy.kdf.threads", "5 is outside 1-4", ""),
    ("kdf: {threads: 0}\n", 3, "EncryptionPolicy.kdf.threads", "0 is outside 1-4", ""),
    ("kdf: {memory: 31KiB}\n", 3, "EncryptionPolicy.kdf.memory", "31 KiB is outside 32 KiB-4 GiB", ""),
    ("kdf: {memory: 0B}\n", 3, "EncryptionPolicy.kdf.memory", "0 B is outside", ""),
    ("kdf: {memory: 5GiB}\n", 3, "EncryptionPolicy.kdf.memory", "5 GiB is outside", ""),
    ("kdf: {memory: 65537B}\n", 3, "EncryptionPolicy.kdf.memory", "not a whole number of KiB", ""),
    ("kdf: {memory: 64MB}\n", 3, "EncryptionPolicy.kdf.memory", "not a size: '64MB'", ""),
    ("kdf: {memory: 65536}\n", 3, "EncryptionPolicy.kdf.memory", "must be text, not a number", "quotes"),
    ("kdf: {time: 4096, memory: 4GiB}\n", 3, "EncryptionPolicy.kdf", "more than 128 GiB", ""),
    ("kdfByKind:\n  kms: {}\n  nodeID: {time: 3}\n", 5, f"{BY_KIND}.nodeID.time", "3 is outside 4-4096", ""),
    ("kdfByKind:\n  kms: {memory: 1KiB}\n", 4, f"{BY_KIND}.kms.memory", "1 KiB is outside 32 KiB-4 GiB", ""),
    ("kdfByKind:\n  tpm: {threads: 9}\n", 4, f"{BY_KIND}.tpm.threads", "9 is outside 1-4", ""),
    ("kdfByKind: {nodeid: {time: 4}}\n", 3, f"{BY_KIND}.nodeid", "unknown field 'nodeid'", "mean nodeID?"),
    ("kdfByKind: {recovery: 4}\n", 3, f"{BY_KIND}.recovery", "must be a mapping", ""),
    ("kdfByKind:\n  static: {time: 4096, memory: 4GiB}\n", 4, f"{BY_KIND}.static", "more than 128 GiB", ""),
    ("kdf: {iterations: 4}\n", 3, "EncryptionPolicy.kdf.iterations", "unknown field", "time, memory"),
    ("formatRequires: each\n", 3, "EncryptionPolicy.formatRequires", "'each' is none of any, all", ""),
    ("formatRequires: true\n", 3, "EncryptionPolicy.formatRequires", "must be text", "quotes"),
    ("prune: 'no'\n", 3, "EncryptionPolicy.prune", "must be true or false", "without quotes"),
    ("talosReadable: 1\n", 3, "EncryptionPolicy.talosReadable", "must be true or false", ""),
    ("filesystems: {STATE: ext3}\n", 3, "EncryptionPolicy.filesystems.STATE", "none of xfs, ext4", "ext4?"),
    ("filesystems: {META: xfs}\n", 3, "EncryptionPolicy.filesystems.META", "unknown field", "STATE, EPHEM"),
    ("headerBackup: {}\n", 3, "EncryptionPolicy.headerBackup.recipient", "recipient is missing", "openssl"),
    ("headerBackup: {recipient: 4}\n", 3, "EncryptionPolicy.headerBackup.recipient", "must be text", ""),
    ("headerBackup: {recipient: me}\n", 3, "EncryptionPolicy.headerBackup.recipient", "no public key", "openssl"),
    (
        "headerBackup:\n  recipient: '-----BEGIN OPENSSH PRIVATE KEY-----'\n",
        4,
        "EncryptionPolicy.headerBackup.recipient",
        "this is a private key",
        "openssl",
    ),
    (
        "headerBackup: {recipient: 'ssh-rsa AAAA', to: me}\n",
        3,
        "EncryptionPolicy.headerBackup",
        "unknown field",
        "fields: recipient",
    ),
    ("tpm: {reseal: always}\n", 3, "EncryptionPolicy.tpm.reseal", "'always' is none of auto, ask, never", ""),
    ("tpm: {reseal: nver}\n", 3, "EncryptionPolicy.tpm.reseal", "'nver' is none of", "never?"),
    ("tpm:\n  literalPCR: true\n", 4, "EncryptionPolicy.tpm.literalPCR", "unknown field", "mean literalPCRs?"),
    ("tpm: {literalPCRs: 'yes'}\n", 3, "EncryptionPolicy.tpm.literalPCRs", "must be true or false", "quotes"),
    ("tpm:\n  publicKeys: key.pem\n", 4, "EncryptionPolicy.tpm.publicKeys", "must be a list, not text", "dash"),
    ("tpm:\n  publicKeys:\n  - key.pem\n", 5, "EncryptionPolicy.tpm.publicKeys[0]", "not a path from", "/etc/"),
    ("tpm:\n  signatures: [/a, b]\n", 4, "EncryptionPolicy.tpm.signatures[1]", "'b' is not a path", "/etc/"),
    ("tpm:\n  signatures: [/a]\n  literalPCRs: true\n", 5, "EncryptionPolicy.tpm.literalPCRs", "no effect", "one"),
    ("tpm: auto\n", 3, "EncryptionPolicy.tpm", "must be a mapping, not text", ""),
    ("kms: {allowPlaintext: 'yes'}\n", 3, "EncryptionPolicy.kms.allowPlaintext", "must be true or false", "quotes"),
    ("kms:\n  caFile: [/a]\n", 4, "EncryptionPolicy.kms.caFile", "unknown field", "mean caFiles?"),
    ("kms:\n  caFiles: [/a, b]\n", 4, "EncryptionPolicy.kms.caFiles[1]", "'b' is not a path", "/etc/"),
    ("kms:\n  clientKey: /a\n", 4, "EncryptionPolicy.kms.clientKey", "without clientCertificate", "both files"),
    ("kms:\n  clientCertificate: /a\n", 4, "EncryptionPolicy.kms.clientCertificate", "without clientKey", "both"),
    ("kms:\n  tokenFile: token\n", 4, "EncryptionPolicy.kms.tokenFile", "'token' is not a path", "/etc/"),
    ("kms:\n  network: |\n    a\n    b\n", 4, "EncryptionPolicy.kms.network", "on one line", ""),
    ("kms:\n  endpoints: [{also: [https://h]}]\n", 4, f"{ENDPOINTS}.endpoint", "endpoint is missing", "the key"),
    ("kms:\n  endpoints:\n  - {endpoint: ':', also: []}\n", 5, f"{ENDPOINTS}.endpoint", "not an endpoint", "https:"),
    ("kms:\n  endpoints:\n  - endpoint: https://a\n    also: [':']\n", 6, f"{ENDPOINTS}.also[0]", "not an end", "http"),
    ("name: mine\n", 3, "EncryptionPolicy/mine.name", "unknown field 'name'", "kdf"),
]


@pytest.mark.parametrize(("text", "line", "path", "message", "hint"), POLICIES)
def test_one_problem(text: str, line: int, path: str, message: str, hint: str) -> None:
    """The document has exactly this problem, at this line and path, with this hint."""
    found = problems((HEAD + text).encode())
    assert [(problem.file, problem.line, problem.path) for problem in found] == [("machine.yaml", line, path)]
    assert message in found[0].message
    assert hint in (found[0].hint or "")
