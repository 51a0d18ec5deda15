"""The options that take patches: inline, or @FILE; and the config that comes of them."""

from __future__ import annotations

from argparse import Namespace

from luksctl.cli.attached import Attached
from luksctl.cli.parser import Parser, Takes
from luksctl.cli.sources import read_text
from luksctl.hints import TYPE_CHECKING
from luksctl.model.config import MachineConfig

if TYPE_CHECKING:
    from luksctl.config.patch_load import PatchText

_HELP = "a patch, or @FILE with one: a part of a config, or JSON operations (RFC 6902); may be given several times"


def add_patches(parser: Parser, *options: str, dest: str = "patches", text: str = _HELP) -> None:
    """Add an option that takes a patch and may be given several times; commas belong to the patch."""
    parser.add_sent(Takes.PATCH, *options, dest=dest, metavar="PATCH", action="append", default=[], help=text)


def add_keys_by_slot(parser: Parser) -> None:
    """Add the option that merges keys by slot."""
    parser.add_flag("keys-by-slot", text="merge the keys of a volume by slot; without it, patches append them")


def patch_texts(words: list[str]) -> list[PatchText]:
    """Return the patches that the words are or name; ConfigError where a file cannot be read."""
    from luksctl.config.patch_load import PatchText  # noqa: PLC0415  # only where there are patches

    given = []
    for number, word in enumerate(words, start=1):
        name = file_named(word)
        text, source = (word.encode("utf-8", "surrogateescape"), f"patch {number}") if name is None else read_text(name)
        given.append(PatchText(text, source))
    return given


def file_named(word: str) -> str | None:
    """Return the file that a patch is in: behind an @, or a word that cannot be a patch itself."""
    if isinstance(word, Attached):
        return word
    if word.startswith("@"):
        return word[1:] or word
    return word if word and not word.startswith(("[", "{")) and not any(letter.isspace() for letter in word) else None


def in_file(name: str) -> str:
    """Return the word for a patch that is in the file `name`."""
    return name if isinstance(name, Attached) else f"@{name}"


def read_patched(path: str, arguments: Namespace) -> MachineConfig:
    """Return the config in `path` with the patches of the command line; ConfigError with every problem."""
    from luksctl.config.patching import apply_patches  # noqa: PLC0415  # as above

    text, source = read_text(path)
    texts = patch_texts(arguments.patches)
    return apply_patches(text, source, texts, keys_by_slot=arguments.keys_by_slot).config()
