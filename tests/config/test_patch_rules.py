"""One table per rule of merging: what stands in the base, what the patch says, what comes of it."""

from __future__ import annotations

from typing import Any

import pytest

from luksctl.errors import ConfigError
from tests.config.patches import patch, patched, problem, values


def _at(path: str, value: str) -> str:
    """Return `value` (flow YAML) at a path of the machine configuration."""
    names = path.split(".")
    return f"{': {'.join(names)}: {value}{'}' * (len(names) - 1)}\n"


def _after(path: str, base: str, patch: str) -> Any:
    found: Any = values(patched(_at(path, base), _at(path, patch)))[0]
    for name in path.split("."):
        found = found.get(name)
    return found


@pytest.mark.parametrize(
    ("base", "patch", "after"),
    [
        ("a", "b", "b"),
        ("a", "1", 1),
        ("1", "2", 2),
        ("true", "false", False),
        ("false", "true", True),
        ("a", "''", "a"),
        ("7", "0", 7),
        ("a", "'0'", "0"),
        ("a", "null", "a"),
        ("null", "a", "a"),
        ("null", "{a: 1}", {"a": 1}),
        ("null", "''", ""),
    ],
)
def test_scalars(base: str, patch: str, after: object) -> None:
    """The patch wins; null and what is empty or zero keep what is there, but false does not."""
    assert _after("machine.x", base, patch) == after


@pytest.mark.parametrize("value", ["null", "''", "0"])
def test_what_keeps_the_base_is_said(value: str) -> None:
    """Nobody has to wonder why a patch did nothing."""
    (note,) = patch("machine: {x: 7}", f"machine: {{x: {value}}}").notes
    assert note.startswith("patch 1:1: machine.x: ")


@pytest.mark.parametrize(
    ("base", "patch", "after"),
    [
        ("{a: 1}", "{b: 2}", {"a": 1, "b": 2}),
        ("{a: 1}", "{a: 2}", {"a": 2}),
        ("{a: {b: 1}}", "{a: {c: 2}}", {"a": {"b": 1, "c": 2}}),
        ("{a: 1}", "{}", {"a": 1}),
    ],
)
def test_mappings(base: str, patch: str, after: object) -> None:
    """They are merged key by key, as deep as they go."""
    assert _after("machine.x", base, patch) == after


@pytest.mark.parametrize(
    ("base", "patch", "after"),
    [
        ("[a]", "[b]", ["a", "b"]),
        ("[a]", "[a]", ["a", "a"]),
        ("[]", "[a]", ["a"]),
        ("[a]", "[]", ["a"]),
        ("null", "[]", []),
        ("[{a: 1}]", "[{a: 1}]", [{"a": 1}, {"a": 1}]),
    ],
)
def test_lists(base: str, patch: str, after: object) -> None:
    """They are appended to, whatever they hold."""
    assert _after("machine.x", base, patch) == after


@pytest.mark.parametrize("path", ["cluster.network.podSubnets", "cluster.network.serviceSubnets"])
@pytest.mark.parametrize(
    ("base", "patch", "after"),
    [("[a, b]", "[c]", ["c"]), ("[a]", "[]", []), ("[a]", "null", ["a"]), ("[a]", "[a]", ["a"])],
)
def test_subnets_are_replaced(path: str, base: str, patch: str, after: object) -> None:
    """Both lists of subnets are the patch's; one of the same name elsewhere is a list like any other."""
    assert _after(path, base, patch) == after
    assert _after(f"machine.{path}", "[a]", "[c]") == ["a", "c"]


def test_the_audit_policy_is_replaced() -> None:
    """A policy is a whole."""
    assert _after("cluster.apiServer.auditPolicy", "{rules: [a], kind: Policy}", "{rules: [b]}") == {"rules": ["b"]}


@pytest.mark.parametrize(
    ("base", "patch", "after"),
    [
        (
            "[{interface: eth0, mtu: 1}, {interface: eth1}]",
            "[{interface: eth1, dhcp: true}]",
            [{"interface": "eth0", "mtu": 1}, {"interface": "eth1", "dhcp": True}],
        ),
        ("[{interface: eth0}]", "[{interface: eth1}]", [{"interface": "eth0"}, {"interface": "eth1"}]),
        (
            "[{deviceSelector: {driver: virtio, busPath: '0*'}, mtu: 1}]",
            "[{deviceSelector: {busPath: '0*', driver: virtio}, dhcp: true}]",
            [{"deviceSelector": {"driver": "virtio", "busPath": "0*"}, "mtu": 1, "dhcp": True}],
        ),
        (
            "[{deviceSelector: {driver: virtio}}]",
            "[{deviceSelector: {driver: e1000}}]",
            [{"deviceSelector": {"driver": "virtio"}}, {"deviceSelector": {"driver": "e1000"}}],
        ),
        (
            "[{interface: eth0, deviceSelector: {driver: virtio}}]",
            "[{interface: eth9, deviceSelector: {driver: virtio}}]",
            [
                {"interface": "eth0", "deviceSelector": {"driver": "virtio"}},
                {"interface": "eth9", "deviceSelector": {"driver": "virtio"}},
            ],
        ),
        ("[{interface: eth0}]", "[{mtu: 9}]", [{"interface": "eth0"}, {"mtu": 9}]),
        (
            "[{interface: eth0, addresses: [a]}]",
            "[{interface: eth0, addresses: [b]}]",
            [{"interface": "eth0", "addresses": ["a", "b"]}],
        ),
    ],
)
def test_interfaces(base: str, patch: str, after: object) -> None:
    """They are told by interface, or else by deviceSelector; what matches none is appended."""
    result = _after("machine.network.interfaces", base, patch)
    assert result == after


def test_vlans() -> None:
    """They are told by vlanId, within their interface."""
    base = "[{interface: eth0, vlans: [{vlanId: 5, mtu: 1}]}, {interface: eth1, vlans: [{vlanId: 5}]}]"
    patch = "[{interface: eth0, vlans: [{vlanId: 5, dhcp: true}, {vlanId: 6}]}]"
    assert _after("machine.network.interfaces", base, patch) == [
        {"interface": "eth0", "vlans": [{"vlanId": 5, "mtu": 1, "dhcp": True}, {"vlanId": 6}]},
        {"interface": "eth1", "vlans": [{"vlanId": 5}]},
    ]


def test_admission_control() -> None:
    """Plugins are told by name."""
    base, patch = "[{name: A, configuration: {x: [1]}}]", "[{name: A, configuration: {x: [2]}}, {name: B}]"
    assert _after("cluster.apiServer.admissionControl", base, patch) == [
        {"name": "A", "configuration": {"x": [1, 2]}},
        {"name": "B"},
    ]


@pytest.mark.parametrize("path", ["machine.kubelet.extraArgs", "cluster.apiServer.extraArgs"])
def test_arguments_are_replaced_one_by_one(path: str) -> None:
    """One argument has one value, or one list of them, empty ones too."""
    assert _after(path, "{a: x, b: y, l: [1]}", "{a: '', l: [2]}") == {"a": "", "b": "y", "l": [2]}


def test_documents_of_their_own() -> None:
    """Files of an extension are told by mountPath; the rules of a firewall are replaced."""
    base = """
        apiVersion: v1alpha1
        kind: ExtensionServiceConfig
        name: nut
        configFiles:
          - {mountPath: /etc/a, content: one}
        environment: [A=1]
        ---
        apiVersion: v1alpha1
        kind: NetworkRuleConfig
        name: api
        portSelector: {ports: [50000], protocol: tcp}
        ingress: [{subnet: 10.0.0.0/8}]
        """
    patch = """
        apiVersion: v1alpha1
        kind: ExtensionServiceConfig
        name: nut
        configFiles:
          - {mountPath: /etc/a, content: two}
          - {mountPath: /etc/b, content: three}
        environment: [B=2]
        ---
        apiVersion: v1alpha1
        kind: NetworkRuleConfig
        name: api
        portSelector: {ports: [6443]}
        ingress: [{subnet: 192.168.0.0/16}]
        """
    nut, api = values(patched(base, patch))
    assert nut["configFiles"] == [
        {"mountPath": "/etc/a", "content": "two"},
        {"mountPath": "/etc/b", "content": "three"},
    ]
    assert nut["environment"] == ["A=1", "B=2"]
    assert api["portSelector"] == {"ports": [6443], "protocol": "tcp"}
    assert api["ingress"] == [{"subnet": "192.168.0.0/16"}]


BASE_KEYS = "[{slot: 0, nodeID: {}}, {slot: 1, static: {passphrase: old}, lockToState: true}]"


@pytest.mark.parametrize(
    ("keys", "after"),
    [
        ("[{slot: 2, tpm: {}}]", [0, 1, 2]),
        ("[{slot: 1, static: {passphrase: new}}]", {"slot": 1, "static": {"passphrase": "new"}, "lockToState": True}),
        ("[{slot: 0x1, lockToState: false}]", {"slot": 1, "static": {"passphrase": "old"}, "lockToState": False}),
        (
            "[{slot: 1, kms: {endpoint: 'https://kms:1'}}]",
            {"slot": 1, "kms": {"endpoint": "https://kms:1"}, "lockToState": True},
        ),
    ],
)
def test_keys_by_slot(keys: str, after: object) -> None:
    """Where the flag or the policy asks, a key is told by its slot; another kind takes the place of the old one."""
    document = "apiVersion: v1alpha1\nkind: VolumeConfig\nname: EPHEMERAL\nencryption: {{keys: {}}}\n"
    base, change = document.format(BASE_KEYS), document.format(keys)
    policy = "---\napiVersion: luksctl/v1alpha1\nkind: EncryptionPolicy\npatchKeys: bySlot\n"
    for text in (patched(base, change, keys_by_slot=True), patched(base + policy, change)):
        result = values(text)[0]["encryption"]["keys"]
        assert (result[1] if isinstance(after, dict) else [key["slot"] for key in result]) == after
    appended = values(patched(base, change))[0]["encryption"]["keys"]
    assert len(appended) == 3


def test_keys_by_slot_in_the_machine_configuration() -> None:
    """Keys in systemDiskEncryption have slots as well."""
    base = f"machine: {{systemDiskEncryption: {{state: {{keys: {BASE_KEYS}}}}}}}\n"
    after = patched(base, "machine: {systemDiskEncryption: {state: {keys: [{slot: 0, tpm: {}}]}}}", keys_by_slot=True)
    assert values(after)[0]["machine"]["systemDiskEncryption"]["state"]["keys"][0] == {"slot": 0, "tpm": {}}


def test_a_policy_from_a_patch_counts_for_the_next() -> None:
    """Patches work in their order, and so does what they say of patches."""
    base = f"apiVersion: v1alpha1\nkind: VolumeConfig\nname: STATE\nencryption: {{keys: {BASE_KEYS}}}\n"
    policy = "apiVersion: luksctl/v1alpha1\nkind: EncryptionPolicy\npatchKeys: bySlot\n"
    change = "apiVersion: v1alpha1\nkind: VolumeConfig\nname: STATE\nencryption: {keys: [{slot: 0, tpm: {}}]}\n"
    assert len(values(patched(base, policy, change))[0]["encryption"]["keys"]) == 2


@pytest.mark.parametrize(
    ("base", "patch", "said"),
    [
        ("[a]", "{a: 1}", "a mapping cannot be merged into a list"),
        ("{a: 1}", "x", "text cannot be merged into a mapping"),
        ("x", "[1]", "a list cannot be merged into text"),
        ("true", "{a: 1}", "a mapping cannot be merged into true or false"),
    ],
)
def test_what_is_of_another_kind_is_a_problem(base: str, patch: str, said: str) -> None:
    """Nothing is guessed: file, line and path are named, and the way out."""
    found = problem(f"machine: {{x: {base}}}", f"machine:\n  x: {patch}\n")
    assert (found.file, found.line, found.path, found.message) == ("patch 1", 2, "machine.x", said)
    assert found.hint is not None


def test_all_problems_of_a_patch_are_told() -> None:
    """Not only the first."""
    with pytest.raises(ConfigError) as caught:
        patch("machine: {a: 1, b: 2}", "machine:\n  a: [1]\n  b: {c: 1}\n")
    assert [found.line for found in caught.value.problems] == [2, 3]
