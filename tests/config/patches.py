"""What the tests of patches share: a patched text, and its values as another reader sees them."""

from __future__ import annotations

from textwrap import dedent
from typing import Any

from ruamel.yaml import YAML

from luksctl.config.patch_load import PatchText
from luksctl.config.patching import Patched, apply_patches
from luksctl.errors import ConfigError, Problem


def patch(base: str, *patches: str, keys_by_slot: bool = False) -> Patched:
    """Apply patches; base and patches may be indented as the test is."""
    texts = [PatchText(_text(text).encode(), f"patch {number}") for number, text in enumerate(patches, start=1)]
    return apply_patches(_text(base).encode(), "machine.yaml", texts, keys_by_slot=keys_by_slot)


def patched(base: str, *patches: str, keys_by_slot: bool = False) -> str:
    """Return the text after the patches."""
    return patch(base, *patches, keys_by_slot=keys_by_slot).text.decode()


def problem(base: str, *patches: str) -> Problem:
    """Return the only problem of applying the patches."""
    try:
        patch(base, *patches).config()
    except ConfigError as error:
        (found,) = error.problems
        return found
    raise AssertionError("the patch applied")


def values(text: str) -> list[Any]:
    """Return the documents as a YAML 1.2 reader of other people sees them."""
    return [document for document in YAML(typ="safe", pure=True).load_all(text) if document is not None]


def _text(text: str) -> str:
    return dedent(text.removeprefix("\n"))
