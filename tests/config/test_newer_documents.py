"""Documents that later versions of Talos have: carried byte for byte, and merged by apiVersion, kind and name."""

from __future__ import annotations

from typing import Any

import pytest

from luksctl.config.documents import parse_machine_config
from tests.config.patches import patched, values
from tests.house.tree import ROOT

CARRIED = (ROOT / "tests" / "cli" / "carried.yaml").read_text(encoding="utf-8")


def _names(text: str) -> list[tuple[str, str]]:
    return [(document.get("kind", ""), str(document.get("name", ""))) for document in values(text)]


def test_a_config_with_all_of_them_is_read_as_it_is() -> None:
    """The text is what was given; encryption that is not ours is told, and nothing else is said of it."""
    config = parse_machine_config(CARRIED.encode(), "machine.yaml")
    assert config.text == CARRIED.encode()
    told = [warning for warning in config.warnings if "luksctl does not manage this volume" in warning]
    assert [warning.partition(":")[0] for warning in told] == ["IMAGECACHE", "u-data", "s-swap"]


NAMED = [(kind, name) for kind, name in _names(CARRIED) if kind not in {"", "EncryptionPolicy"}]


@pytest.mark.parametrize(("kind", "name"), NAMED)
def test_each_is_patched_by_its_identity(kind: str, name: str) -> None:
    """One field more in that document alone; taken back, every byte is as before."""
    head = f"apiVersion: v1alpha1\nkind: {kind}\n" + (f"name: '{name}'\n" if name else "")
    forth = patched(CARRIED, f"{head}added: [1]\n")
    assert _names(forth) == _names(CARRIED)
    before, after = values(CARRIED), values(forth)
    changed = [index for index, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1]]
    assert [_names(CARRIED)[index] for index in changed] == [(kind, name)]
    assert after[changed[0]] == {**before[changed[0]], "added": [1]}
    assert patched(forth, f"{head}added: {{$patch: delete}}\n") == CARRIED


@pytest.mark.parametrize(("kind", "name"), NAMED)
def test_each_is_deleted_and_added_again(kind: str, name: str) -> None:
    """The others stay in their order; a document of another name, or of another apiVersion, is another one."""
    version = "apiVersion: v1alpha1\n"
    head = f"kind: {kind}\n" + (f"name: '{name}'\n" if name else "")
    assert _names(patched(CARRIED, f"{version}{head}$patch: delete\n")) == [
        each for each in _names(CARRIED) if each != (kind, name)
    ]
    other = f"{version}kind: {kind}\nname: other\nadded: 1\n"
    assert _names(patched(CARRIED, other)) == [*_names(CARRIED), (kind, "other")]
    assert _names(patched(CARRIED, f"apiVersion: v9\n{head}added: 1\n")) == [*_names(CARRIED), (kind, name)]


# kind, what the base has beside its head, what the patch has, what comes of it
Row = tuple[str, str, str, dict[str, Any]]
ROWS: list[Row] = [
    (
        "LinkConfig",
        "{addresses: [{address: a}], routes: [{gateway: g}], mtu: 1500}",
        "{addresses: [{address: a, priority: 1}], mtu: 9000}",
        {"addresses": [{"address": "a"}, {"address": "a", "priority": 1}], "routes": [{"gateway": "g"}], "mtu": 9000},
    ),
    (
        "EthernetConfig",
        "{features: {rx-gro: true, tx-a: true}, rings: {rx: 16}}",
        "{features: {rx-gro: false}, rings: {tx: 32}}",
        {"features": {"rx-gro": False, "tx-a": True}, "rings": {"rx": 16, "tx": 32}},
    ),
    ("StaticHostConfig", "{hostnames: [a]}", "{hostnames: [b]}", {"hostnames": ["a", "b"]}),
    (
        "UserVolumeConfig",
        "{provisioning: {minSize: 1GB, maxSize: 2GB}, filesystem: {type: xfs}}",
        "{provisioning: {maxSize: 3GB}, filesystem: {type: ext4}}",
        {"provisioning": {"minSize": "1GB", "maxSize": "3GB"}, "filesystem": {"type": "ext4"}},
    ),
    (
        "RawVolumeConfig",
        "{encryption: {provider: luks2, keys: [{slot: 0, nodeID: {}}], options: [no_read_workqueue]}}",
        "{encryption: {keys: [{slot: 1, tpm: {}}], options: [no_write_workqueue]}}",
        {
            "encryption": {
                "provider": "luks2",
                "keys": [{"slot": 0, "nodeID": {}}, {"slot": 1, "tpm": {}}],
                "options": ["no_read_workqueue", "no_write_workqueue"],
            }
        },
    ),
    (
        "CRIBaseRuntimeSpecConfig",
        "{overrides: {a: {b: 1}}}",
        "{overrides: {a: {c: 2}}}",
        {"overrides": {"a": {"c": 2}}},
    ),
    ("KubeStaticPodConfig", "{pod: {kind: Pod, spec: {a: 1}}}", "{pod: {kind: Pod}}", {"pod": {"kind": "Pod"}}),
    *(
        (
            kind,
            "{configuration: {rules: [a], x: 1}}",
            "{configuration: {rules: [b]}}",
            {"configuration": {"rules": ["b"]}},
        )
        for kind in ("KubeAuditPolicyConfig", "KubeAuthenticationConfig", "KubeCredentialProviderConfig")
    ),
    (
        "ImageVerificationConfig",
        "{rules: [{image: a, skip: true}, {image: b, deny: true}]}",
        "{rules: [{image: b, keyless: {issuer: i}}, {image: c, deny: true}]}",
        {
            "rules": [
                {"image": "a", "skip": True},
                {"image": "b", "keyless": {"issuer": "i"}},
                {"image": "c", "deny": True},
            ]
        },
    ),
    (
        "KubeAPIServerConfig",
        "{extraArgs: {a: [1], b: x}}",
        "{extraArgs: {a: [2]}}",
        {"extraArgs": {"a": [2], "b": "x"}},
    ),
    (
        "OneThatNobodyKnows",
        "{l: [1], m: {a: {b: 1}}, s: x}",
        "{l: [1], m: {a: {c: 2}}}",
        {"l": [1, 1], "m": {"a": {"b": 1, "c": 2}}, "s": "x"},
    ),
]


@pytest.mark.parametrize(("kind", "base", "patch", "after"), ROWS, ids=[row[0] for row in ROWS])
def test_merging(kind: str, base: str, patch: str, after: dict[str, Any]) -> None:
    """Mappings by key, lists appended, and what is documented otherwise."""
    head = f"apiVersion: v1alpha1, kind: {kind}, name: a"
    merged = patched(f"{{{head}, {base[1:]}\n", f"{{{head}, {patch[1:]}\n")
    assert values(merged) == [{"apiVersion": "v1alpha1", "kind": kind, "name": "a"} | after]


def test_a_rule_that_is_given_again_changes_nothing() -> None:
    """Not a byte, and its comment stays."""
    base = "apiVersion: v1alpha1\nkind: ImageVerificationConfig\nrules:\n  - image: a # why\n    deny: true\n"
    patch = "{apiVersion: v1alpha1, kind: ImageVerificationConfig, rules: [{deny: true, image: a}]}"
    assert patched(base, patch) == base
