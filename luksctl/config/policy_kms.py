"""The kms block of the EncryptionPolicy document: how the KMS is reached, and how the node shows who it is."""

from __future__ import annotations

from luksctl.config.block import Block
from luksctl.config.endpoint import endpoint_problem
from luksctl.config.spelling import path_problem
from luksctl.hints import Final
from luksctl.model.config import KmsPolicy

_FIELDS: Final = (
    "allowPlaintext",
    "endpoints",
    "caFiles",
    "clientCertificate",
    "clientKey",
    "tokenFile",
    "network",
)
MAX_NOTE_CHARACTERS: Final = 200
MAX_ENDPOINTS: Final = 8


def read_kms_policy(block: Block | None) -> KmsPolicy:
    """Return what `block` says; a field that is absent or has a problem keeps its default."""
    if block is None:
        return KmsPolicy()
    block.refuse_unknown(_FIELDS)
    certificate, key = _path(block, "clientCertificate"), _path(block, "clientKey")
    for one, other in (("clientCertificate", "clientKey"), ("clientKey", "clientCertificate")):
        if block.given(one) and not block.given(other):
            block.error(one, f"{one} without {other}", "a node shows a certificate by its private key: name both files")
    return KmsPolicy(
        allow_plaintext=bool(block.flag("allowPlaintext")),
        alternatives=_alternatives(block),
        ca_files=block.texts("caFiles", path_problem) or (),
        client_certificate=certificate,
        client_key=key,
        token_file=_path(block, "tokenFile"),
        network=_note(block),
    )


def _path(block: Block, name: str) -> str | None:
    path = block.text(name)
    complaint = None if path is None else path_problem(path)
    if complaint is not None:
        block.error(name, *complaint)
        return None
    return path


def _note(block: Block) -> str | None:
    note = block.text("network")
    if note is not None and (len(note) > MAX_NOTE_CHARACTERS or "\n" in note):
        block.error("network", f"a note for people, on one line of at most {MAX_NOTE_CHARACTERS} characters")
    return note


def _alternatives(block: Block) -> tuple[tuple[str, tuple[str, ...]], ...]:
    found: dict[str, tuple[str, ...]] = {}
    for entry in block.blocks("endpoints") or ():
        entry.refuse_unknown(("endpoint", "also"))
        endpoint = entry.text("endpoint")
        also = entry.texts("also", _endpoint_problem) or ()
        if endpoint is None:
            if not entry.given("endpoint"):
                entry.error("endpoint", "endpoint is missing", "write it as the key writes it")
            continue
        complaint = _endpoint_problem(endpoint)
        if complaint is not None:
            entry.error("endpoint", *complaint)
        if endpoint in found:
            entry.error("endpoint", f"{endpoint!r} is given twice", "list all its others in one place")
        if len(also) >= MAX_ENDPOINTS:
            entry.error("also", f"{len(also) + 1} endpoints of one KMS, and at most {MAX_ENDPOINTS} are asked")
        for text in (endpoint, *also):
            block.report.note_endpoint(entry.line_of("also" if text in also else "endpoint"), entry.path, text)
        found[endpoint] = tuple(dict.fromkeys(text for text in also if text != endpoint))
    return tuple(found.items())


def _endpoint_problem(endpoint: str) -> tuple[str, str | None] | None:
    problem = endpoint_problem(endpoint)
    return None if problem is None else (problem, "write https://HOST:PORT, or grpc://HOST:PORT without TLS")
