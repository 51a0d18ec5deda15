"""What differs between two configs, and what of it needs a reboot."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luksctl.config.changes import Changes, compare
from luksctl.config.documents import parse_machine_config
from luksctl.model.config import MachineConfig

VOLUME = (
    "---\napiVersion: v1alpha1\nkind: VolumeConfig\nname: EPHEMERAL\nencryption:\n  provider: luks2\n{more}  keys:\n"
    "    - {{slot: 0, static: {{passphrase: {words}}}}}\n"
)


def config(machine: str = "", words: str = "first", more: str = "", *, encrypted: bool = True) -> MachineConfig:
    """Return a config with `machine` below machine."""
    text = "debug: false\nmachine:\n  type: worker\n" + machine
    return parse_machine_config((text + (VOLUME.format(words=words, more=more) if encrypted else "")).encode(), "test")


@pytest.mark.parametrize(
    ("machine", "needs"),
    [
        ("  sysctls: {a: b}\n", ()),
        ("  kubelet: {image: x}\n  network: {hostname: n}\n", ()),
        ("  features: {kubePrism: {enabled: true}}\n", ()),
        ("  features: {rbac: true}\n", ("machine.features.rbac",)),
        ("  env: {A: b}\n", ("machine.env",)),
        ("  files: [{path: /a}]\n  udev: {rules: [x]}\n", ("machine.files", "machine.udev")),
    ],
)
def test_fields_that_talos_changes_at_once_and_those_that_need_a_reboot(machine: str, needs: tuple[str, ...]) -> None:
    """The shortest path that a rule is about is named, both when it comes and when it goes."""
    assert compare(config(), config(machine)).reboot == needs
    assert compare(config(machine), config()).reboot == needs


def test_the_form_of_the_text_is_no_change() -> None:
    """Order, comments, quotes, flow and anchors say the same; nor does an empty field change anything."""
    one = config("  env: &e {A: b, C: d}\n  files: [*e]\n")
    other = config("  # a comment\n  files:\n    - C: 'd'\n      A: b\n  env:\n    <<: {C: d}\n    A: \"b\"\n  udev:\n")
    assert compare(one, other) == Changes()


def test_other_documents_are_not_compared() -> None:
    """As in Talos 1.7: they never force a reboot."""
    extra = parse_machine_config(config().text + b"---\napiVersion: v1alpha1\nkind: KmsgLogConfig\nname: x\n", "test")
    assert compare(config(), extra) == Changes()


def test_keys_change_at_once_and_by_talos_rule_not() -> None:
    """Of the legacy section Talos says reboot; luksctl does it at once, and says so where asked for Talos' rule."""
    assert compare(config(), config(words="second")) == Changes(keys=("EPHEMERAL",))
    legacy = (
        "  systemDiskEncryption: {{ephemeral: {{provider: luks2, keys: [{{slot: 0, static: {{passphrase: {}}}}}]}}}}\n"
    )
    old, new = (config(legacy.format(words), encrypted=False) for words in ("first", "second"))
    found = compare(old, new)
    assert found == Changes(strict=("machine.systemDiskEncryption",), keys=("EPHEMERAL",))
    assert found.rebooting(strict=False) == ()
    assert found.rebooting(strict=True) == ("machine.systemDiskEncryption",)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("", "  cipher: aes-xts-plain64\n", "cipher of a volume that is there changes by a reset"),
        ("  keySize: 256\n", "  keySize: 512\n  blockSize: 4096\n", "keySize, blockSize"),
        ("", "  options: [same_cpu_crypt]\n", "count from the next time it is opened"),
    ],
)
def test_what_no_apply_changes_is_said(before: str, after: str, said: str) -> None:
    """Each with what it takes."""
    (text,) = compare(config(more=before), config(more=after)).fixed
    assert text.startswith("EPHEMERAL: ")
    assert said in text


def test_encryption_is_turned_on_or_off_in_place_or_by_a_reset() -> None:
    """Nothing live does it; the verb that keeps the data is named."""
    (turned_on,) = compare(config(encrypted=False), config()).fixed
    assert turned_on == (
        "EPHEMERAL: encryption is turned on, which takes luksctl encrypt EPHEMERAL --in-place, or a reset of the volume"
    )
    (turned_off,) = compare(config(), config(encrypted=False)).fixed
    assert (
        turned_off
        == "EPHEMERAL: encryption is turned off, which takes luksctl decrypt EPHEMERAL, or a reset of the volume"
    )


def test_where_the_policy_says_in_place_it_takes_nothing_more() -> None:
    """The next boot does it, which whoever looks at the volume says."""
    policy = b"---\napiVersion: luksctl/v1alpha1\nkind: EncryptionPolicy\ninPlace: true\n"
    after = parse_machine_config(config().text + policy, "test")
    assert compare(config(encrypted=False), after).fixed == ()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.text("ab", min_size=1, max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


def _flow(value: object) -> str:
    """Write a value as YAML in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_flow(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return json.dumps(value)


def _solid(value: object) -> object:
    """Return the value without empty fields, and with types told apart."""
    if isinstance(value, dict):
        return {name: _solid(inner) for name, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_solid(inner) for inner in value]
    return (type(value).__name__, value)


@given(VALUES, VALUES)
@settings(deadline=None)
def test_it_differs_if_and_only_if_the_values_do(one: object, other: object) -> None:
    """Whatever the values are."""
    old, new = (config(f"  env: {_flow(value)}\n") for value in (one, other))
    same = _solid({"env": one}) == _solid({"env": other})
    assert compare(old, new).reboot == (() if same else ("machine.env",))


def test_a_deep_text_is_compared_all_the_same() -> None:
    """Hundreds of levels, and aliases that would be hundreds of thousands of values written out."""
    deep = "  env: " + "[" * 600 + "]" * 600 + "\n"
    assert compare(config(deep), config()).reboot == ("machine.env",)
    laughs = "  env:\n    a0: &a0 [x, x]\n" + "".join(f"    a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 17))
    assert compare(config(laughs), config(laughs)) == Changes()
