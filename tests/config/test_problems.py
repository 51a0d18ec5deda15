"""Every problem of a machine config, with its line and path."""

from __future__ import annotations

import pytest

from luksctl.config.documents import parse_machine_config
from luksctl.errors import ConfigError
from tests.config.reading import one_key, problems, volume_config, yaml

KEYS = "keys: [{slot: 0, nodeID: {}}]"
ENCRYPTION = "VolumeConfig/EPHEMERAL.encryption"
KEY = f"{ENCRYPTION}.keys[0]"
V1ALPHA1 = "machine.systemDiskEncryption.state"
POLICY = "apiVersion: luksctl/v1alpha1\nkind: EncryptionPolicy\n"


def v1alpha1(state: str) -> str:
    """Return a machine configuration; `state`, flow YAML, stands in line 3."""
    return f"machine:\n  systemDiskEncryption:\n    state: {state}\n"


def document(kind: str, rest: str) -> str:
    """Return a volume document; `rest` starts in line 3."""
    return f"apiVersion: v1alpha1\nkind: {kind}\n{rest}\n"


# text, line, path, a part of the message, a part of the hint
Row = tuple[str, int, str, str, str]
PROVIDER: list[Row] = [
    (v1alpha1(f"{{provider: luks1, {KEYS}}}"), 3, f"{V1ALPHA1}.provider", "unknown provider 'luks1'", "luks2"),
    (v1alpha1(f"{{provider: none, {KEYS}}}"), 3, f"{V1ALPHA1}.provider", "unknown provider 'none'", "luks2"),
    (v1alpha1(f"{{provider: 2, {KEYS}}}"), 3, f"{V1ALPHA1}.provider", "must be text, not a number", "quotes"),
    (volume_config(f"{{{KEYS}}}"), 4, f"{ENCRYPTION}.provider", "provider is missing", "provider: luks2"),
    (volume_config(f"{{provider: '', {KEYS}}}"), 4, f"{ENCRYPTION}.provider", "provider is missing", "provider: luks2"),
    (volume_config(f"{{provider: luks, {KEYS}}}"), 4, f"{ENCRYPTION}.provider", "unknown provider", "mean luks2?"),
    (
        volume_config(f"{{provider: none, {KEYS}}}"),
        4,
        f"{ENCRYPTION}.provider",
        "contradicts the keys",
        "take the keys",
    ),
]
BLOCK: list[Row] = [
    (v1alpha1("{}"), 3, f"{V1ALPHA1}.keys", "no keys", "at least one"),
    (v1alpha1("{keys: []}"), 3, f"{V1ALPHA1}.keys", "no keys", "at least one"),
    (v1alpha1("{keys: {}}"), 3, f"{V1ALPHA1}.keys", "must be a list, not a mapping", "dash"),
    (v1alpha1("{keys: [nodeID]}"), 3, f"{V1ALPHA1}.keys[0]", "must be a mapping, not text", ""),
    (v1alpha1("\n"), 3, V1ALPHA1, "state is empty", "plain volume"),
    (v1alpha1("[]"), 3, V1ALPHA1, "must be a mapping, not a list", ""),
    (v1alpha1(f"{{cipher: aes-cbc, {KEYS}}}"), 3, f"{V1ALPHA1}.cipher", "unknown cipher 'aes-cbc'", "aes-xts-plain64"),
    (v1alpha1(f"{{keySize: 384, {KEYS}}}"), 3, f"{V1ALPHA1}.keySize", "384 bits do not fit", "256 or 512"),
    (v1alpha1(f"{{keySize: -1, {KEYS}}}"), 3, f"{V1ALPHA1}.keySize", "-1 bits", "256 or 512"),
    (v1alpha1(f"{{keySize: true, {KEYS}}}"), 3, f"{V1ALPHA1}.keySize", "a whole number, not true or false", ""),
    (
        v1alpha1(f"{{keySize: 512, cipher: 'xchacha12,aes-adiantum-plain64', {KEYS}}}"),
        3,
        f"{V1ALPHA1}.keySize",
        "512 bits do not fit xchacha12",
        "use 256",
    ),
    (v1alpha1(f"{{blockSize: 8192, {KEYS}}}"), 3, f"{V1ALPHA1}.blockSize", "8192 bytes", "512, 1024, 2048, 4096"),
    (v1alpha1(f"{{blockSize: 4k, {KEYS}}}"), 3, f"{V1ALPHA1}.blockSize", "a whole number, not text", ""),
    (
        v1alpha1(f"{{options: [same_cpu_crypt, no-read-workqueue], {KEYS}}}"),
        3,
        f"{V1ALPHA1}.options[1]",
        "unknown option",
        "mean no_read_workqueue?",
    ),
    (v1alpha1(f"{{options: discard, {KEYS}}}"), 3, f"{V1ALPHA1}.options", "must be a list, not text", "dash"),
    (v1alpha1(f"{{allowDiscards: true, {KEYS}}}"), 3, f"{V1ALPHA1}.allowDiscards", "unknown field", "VolumeConfig"),
    (
        volume_config(f"{{provider: luks2, allowDiscards: 'yes', {KEYS}}}"),
        4,
        f"{ENCRYPTION}.allowDiscards",
        "must be true or false, not text",
        "without quotes",
    ),
    (volume_config(f"{{provider: luks2, ? [a] : b, {KEYS}}}"), 4, ENCRYPTION, "name must be text, not a list", ""),
    (volume_config(f"{{provider: luks2, cypher: '', {KEYS}}}"), 4, f"{ENCRYPTION}.cypher", "unknown", "mean cipher?"),
    (volume_config("\n"), 4, ENCRYPTION, "encryption is empty", "plain volume"),
]
SLOTS: list[Row] = [
    (one_key("{nodeID: {}}"), 7, f"{KEY}.slot", "slot is missing", "0 to 31"),
    (one_key("{slot: , nodeID: {}}"), 7, f"{KEY}.slot", "slot is missing", "0 to 31"),
    (one_key("{slot: 32, nodeID: {}}"), 7, f"{KEY}.slot", "slot 32 is outside 0-31", ""),
    (one_key("{slot: -1, nodeID: {}}"), 7, f"{KEY}.slot", "slot -1 is outside 0-31", ""),
    (one_key("{slot: '1', nodeID: {}}"), 7, f"{KEY}.slot", "must be a whole number, not text", ""),
    (one_key("{slot: 1.0, nodeID: {}}"), 7, f"{KEY}.slot", "must be a whole number, not a number", ""),
    (one_key("{slot: !!int x, nodeID: {}}"), 7, f"{KEY}.slot", "not a whole number", ""),
    (one_key("{slot: 010, nodeID: {}}"), 7, f"{KEY}.slot", "every reader", "octal"),
    (one_key(f"{{slot: {'9' * 5000}, nodeID: {{}}}}"), 7, f"{KEY}.slot", "every reader", ""),
    (
        one_key("{slot: 1, nodeID: {}}\n    - nodeID: {}\n      slot: 0x1"),
        9,
        f"{ENCRYPTION}.keys[1].slot",
        "slot 1 is given twice, first in line 7",
        "",
    ),
]
KEY_KINDS: list[Row] = [
    (one_key("{slot: 0}"), 7, KEY, "one of static, nodeID, kms, tpm", ""),
    (one_key("{slot: 0, nodeID: }"), 7, f"{KEY}.nodeID", "nodeID is empty", "write nodeID: {}"),
    (one_key("{slot: 0, tpm: ~}"), 7, f"{KEY}.tpm", "tpm is empty", "write tpm: {}"),
    (one_key("{slot: 0, kms: }"), 7, f"{KEY}.kms", "kms is empty", ""),
    (one_key("{slot: 0, nodeID: {}, tpm: {}}"), 7, f"{KEY}.tpm", "several kinds in one key: nodeID, tpm", "own"),
    (one_key("{slot: 0, nodeID: true}"), 7, f"{KEY}.nodeID", "must be a mapping, not true or false", ""),
    (one_key("{slot: 0, nodeID: {uuid: x}}"), 7, f"{KEY}.nodeID.uuid", "unknown field 'uuid'", "no fields"),
    (one_key("{slot: 0, nodeID: {}, lockToStat: true}"), 7, f"{KEY}.lockToStat", "unknown", "mean lockToState?"),
    (one_key("{slot: 0, nodeID: {}, lockToSTATE: 1}"), 7, f"{KEY}.lockToSTATE", "must be true or false", ""),
    (
        one_key("{slot: 0, nodeID: {}, lockToSTATE: true, lockToState: true}"),
        7,
        f"{KEY}.lockToSTATE",
        "given twice",
        "keep lockToState",
    ),
    (
        one_key("{slot: 0, nodeID: {}, lockToSTATE: true}", "STATE"),
        7,
        "VolumeConfig/STATE.encryption.keys[0].lockToSTATE",
        "STATE cannot be locked to STATE",
        "take lockToSTATE out",
    ),
    (
        v1alpha1("{keys: [{slot: 0, nodeID: {}, lockToSTATE: true}]}"),
        3,
        f"{V1ALPHA1}.keys[0].lockToSTATE",
        "unknown field",
        "only in a VolumeConfig",
    ),
    (one_key("{slot: 0, nodeID: {}, lockToState: on}"), 7, f"{KEY}.lockToState", "must be true or false", ""),
    (
        one_key("{slot: 0, nodeID: {}, lockToState: true}", "STATE"),
        7,
        "VolumeConfig/STATE.encryption.keys[0].lockToState",
        "STATE cannot be locked to STATE",
        "take lockToState out",
    ),
    (
        v1alpha1("{keys: [{slot: 0, nodeID: {}, lockToState: true}]}"),
        3,
        f"{V1ALPHA1}.keys[0].lockToState",
        "unknown field",
        "only in a VolumeConfig",
    ),
]
STATIC: list[Row] = [
    (one_key("{slot: 0, static: {}}"), 7, f"{KEY}.static.passphrase", "empty passphrase", "anybody"),
    (one_key("{slot: 0, static: {passphrase: }}"), 7, f"{KEY}.static.passphrase", "empty passphrase", "anybody"),
    (one_key("{slot: 0, static: {passphrase: ''}}"), 7, f"{KEY}.static.passphrase", "empty passphrase", "anybody"),
    (one_key("{slot: 0, static: {passphrase: 1234}}"), 7, f"{KEY}.static.passphrase", "text, not a number", "quotes"),
    (one_key("{slot: 0, static: {passphrase: 1e3}}"), 7, f"{KEY}.static.passphrase", "text, not a number", "quotes"),
    (one_key("{slot: 0, static: {passphrase: 0o17}}"), 7, f"{KEY}.static.passphrase", "text, not a number", "quotes"),
    (one_key("{slot: 0, static: {passphrase: .inf}}"), 7, f"{KEY}.static.passphrase", "text, not a number", "quotes"),
    (one_key("{slot: 0, static: {passphrase: True}}"), 7, f"{KEY}.static.passphrase", "not true or false", "quotes"),
    (one_key("{slot: 0, static: {passphrase: !x y}}"), 7, f"{KEY}.static.passphrase", "not a value with a tag", ""),
    (one_key("{slot: 0, static: {passphrase: {a: b}}}"), 7, f"{KEY}.static.passphrase", "not a mapping", ""),
    (one_key("{slot: 0, static: hunter2}"), 7, f"{KEY}.static", "must be a mapping, not text", ""),
]
KMS_AND_TPM: list[Row] = [
    (one_key("{slot: 0, kms: {}}"), 7, f"{KEY}.kms.endpoint", "endpoint is missing", "https://HOST:PORT"),
    (one_key("{slot: 0, kms: {endpoint: ''}}"), 7, f"{KEY}.kms.endpoint", "endpoint is missing", "https://HOST:PORT"),
    (one_key("{slot: 0, kms: {endpoint: 'https://'}}"), 7, f"{KEY}.kms.endpoint", "not an endpoint", "https://"),
    (one_key("{slot: 0, kms: {endpoint: 'h:99999'}}"), 7, f"{KEY}.kms.endpoint", "port 99999", "https://"),
    (one_key("{slot: 0, kms: {endpoint: https://h, url: h}}"), 7, f"{KEY}.kms.url", "unknown field 'url'", "endpoint"),
    (one_key("{slot: 0, tpm: {options: {pcrs: [7, 24]}}}"), 7, f"{KEY}.tpm.options.pcrs[1]", "PCR 24", ""),
    (one_key("{slot: 0, tpm: {options: {pcrs: [-1]}}}"), 7, f"{KEY}.tpm.options.pcrs[0]", "PCR -1", ""),
    (one_key("{slot: 0, tpm: {options: {pcrs: [x]}}}"), 7, f"{KEY}.tpm.options.pcrs[0]", "whole number, not text", ""),
    (one_key("{slot: 0, tpm: {options: {pcrs: 7}}}"), 7, f"{KEY}.tpm.options.pcrs", "must be a list", "dash"),
    (one_key("{slot: 0, tpm: {options: {pcr: [7]}}}"), 7, f"{KEY}.tpm.options.pcr", "unknown field", "mean pcrs?"),
    (
        v1alpha1("{keys: [{slot: 0, tpm: {options: {}}}]}"),
        3,
        f"{V1ALPHA1}.keys[0].tpm.options",
        "unknown field",
        "only in a VolumeConfig",
    ),
]
PLACES: list[Row] = [
    ("machine: []\n", 1, "machine", "must be a mapping, not a list", ""),
    ("machine:\n  systemDiskEncryption:\n", 2, "machine.systemDiskEncryption", "is empty", "plain volume"),
    (
        "machine:\n  systemDiskEncryption:\n    STATE: {}\n",
        3,
        "machine.systemDiskEncryption.STATE",
        "unknown field",
        "mean state?",
    ),
    (
        "machine:\n  systemdiskencryption: {}\n",
        2,
        "machine.systemdiskencryption",
        "unknown field",
        "mean systemDiskEncryption?",
    ),
    ("machine: {}\nsystemDiskEncryption: {}\n", 2, "systemDiskEncryption", "outside machine", "below machine"),
    ("cluster: {}\nmachin: {}\n", 2, "machin", "unknown field", "mean machine?"),
    (document("VolumeConfig", "encryption: {provider: none}"), 1, "VolumeConfig.name", "name is missing", ""),
    (document("VolumeConfig", "name: META"), 3, "VolumeConfig/META.name", "no system volume 'META'", "known: STATE"),
    (document("VolumeConfig", "name: EPHEMERL"), 3, "VolumeConfig/EPHEMERL.name", "no system", "mean EPHEMERAL?"),
    (document("VolumeConfig", "name: 7"), 3, "VolumeConfig/7.name", "must be text, not a number", "quotes"),
    (
        document("VolumeConfig", "name: STATE\nencrption: {}"),
        4,
        "VolumeConfig/STATE.encrption",
        "unknown field",
        "mean encryption?",
    ),
    (document("VolumeConfig", "name: STATE\nmount: {}"), 4, "VolumeConfig/STATE.mount", "takes no mount", "take the"),
    (
        document("VolumeConfig", "name: STATE\nprovisioning:"),
        4,
        "VolumeConfig/STATE.provisioning",
        "takes no provisioning",
        "take the",
    ),
    (document("UserVolumeConfig", "name: a_b"), 3, "UserVolumeConfig/a_b.name", "'a_b' is no volume name", "1 to 34"),
    (
        document("RawVolumeConfig", f"name: {'a' * 35}"),
        3,
        f"RawVolumeConfig/{'a' * 35}.name",
        "is no volume name",
        "1 to 34",
    ),
    (document("SwapVolumeConfig", "name: ''"), 3, "SwapVolumeConfig.name", "name is missing", ""),
    (
        document("UserVolumeConfig", "name: a\nvolumeType: directory\nfilesystem: {}"),
        5,
        "UserVolumeConfig/a.filesystem",
        "of type directory takes no filesystem",
        "",
    ),
]
DOCUMENTS: list[Row] = [
    ("", 1, "", "no machine configuration", ""),
    ("---\n---\n# nothing\n", 1, "", "no machine configuration", ""),
    ("apiVersion: v1\nkind: ConfigMap\n", 1, "", "no machine configuration", ""),
    ("- a\n", 1, "", "a document must be a mapping, not a list", ""),
    ("hello\n", 1, "", "a document must be a mapping, not text", ""),
    ("\nmaschine: {}\n", 2, "", "neither a machine configuration nor", "mean machine?"),
    ("foo: {}\n", 1, "", "neither a machine configuration nor", "one of machine, cluster"),
    ("kind: VolumeConfig\nname: STATE\n", 1, "apiVersion", "apiVersion is missing", "both"),
    ("\napiVersion: v1alpha1\nmachine: {}\n", 2, "kind", "kind is missing", "both"),
    ("kind: 1\napiVersion: v1alpha1\n", 1, "kind", "must be text, not a number", "quotes"),
    (
        "kind: Volumeconfig\napiVersion: v1alpha1\nname: STATE\n",
        1,
        "Volumeconfig/STATE.kind",
        "unknown kind",
        "mean VolumeConfig?",
    ),
    (
        "kind: VolumeConfig\napiVersion: v1beta1\nname: STATE\n",
        2,
        "VolumeConfig/STATE.apiVersion",
        "no apiVersion 'v1beta1'",
        "write apiVersion: v1alpha1",
    ),
    (
        "kind: EncryptionPolicy\napiVersion: v1alpha1\n",
        2,
        "EncryptionPolicy.apiVersion",
        "no apiVersion",
        "luksctl/v1alpha1",
    ),
    ("kind: Policy\napiVersion: luksctl/v1alpha1\n", 1, "Policy.kind", "unknown kind 'Policy'", "EncryptionPolicy"),
    ("machine: {}\n---\ncluster: {}\n", 3, "", "given twice, first in line 1", ""),
    (f"{POLICY}---\n{POLICY}", 4, "EncryptionPolicy", "given twice, first in line 1", ""),
    (
        "machine: {}\n---\n" + "kind: A\napiVersion: v1\nname: n\n---\n" * 2,
        7,
        "A/n",
        "given twice, first in line 3",
        "",
    ),
]


@pytest.mark.parametrize(
    ("text", "line", "path", "message", "hint"),
    [*PROVIDER, *BLOCK, *SLOTS, *KEY_KINDS, *STATIC, *KMS_AND_TPM, *PLACES, *DOCUMENTS],
)
def test_one_problem(text: str, line: int, path: str, message: str, hint: str) -> None:
    """The text has exactly this problem, at this line and path, with this hint."""
    found = problems(text.encode())
    assert [(problem.file, problem.line, problem.path) for problem in found] == [("machine.yaml", line, path)]
    assert message in found[0].message
    assert hint in (found[0].hint or "")


def test_three_problems_are_reported_at_once() -> None:
    """Problems of different documents come together, in order of line, and the error's text holds all of them."""
    text = """
        machine:
          systemDiskEncryption:
            state:
              keys:
                - slot: 44
                  nodeID: {}
        ---
        apiVersion: v1alpha1
        kind: VolumeConfig
        name: EPHEMERAL
        encryption:
          provider: luks2
          cipher: rot13
          keys:
            - slot: 0
              static:
                passphrase: ""
    """
    with pytest.raises(ConfigError) as caught:
        parse_machine_config(yaml(text), "machine.yaml")
    assert caught.value.exit_code == 2
    assert str(caught.value).splitlines() == [
        "machine.yaml:5: machine.systemDiskEncryption.state.keys[0].slot: slot 44 is outside 0-31",
        "machine.yaml:13: VolumeConfig/EPHEMERAL.encryption.cipher: unknown cipher 'rot13'",
        "machine.yaml:17: VolumeConfig/EPHEMERAL.encryption.keys[0].static.passphrase: empty passphrase",
    ]


def test_a_volume_configured_in_both_places() -> None:
    """v1alpha1 and VolumeConfig for one volume contradict each other, whichever comes first in the file."""
    one, other = v1alpha1(f"{{{KEYS}}}"), volume_config(f"{{provider: luks2, {KEYS}}}", "STATE")
    for text, line, path in (
        (f"{one}---\n{other}", 8, "VolumeConfig/STATE.encryption"),
        (f"{other}---\n{one}", 8, V1ALPHA1),
    ):
        (problem,) = problems(text.encode())
        assert (problem.line, problem.path) == (line, path)
        assert "configured twice" in problem.message


def test_a_plain_volume_config_does_not_contradict() -> None:
    """A VolumeConfig without encryption leaves the word to machine.systemDiskEncryption, as in Talos."""
    assert problems(f"{v1alpha1(f'{{{KEYS}}}')}---\n{document('VolumeConfig', 'name: STATE')}".encode()) == ()


def test_more_keys_than_slots() -> None:
    """33 keys cannot have a slot each."""
    listed = "".join(f"    - {{slot: {slot}, nodeID: {{}}}}\n" for slot in range(33))
    text = f"{document('VolumeConfig', 'name: EPHEMERAL')}encryption:\n  provider: luks2\n  keys:\n{listed}"
    assert [(problem.line, problem.message) for problem in problems(text.encode())] == [
        (6, "33 keys, and a volume has 32 slots"),
        (39, "slot 32 is outside 0-31"),
    ]


@pytest.mark.parametrize(
    "static",
    [
        "hunter2marker",
        "{hunter2marker}",
        "{hunter2marker: x}",
        "{passphrase: *hunter2marker}",
        "{passphrase: !hunter2marker x}",
        "{passphrase: !a!hunter2marker x}",
        "{passphrase: {hunter2marker: 1}}",
        "{passphrase: [hunter2marker]}",
        "{passphrase: &hunter2marker }",
        "{passphrase: @hunter2marker}",
        "{passphrase: %hunter2marker}",
        "{passphrase: hunter2marker: x}",
        '{passphrase: "hunter2marker}',
        '{passphrase: "hunter2marker\\y"}',
    ],
)
def test_a_passphrase_that_was_not_quoted_is_not_repeated(static: str) -> None:
    """Whatever YAML makes of an unquoted passphrase, the problem that tells of it does not quote it."""
    found = problems(one_key(f"{{slot: 0, static: {static}}}").encode())
    assert found
    assert all("hunter2" not in f"{problem} {problem.hint}" for problem in found)
