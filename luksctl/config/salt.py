"""The salt of keys that are locked to STATE, as Talos keeps it there: a YAML mapping with a list of 32 numbers."""

from __future__ import annotations

from yaml.nodes import MappingNode

from luksctl.config.block import Block
from luksctl.config.report import Report
from luksctl.config.yamltext import decode, load_documents
from luksctl.hints import Final
from luksctl.secret import Secret

SALT_BYTES: Final = 32
_FIELD: Final = "diskSalt"
_BYTE: Final = range(256)


def parse_salt(text: bytes, source: str) -> Secret:
    """Return the salt in `text`, whatever way YAML writes the list; fields of others are ignored.

    Raises ConfigError, which never quotes a number. An empty or torn file is one that has a problem.
    """
    report = Report(source)
    roots = load_documents(decode(text, report), report)
    root = roots[0] if len(roots) == 1 else None
    if not isinstance(root, MappingNode):
        report.error(1, "", f"not one YAML mapping with {_FIELD}")
        report.raise_problems()
        raise AssertionError("a problem was noted")
    block = Block(report, root, "", 1)
    numbers = block.wholes(_FIELD, _byte_problem) or ()
    if not report.failed and len(numbers) != SALT_BYTES:
        report.error(block.line_of(_FIELD), _FIELD, f"{len(numbers)} numbers, and a salt has {SALT_BYTES}")
    report.raise_problems()
    salt = Secret(SALT_BYTES)
    with salt.view() as view:
        for index, number in enumerate(numbers):
            view[index] = number
    return salt


def salt_text(salt: Secret) -> bytes:
    """Return the file for `salt`, byte for byte as Talos writes it."""
    with salt.view() as view:
        lines = "".join(f"    - {number}\n" for number in view)
    return f"{_FIELD}:\n{lines}".encode()


def _byte_problem(number: int) -> tuple[str, str | None] | None:
    return None if number in _BYTE else (f"a number outside 0-{_BYTE[-1]}", None)
