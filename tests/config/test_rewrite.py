"""Another passphrase in a config text: one scalar changes, and nothing else, or nothing at all."""

from __future__ import annotations

import difflib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luksctl.config.documents import parse_machine_config
from luksctl.config.rewrite import with_passphrase
from luksctl.model.config import EPHEMERAL, STATE, MachineConfig, StaticKey

NEW = "the new one"

TEXT = """\
# kept: a comment
machine:
  install: {disk: /dev/sda}   # carried
  files:
    - content: |
        old one
      path: /etc/notes
  systemDiskEncryption:
    state:
      provider: luks2
      keys:
        - {slot: 0, nodeID: {}}
        - slot: 1   # the sheet in the safe
          static: {passphrase: 'old one'}
---
apiVersion: v1alpha1
kind: VolumeConfig
name: EPHEMERAL
encryption:
  provider: luks2
  keys:
    - slot: 3
      static:
        passphrase: old one
    - slot: 1
      static: {passphrase: old one}
---
apiVersion: v1alpha1
kind: UserVolumeConfig
name: data
encryption:
  provider: luks2
  keys:
    - slot: 1
      static: {passphrase: old one}
"""


def parsed(text: str) -> MachineConfig:
    """Return the config."""
    return parse_machine_config(text.encode(), "given")


def passphrases(config: MachineConfig) -> dict[tuple[str, int], bytes]:
    """Return every static passphrase."""
    found = {}
    for volume, encryption in config.encryption:
        for key in encryption.keys:
            if isinstance(key.source, StaticKey):
                with key.source.passphrase.view() as view:
                    found[volume, key.slot] = bytes(view)
    return found


def changed_lines(before: str, after: str) -> list[str]:
    """Return the lines that differ, old and new ones."""
    return [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[0] in "-+"]


def one_volume(scalar: str, more: str = "") -> str:
    """Return a config whose one passphrase is spelled like that."""
    return (
        "apiVersion: v1alpha1\nkind: VolumeConfig\nname: STATE\nencryption:\n  provider: luks2\n  keys:\n"
        f"    - slot: 0\n      static:\n        passphrase: {scalar}\n{more}"
    )


@pytest.mark.parametrize(("volume", "slot"), [(STATE, 1), (EPHEMERAL, 3), (EPHEMERAL, 1)])
def test_only_the_one_line_changes(volume: str, slot: int) -> None:
    """The same passphrase stands in five places, one of them no key of ours; comments and order stay."""
    before = parsed(TEXT)
    made = with_passphrase(before, volume, slot, NEW)
    assert made is not None
    assert passphrases(made) == {**passphrases(before), (volume, slot): NEW.encode()}
    removed, added = changed_lines(TEXT, made.text.decode())
    assert removed[2:].replace("'old one'", "old one").replace("old one", f'"{NEW}"') == added[2:]
    assert parse_machine_config(made.text, "again").encryption == made.encryption


SPELLINGS = {
    "plain": "old",
    "single quotes": "'old'",
    "double quotes": '"o\\u006cd"',
    "literal block": "|-\n          old",
    "folded block": ">-\n          old",
    "tagged": "!!str old",
    "anchored": "&mine old",
    "with a comment behind it": "old   # never written down",
    "many lines": "old\n          and older",
}


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize("more", ["", "    - {slot: 2, nodeID: {}}\n# the end\n"], ids=["last", "followed"])
def test_however_it_is_spelled(spelling: str, more: str) -> None:
    """Every style of YAML is found and replaced by double quotes."""
    before = parsed(one_volume(spelling, more))
    made = with_passphrase(before, STATE, 0, NEW)
    assert made is not None
    assert passphrases(made) == {(STATE, 0): NEW.encode()}
    assert made.text.decode().endswith(more)
    assert ("#" in spelling) == ("never written down" in made.text.decode())


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=30))
def test_whatever_the_new_one_is(passphrase: str) -> None:
    """Control characters, line ends, quotes, emoji: it is read back as the very same text, or nothing is made."""
    before = parsed(one_volume("old"))
    made = with_passphrase(before, STATE, 0, passphrase)
    assert made is not None
    assert passphrases(made) == {(STATE, 0): passphrase.encode()}
    assert changed_lines(before.text.decode(), made.text.decode())[0] == "-         passphrase: old"


ELSEWHERE = {
    "an alias of its anchor": one_volume("&mine old", "    - slot: 1\n      static: {passphrase: *mine}\n"),
    "an alias of what holds it": (
        "apiVersion: v1alpha1\nkind: VolumeConfig\nname: STATE\nencryption:\n  provider: luks2\n  keys:\n"
        "    - slot: 0\n      static: &s {passphrase: old}\n    - slot: 1\n      static: *s\n"
    ),
    "a merge": (
        "apiVersion: v1alpha1\nkind: VolumeConfig\nname: STATE\nencryption:\n  provider: luks2\n  keys:\n"
        "    - slot: 0\n      static: &s {passphrase: old}\n    - slot: 1\n      static: {<<: *s}\n"
    ),
}


@pytest.mark.parametrize("text", ELSEWHERE.values(), ids=ELSEWHERE)
@pytest.mark.parametrize("slot", [0, 1])
def test_what_others_refer_to_is_left_alone(text: str, slot: int) -> None:
    """Changing it would change another key, or a part of the config that is not ours."""
    assert with_passphrase(parsed(text), STATE, slot, NEW) is None


def test_a_byte_order_mark_stays() -> None:
    """Every byte but those of the passphrase."""
    before = parse_machine_config(b"\xef\xbb\xbf" + one_volume("old").encode(), "given")
    made = with_passphrase(before, STATE, 0, NEW)
    assert made is not None
    assert made.text == b"\xef\xbb\xbf" + one_volume(f'"{NEW}"').encode()


def test_what_is_no_static_key_is_a_mistake_of_the_caller() -> None:
    """There is nothing to replace."""
    for volume, slot in ((STATE, 0), (STATE, 9), ("META", 1)):
        with pytest.raises(ValueError, match="no static key"):
            with_passphrase(parsed(TEXT), volume, slot, NEW)
