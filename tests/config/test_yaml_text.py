"""YAML that readers disagree on, that is broken, or that is made to break a reader."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from luksctl.config.documents import parse_machine_config
from luksctl.config.redaction import redact
from luksctl.config.settings import parse_settings
from luksctl.config.yamltext import MAX_DEPTH
from luksctl.errors import ConfigError
from tests.config.reading import one_key, problems


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (b"machine:\n  a: [1,\n", 3, "not valid YAML"),
        (b"machine:\n\ta: 1\n", 2, "not valid YAML"),
        (b"machine: {}\n\nb: c: d\n", 3, "not valid YAML: mapping values are not allowed"),
        (b"machine: {}\na: *b\n", 2, "an alias (*name) without its anchor (&name)"),
        (b"machine: {}\na: &x 1\nb: &x 2\n", 3, "an anchor is given twice"),
        (b"machine: {}\na: \xff\n", 2, "not UTF-8"),
        ("machine: {}\n".encode("utf-16"), 1, "not UTF-8"),
        (b"machine: {}\n#\n# \x00\n", 3, "a control character"),
        (b"machine: {}\n...\n%YAML 3.0\n---\na: b\n", 3, "not valid YAML"),
    ],
)
def test_text_that_is_no_yaml(text: bytes, line: int, message: str) -> None:
    """The problem names the line, and there is only this one."""
    (problem,) = problems(text)
    assert (problem.line, problem.path) == (line, "")
    assert message in problem.message


def test_documents_before_a_syntax_error_are_checked() -> None:
    """What stands before the syntax error is reported with it."""
    found = problems(one_key("{slot: 77, nodeID: {}}").encode() + b"---\na: [\n")
    assert [problem.line for problem in found] == [7, 10]


@pytest.mark.parametrize(
    ("text", "line", "path"),
    [
        ("machine: {}\nmachine: {}\n", 2, "machine"),
        ("machine:\n  network:\n  - a: 1\n    b: 2\n    'a': 3\n", 5, "machine.network[0].a"),
        ("cluster:\n  ? [x]\n  : {y: 1, y: 1}\n", 3, "cluster.y"),
        ("machine: &m\n  x: 1\n  x: 2\ncluster: *m\n", 3, "machine.x"),
        (one_key("{slot: 0, slot: 0, nodeID: {}}"), 7, "VolumeConfig/EPHEMERAL.encryption.keys[0].slot"),
        ("machine: {}\n---\nkind: A\napiVersion: v1\na: 1\na: 1\n", 6, "A.a"),
    ],
)
def test_a_key_given_twice(text: str, line: int, path: str) -> None:
    """A key given twice is a problem in every section, also in those that are only carried."""
    (problem,) = problems(text.encode())
    assert (problem.line, problem.path) == (line, path)
    assert "given twice, first in line" in problem.message


def test_equal_text_of_another_type_is_another_key() -> None:
    """`1` and `"1"` are different keys, and several merges are no repetition."""
    assert problems(b"machine: {}\ncluster: {1: a, '1': b}\nx: &x {y: 1}\nz: {<<: *x, <<: *x}\n") == ()


@pytest.mark.parametrize(
    "text", ["- " * 200_000, "[" * 200_000, "? " * 200_000, "{a: " * 50_000, "a:\n" * 3 + "[[" * 9_000]
)
def test_deep_nesting_is_refused(text: str) -> None:
    """Nesting that would overflow the C stack of the parser ends in a problem, not in a crash."""
    assert problems(text.encode())


def test_nesting_that_only_looks_deep() -> None:
    """A long line or many brackets side by side are not deep."""
    deep = f"{'[' * (MAX_DEPTH - 5)}{']' * (MAX_DEPTH - 5)}"
    text = f"machine:\n  a: {'x' * 20_000}\n  b: [{'[],{},' * 5_000}]\n  c: {deep}\n"
    assert problems(text.encode()) == ()
    (problem,) = problems(f"{text}  d: [[[[[{deep}]]]]]\n".encode())
    assert "levels deep" in problem.message


def test_aliases_that_multiply() -> None:
    """Aliases of aliases, merged or listed, are read once each, and refused where they stand for too much."""
    lists = [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 40)]
    assert problems(f"machine: {{}}\na0: &a0 [x]\n{''.join(lists[:5])}".encode()) == ()
    (problem,) = problems(f"machine: {{}}\na0: &a0 [x]\n{''.join(lists)}".encode())
    assert "aliases that stand for more than" in problem.message
    merges = (f"m{level}: &m{level} {{<<: [{', '.join([f'*m{level - 1}'] * 9)}]}}\n" for level in range(1, 5))
    text = f"m0: &m0 {{systemDiskEncryption: 1}}\n{''.join(merges)}machine: {{<<: *m4}}\n"
    (problem,) = problems(text.encode())
    assert problem.path == "machine.systemDiskEncryption"


@pytest.mark.parametrize(
    "text", ["machine: &m\n  self: *m\n", "machine:\n  list: &l [*l]\n", "machine: &m\n  <<: *m\n"]
)
def test_an_alias_of_itself(text: str) -> None:
    """Mappings and lists that contain or merge themselves stand for endlessly much."""
    (problem,) = problems(text.encode())
    assert "aliases that stand for more than" in problem.message


def test_a_text_that_is_too_long() -> None:
    """Nobody has to read fifty megabytes to learn that they are no config."""
    (problem,) = problems(b"machine: {}\n#" + b"x" * (4 << 20))
    assert "more than 4 MiB" in problem.message


def test_a_tab_is_named() -> None:
    """Whoever indents with a tab is told so."""
    (problem,) = problems(b"machine:\n\ttype: worker\n")
    assert (problem.line, problem.hint) == (2, "indent with spaces: YAML does not allow tabs there")


YAML_LIKE = st.text(alphabet=" \n-:{}[]&*!|>'\"#,?%@a<0x1~\t\r\ufeff\u0085", max_size=60)
WORDS = (
    *("machine:", "systemDiskEncryption:", "state:", "keys:", "slot: 0", "nodeID:", "static:", "passphrase:", "tpm:"),
    *("apiVersion:", "v1alpha1", "luksctl/v1alpha1", "kind:", "VolumeConfig", "EncryptionPolicy", "name:", "STATE"),
    *("encryption:", "provider:", "luks2", "kdf:", "memory:", "options:", "pcrs:", "volumes:", "STATE:", "image: x"),
    *("<<:", "&a", "*a", "---", "-", "{", "}", "[", "]", ",", "0", "timeouts:"),
)
PIECES = st.lists(st.sampled_from([*WORDS, "\n", "\n  ", "\n    ", "- slot: 0\n"]), max_size=25)
TEXTS = st.one_of(
    st.binary(max_size=80),
    YAML_LIKE.map(str.encode),
    st.builds(lambda pieces, glue: glue.join(pieces).encode(), PIECES, st.sampled_from(["", " ", "\n", "\n  "])),
)


@given(TEXTS)
@example(b"\xef\xbb\xbf")
@example(b"machine: {a: !!int x, b: !!bool x, systemDiskEncryption: !!map {state: {keySize: !!int x}}}")
@settings(max_examples=400, deadline=None)
def test_any_bytes_are_a_config_or_a_config_error(text: bytes) -> None:
    """Whatever the bytes, parsing and redacting end with a value or with ConfigError, never with anything else."""
    for read in (
        lambda: parse_machine_config(text, "x"),
        lambda: parse_settings(text, "/x"),
        lambda: redact(text),
    ):
        assert all(line >= 1 for line in _lines_of_problems(read))


def _lines_of_problems(read: Callable[[], object]) -> list[int]:
    try:
        read()
    except ConfigError as error:
        return [problem.line or 0 for problem in error.problems]
    return []
