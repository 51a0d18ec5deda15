"""`$patch: delete` takes away fields, elements and documents, and says what it does not find."""

from __future__ import annotations

from typing import Any

import pytest

from tests.config.patches import patched, problem, values

KEYS = """
    machine:
      systemDiskEncryption:
        state:
          provider: luks2
          keys:
            # of the board
            - slot: 0
              nodeID: {}
            # of the operator
            - slot: 1
              static: {passphrase: x}
      sysctls:
        a: "1"
        b: "2"
    """


def _machine(text: str) -> Any:
    return values(text)[0]["machine"]


@pytest.mark.parametrize("slot", ["1", "0x1", '"1"'])
def test_a_key_goes_by_its_slot(slot: str) -> None:
    """The selector is a number here, which Talos never finds; however it is written, it is the same number."""
    patch = f"machine: {{systemDiskEncryption: {{state: {{keys: [{{slot: {slot}, $patch: delete}}]}}}}}}"
    after = patched(KEYS, patch)
    assert [key["slot"] for key in _machine(after)["systemDiskEncryption"]["state"]["keys"]] == [0]
    assert "# of the operator" in after, "whether a comment still holds, its author knows"


def test_a_key_is_exchanged_in_one_patch() -> None:
    """What is deleted goes first, wherever it stands in the list."""
    patch = """
        machine:
          systemDiskEncryption:
            state:
              keys:
                - slot: 1
                  tpm: {}
                - slot: 1
                  $patch: delete
        """
    keys = _machine(patched(KEYS, patch))["systemDiskEncryption"]["state"]["keys"]
    assert keys == [{"slot": 0, "nodeID": {}}, {"slot": 1, "tpm": {}}]


def test_a_list_that_is_emptied_goes() -> None:
    """As Talos leaves out an empty list; unless the same patch fills it again."""
    both = "[{slot: 0, $patch: delete}, {slot: 1, $patch: delete}]"
    path = "machine: {{systemDiskEncryption: {{state: {{keys: {}}}}}}}"
    state = _machine(patched(KEYS, path.format(both)))["systemDiskEncryption"]["state"]
    assert state == {"provider": "luks2"}
    filled = path.format(both.replace("]", ", {slot: 7, tpm: {}}]"))
    state = _machine(patched(KEYS, filled))["systemDiskEncryption"]["state"]
    assert state == {"provider": "luks2", "keys": [{"slot": 7, "tpm": {}}]}


def test_a_field_goes_with_all_that_is_below() -> None:
    """A scalar, a mapping, and a list alike."""
    after = _machine(patched(KEYS, "machine: {sysctls: {a: {$patch: delete}}, systemDiskEncryption: {$patch: delete}}"))
    assert after == {"sysctls": {"b": "2"}}


def test_the_first_field_beside_the_directive_selects() -> None:
    """The order of the two does not matter, and of two equal elements the first goes."""
    base = "machine: {l: [{name: a, n: 1}, {name: a, n: 2}, {name: b}]}"
    for element in ("{$patch: delete, name: a}", "{name: a, $patch: delete, n: 9}"):
        assert _machine(patched(base, f"machine: {{l: [{element}]}}"))["l"] == [{"name": "a", "n": 2}, {"name": "b"}]


def test_an_element_may_be_told_by_a_mapping() -> None:
    """Interfaces have selectors of several fields."""
    base = "machine: {network: {interfaces: [{deviceSelector: {driver: a}}, {deviceSelector: {driver: b}}]}}"
    patch = "machine: {network: {interfaces: [{deviceSelector: {driver: b}, $patch: delete}]}}"
    assert _machine(patched(base, patch)) == {"network": {"interfaces": [{"deviceSelector": {"driver": "a"}}]}}


def test_within_an_element_that_is_told_apart() -> None:
    """A vlan of one interface goes; its neighbour's of the same number does not."""
    base = """
        machine:
          network:
            interfaces:
              - interface: eth0
                vlans: [{vlanId: 1}, {vlanId: 2}]
              - interface: eth1
                vlans: [{vlanId: 2}]
        """
    patch = "machine: {network: {interfaces: [{interface: eth0, mtu: 9000, vlans: [{vlanId: 2, $patch: delete}]}]}}"
    assert _machine(patched(base, patch))["network"]["interfaces"] == [
        {"interface": "eth0", "vlans": [{"vlanId": 1}], "mtu": 9000},
        {"interface": "eth1", "vlans": [{"vlanId": 2}]},
    ]


def test_the_machine_configuration_is_cleared_before_any_part_is_merged() -> None:
    """Of several parts of one patch, too."""
    patch = "machine: {sysctls: {a: '3', c: '4'}}\n---\nmachine: {sysctls: {a: {$patch: delete}}}\n"
    assert _machine(patched(KEYS, patch))["sysctls"] == {"b": "2", "a": "3", "c": "4"}


def test_a_document_is_deleted_and_made_anew_in_one_patch() -> None:
    """The documents of a patch are gone through in their order."""
    base = "machine: {}\n---\napiVersion: v1\nkind: K\nname: a\nx: 1\n"
    patch = "apiVersion: v1\nkind: K\nname: a\n$patch: delete\n---\napiVersion: v1\nkind: K\nname: a\ny: 2\n"
    assert values(patched(base, patch))[1] == {"apiVersion": "v1", "kind": "K", "name": "a", "y": 2}


def test_in_a_document_that_is_not_there_nothing_need_be_deleted() -> None:
    """What else the patch says of it makes it."""
    patch = (
        "apiVersion: v1\nkind: K\nx: {$patch: delete}\ny: {z: {$patch: delete}, a: 1}\nl: [{n: 1, $patch: delete}]\n"
    )
    assert values(patched("machine: {}\n", patch))[1] == {"apiVersion": "v1", "kind": "K", "y": {"a": 1}}


@pytest.mark.parametrize("remaining", [0, 1])
def test_first_and_last_documents_go(remaining: int) -> None:
    """With or without a separator in front of the first."""
    documents = ["apiVersion: v1\nkind: A\n", "apiVersion: v1\nkind: B\n"]
    patch = documents[1 - remaining] + "$patch: delete\n"
    for head in ("", "# head\n", "---\n"):
        after = patched(head + "---\n".join(documents), patch)
        assert values(after) == [{"apiVersion": "v1", "kind": "AB"[remaining]}]
        assert "# head" in after or "#" not in head


@pytest.mark.parametrize(
    ("patch", "line", "path"),
    [
        ("machine:\n  nothing: {$patch: delete}", 2, "machine.nothing"),
        ("machine:\n  sysctls:\n    z:\n      $patch: delete", 4, "machine.sysctls.z"),
        ("machine: {sysctls: [{a: 1, $patch: delete}]}", 1, "machine.sysctls"),
        ("machine: {sysctls: {a: {b: {$patch: delete}}}}", 1, "machine.sysctls.a"),
        (
            "machine: {systemDiskEncryption: {state: {keys: [{slot: 5, $patch: delete}]}}}",
            1,
            "machine.systemDiskEncryption.state.keys",
        ),
        (
            "machine: {systemDiskEncryption: {state: {keys: [{$patch: delete}]}}}",
            1,
            "machine.systemDiskEncryption.state.keys",
        ),
        ("machine: {}\n$patch: delete", 1, "$patch"),
        ("machine: {a: {$patch: replace}}", 1, ""),
    ],
)
def test_what_cannot_be_deleted_is_a_problem(patch: str, line: int, path: str) -> None:
    """With the line of the patch and the path."""
    found = problem(KEYS, patch)
    assert (found.file, found.line, found.path) == ("patch 1", line, path)
