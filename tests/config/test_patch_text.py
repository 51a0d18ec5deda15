"""A patch touches the bytes it is about: comments, anchors, odd forms and line breaks of the rest stay."""

from __future__ import annotations

import pytest

from tests.config.patches import patch, patched, values

SHARED = """
    shared: &x
      k: 1 # one
      l: [1, 2]
    machine:
      first: *x
      second:
        <<: *x
        z: 1
      third: *x
    """


def test_no_patch_changes_nothing() -> None:
    """Not even a text that is no config is looked at."""
    assert patched("machine:   {a:   1}\r\n#\n  ...\n") == "machine:   {a:   1}\r\n#\n  ...\n"


def test_a_patch_that_says_what_is_there_changes_nothing() -> None:
    """Values that are written otherwise, but are the same, stay as they are."""
    base = "machine:   {a:   'x',  b: 0x10} # c\n"
    assert patched(base, "machine: {a: x}") == base
    assert patched(base, "- {op: test, path: /machine/a, value: x}") == base


def test_odd_scalars_stay() -> None:
    """Octal, hexadecimal, dates, flags of old YAML, tags and blocks are not taken apart."""
    base = """
        machine:
          mode: 0o644
          mask: 0xFF
          day: 2026-01-02
          flag: yes
          big: 123456789012345678901234567890
          nothing: ~
          custom: !mine {a: 1}
          folded: >-
            some
            text
          kept: |+
            text

          last: .inf
        """
    for text in ("machine: {type: worker}", "- {op: add, path: /machine/type, value: worker}"):
        after = patched(base, text)
        assert after.replace("  type: worker\n", "") == patched(base)


def test_a_scalar_is_replaced_in_its_place() -> None:
    """The comment behind it stays, and so does the line above."""
    assert patched("# head\nmachine:\n  # what it is\n  type: worker   # now\n", "machine: {type: controlplane}") == (
        "# head\nmachine:\n  # what it is\n  type: controlplane   # now\n"
    )


@pytest.mark.parametrize(
    ("base", "after"),
    [
        ("machine:\n    a:\n    - 1\n", "machine:\n    a:\n    - 1\n    b:\n    - 2\n    c:\n        d: 3\n"),
        ("machine:\n   a:\n     - 1\n", "machine:\n   a:\n     - 1\n   b:\n     - 2\n   c:\n      d: 3\n"),
        ("machine: {a: 1}\n", "machine: {a: 1, b: [2], c: {d: 3}}\n"),
        ('{"machine": {"a": 1}}\n', '{"machine": {"a": 1, "b": [2], "c": {"d": 3}}}\n'),
        ("machine: {}\n", "machine:\n  b:\n    - 2\n  c:\n    d: 3\n"),
        ("machine: # soon\n", "machine: # soon\n  b:\n    - 2\n  c:\n    d: 3\n"),
        ("machine:", "machine:\n  b:\n    - 2\n  c:\n    d: 3"),
    ],
)
def test_new_parts_are_written_as_the_text_is(base: str, after: str) -> None:
    """The indentation of mappings and lists is that of the base; braces stay braces, and JSON stays JSON."""
    assert patched(base, "machine: {b: [2], c: {d: 3}}") == after


def test_line_breaks_and_byte_order_mark_stay() -> None:
    """What an editor of another system wrote is continued in its way."""
    base = "\ufeffmachine:\r\n  a: 1 # x\r\n  b:\r\n    - 1\r\n"
    after = "\ufeffmachine:\r\n  a: 2 # x\r\n  b:\r\n    - 1\r\n    - 2\r\n  c: 3\r\n"
    assert patched(base, "machine: {a: 2, b: [2], c: 3}") == after
    assert patched(after, "- {op: remove, path: /machine/c}", "- {op: remove, path: /machine/b/1}") == base.replace(
        "a: 1", "a: 2"
    )


def test_aliases_keep_their_values() -> None:
    """Changing what an anchor stands for changes that place alone."""
    after = patched(SHARED, "machine: {}\nshared: {k: 2}")
    assert "k: 2 # one" in after
    one = {"k": 1, "l": [1, 2]}
    assert values(after) == [
        {"shared": {"k": 2, "l": [1, 2]}, "machine": {"first": one, "second": {"z": 1, **one}, "third": one}}
    ]


def test_an_alias_that_is_patched_gets_a_value_of_its_own() -> None:
    """The anchor and the other alias stay as they are."""
    after = patched(SHARED, "machine: {first: {k: 2}, second: {k: 3}}")
    assert after.startswith(patched(SHARED).partition("machine:")[0])
    assert "  third: *x\n" in after
    machine = values(after)[0]["machine"]
    assert (machine["first"]["k"], machine["second"]["k"], machine["third"]["k"]) == (2, 3, 1)


def test_what_is_merged_in_can_be_deleted() -> None:
    """The pairs of `<<` become the mapping's own then."""
    after = patched(SHARED, "machine: {second: {k: {$patch: delete}}}")
    assert values(after)[0]["machine"]["second"] == {"z": 1, "l": [1, 2]}
    assert "third: *x" in after


def test_merge_keys_stay_what_they_are() -> None:
    """Written out or not, a plain << merges, and one in quotes does not."""
    base = 'machine:\n  a: &x {k: 1}\n  b: {<<: *x}\n  c: {"<<": 1}\n'
    after = patched(base, "machine: {a: {k: 2}, c: {d: 1}}")
    assert values(after)[0]["machine"] == {"a": {"k": 2}, "b": {"k": 1}, "c": {"<<": 1, "d": 1}}


def test_an_anchor_that_goes_leaves_its_values_behind() -> None:
    """Deleting the first of several places that share a value leaves the others whole."""
    after = patched(SHARED, "machine: {}\nshared: {$patch: delete}")
    assert values(after)[0]["machine"]["third"] == {"k": 1, "l": [1, 2]}
    assert "shared" not in after


def test_lists_in_lists_and_short_forms() -> None:
    """The first pair of an element that shares the line of the dash can go, and so can a first inner element."""
    base = """
        machine:
          keys:
            - slot: 1 # gone with it
              # about the kind
              tpm: {}
            - - a
              - b
            - x
        """
    operations = "- {op: remove, path: /machine/keys/0/slot}\n- {op: remove, path: /machine/keys/1/0}"
    assert patched(base, operations) == (
        "machine:\n  keys:\n    - # about the kind\n      tpm: {}\n    - - b\n    - x\n"
    )


def test_the_last_pair_leaves_an_empty_mapping() -> None:
    """An empty mapping is not the same as none."""
    assert patched("machine:\n  a:\n    b: 1\n  c: 2\n", "machine: {a: {b: {$patch: delete}}}") == (
        "machine:\n  a: {}\n  c: 2\n"
    )


def test_elements_are_put_where_the_operation_says() -> None:
    """In front, between, and behind; the comments of the others stay with them."""
    base = "machine:\n  l:\n    # first\n    - a # one\n    - b # two\n"
    assert patched(base, "- {op: add, path: /machine/l/0, value: x}") == (
        "machine:\n  l:\n    # first\n    - x\n    - a # one\n    - b # two\n"
    )
    assert patched(base, "- {op: add, path: /machine/l/1, value: {k: v}}") == (
        "machine:\n  l:\n    # first\n    - a # one\n    - k: v\n    - b # two\n"
    )
    assert patched("machine: {l: [a, b]}", "- {op: add, path: /machine/l/0, value: 'x: y'}") == (
        'machine: {l: ["x: y", a, b]}'
    )


def test_texts_keep_their_meaning() -> None:
    """A text that would read as something else is quoted; several lines become a block, or are escaped in braces."""
    after = patched("machine:\n  a: 1\n  f: {}\n", "machine: {a: 'true', b: '0755', c: ': x', d: yes, e: '2026-01-02'}")
    assert values(after)[0]["machine"] == {
        "a": "true",
        "f": {},
        "b": "0755",
        "c": ": x",
        "d": "yes",
        "e": "2026-01-02",
    }
    assert 'd: "yes"' in after
    after = patched(
        "machine:\n  a: 1\n  f: {b: 1}\n", "machine:\n  f:\n    t: |\n      x\n      y\n  t: |\n    x\n    y\n"
    )
    assert after == 'machine:\n  a: 1\n  f: {b: 1, t: "x\\ny\\n"}\n  t: |\n    x\n    y\n'


@pytest.mark.parametrize(
    "base",
    [
        "? machine\n: a: 1 # c\n",
        "machine: &m\n  a: 1\n",
        "--- {machine: {a: 1}}\n",
        "%YAML 1.2\n---\nmachine: {a: 1}\n...\n",
        "machine: !!map\n  a: 1\n",
        "machine:\n  ? a\n  : 1\n",
        "machine: {a: 1, # c\n  }\n",
        "machine: {a: 1,}\n",
        "machine: {\n  a: 1\n}\n",
        "'machine' : {\"a\":1}\n",
        "machine:\n  a: 1\n# end\n...\n",
    ],
)
def test_forms_that_few_write(base: str) -> None:
    """Whatever the form, the values come out right; at worst the text is written anew, and that is said."""
    after = patch(base, "machine: {b: {c: [1]}, a: 2}", "apiVersion: v1\nkind: K\n")
    assert values(after.text.decode()) == [{"machine": {"a": 2, "b": {"c": [1]}}}, {"apiVersion": "v1", "kind": "K"}]
    if "#" in base and "#" not in after.text.decode():
        assert any("written anew" in note for note in after.notes)


def test_long_keys_are_no_problem() -> None:
    """YAML wants another form for a key of more than a thousand letters."""
    after = patched("machine: {}\n", f"machine: {{? {'k' * 3000} : 1}}")
    assert values(after) == [{"machine": {"k" * 3000: 1}}]


def test_long_keys_beside_others() -> None:
    """So it does below a key."""
    after = patched("machine:\n  a: 1\n  b: {c: 1}\n", f"machine: {{? {'k' * 3000} : {{d: 1}}, b: {{{'k' * 990}: 1}}}}")
    assert values(after) == [{"machine": {"a": 1, "b": {"c": 1, "k" * 990: 1}, "k" * 3000: {"d": 1}}}]


@pytest.mark.parametrize(
    ("base", "start"),
    [
        ("a: |\n  ends", "a: |-\n  ends\n---\n"),
        ("a: [1]\nx:\n - >+2 # why\n    e\n   f", "a: [1]\nx:\n - >2- # why\n    e\n   f\n---\n"),
        ("a: &b |\r\n  ends", "a: &b |-\r\n  ends\r\n---\r\n"),
        ("a: |\n  ends\n", "a: |\n  ends\n---\n"),
    ],
)
def test_a_text_that_stops_in_a_block_scalar_keeps_its_value(base: str, start: str) -> None:
    """Without a line break at its end the value has none, and gets none from the document that follows."""
    added = "apiVersion: v1alpha1\nkind: VolumeConfig\nname: STATE\n"
    after = patched(base, added)
    assert after.startswith(start)
    assert values(after)[0] == values(base)[0]
