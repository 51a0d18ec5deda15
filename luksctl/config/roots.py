"""Certificate authorities that the config adds to those of the distribution, as Talos takes them.

Either a TrustedRootsConfig document, or an entry of machine.files that appends to the distribution's bundle.
"""

from __future__ import annotations

from luksctl.config.block import Block
from luksctl.config.split import ROOTS_KIND, Document
from luksctl.hints import Final

# The second name is the one of Talos up to 1.7.
_BUNDLES: Final = ("/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/certs/ca-certificates")
_BEGIN: Final = "-----BEGIN CERTIFICATE-----"


def read_roots(document: Document) -> tuple[str, ...]:
    """Return the PEM texts of certificates that `document` adds."""
    if document.kind == ROOTS_KIND:
        return _roots_document(document.block)
    machine = document.block.block("machine") if document.kind == "" else None
    # What else is wrong with an entry is no business of luksctl: it is carried along.
    if machine is None or not machine.is_list("files"):
        return ()
    return tuple(root for entry in machine.blocks("files") or () for root in _appended(entry))


def _roots_document(block: Block) -> tuple[str, ...]:
    text = block.text("certificates")
    if text is None:
        if not block.given("certificates"):
            block.error("certificates", "certificates is missing", "write certificates: | and PEM below it")
        return ()
    if _BEGIN not in text:
        block.error("certificates", "there is no certificate in it", f"PEM begins with {_BEGIN}")
    return (text,)


def _appended(entry: Block) -> tuple[str, ...]:
    if entry.scalar("op") != "append" or entry.scalar("path") not in _BUNDLES:
        return ()
    content = entry.scalar("content")
    return (content,) if _BEGIN in content else ()
