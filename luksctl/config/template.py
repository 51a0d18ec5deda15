"""Write a machine config to start from, commented for the person who will edit it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from luksctl.errors import UsageError
from luksctl.hints import Final
from luksctl.model.config import EPHEMERAL, STATE, KeyKind
from luksctl.value import frozen

DEFAULT_KMS_ENDPOINT: Final = "https://kms.example.com:4050"

_HEAD: Final = """\
# Machine config for luksctl: which volumes are encrypted, and with which keys.
# The keys listed here are the keyslots on the disk; any one of them opens the volume.
# Check it with: luksctl validate FILE
"""
_MACHINE: Final = """\
machine:
  type: {type}
cluster:
  clusterName: {name}
  controlPlane:
    endpoint: {endpoint}
"""
_VOLUME: Final = """\
---
# {comment}
apiVersion: v1alpha1
kind: VolumeConfig
name: {volume}
encryption:
  provider: luks2
  # cipher: aes-xts-plain64   # or xchacha12,aes-adiantum-plain64 where the CPU has no AES
  # allowDiscards: true       # tells the disk which blocks are free; it then shows which are used
  keys:
"""
_POLICY: Final = """\
---
# How luksctl goes about it. Every field may be left out; these are the defaults.
apiVersion: luksctl/v1alpha1
kind: EncryptionPolicy
# Argon2id cost of a static or nodeID key: each guess at it costs this much.
kdf:
  time: 4
  memory: 256MiB
  threads: 2
# A blank volume is formatted as soon as any key could be made, or only with all of them.
formatRequires: any
# Remove keyslots that others made (systemd-cryptenroll, clevis, by hand)?
prune: false
# Keep the header in the form that Talos can open.
talosReadable: true
filesystems:
  STATE: xfs
  EPHEMERAL: xfs
"""
_VOLUME_COMMENTS: Final = {
    STATE: "STATE holds this config, so it is opened first, with keys that are also kept in META.",
    EPHEMERAL: "EPHEMERAL holds the data of the node.",
}


@frozen
class Machine:
    """What a node of a cluster is: `type` is controlplane or worker, `endpoint` the URL of its control plane."""

    type: str
    cluster: str
    endpoint: str


def generate_machine_config(
    kinds: Sequence[KeyKind],
    *,
    passphrase: str | None = None,
    kms_endpoint: str = DEFAULT_KMS_ENDPOINT,
    machine: Machine | None = None,
) -> bytes:
    """Return a config that encrypts STATE and EPHEMERAL with one key of each of `kinds`, slots in that order.

    `passphrase` is the text of the static key; `machine` adds the machine configuration proper. Raises UsageError for
    no kind, a kind given twice, or a static key without a passphrase.
    """
    if not kinds:
        raise UsageError("no key to generate", hint=f"name at least one of {', '.join(KeyKind)}")
    if len(set(kinds)) != len(kinds):
        raise UsageError("a kind of key is given twice", hint="name each kind once; edit the file for more keys")
    if KeyKind.STATIC in kinds and not passphrase:
        raise UsageError("a static key needs a passphrase")
    parts = [_HEAD]
    if machine is not None:
        name, endpoint = quote(machine.cluster), quote(machine.endpoint)
        parts.append(_MACHINE.format(type=machine.type, name=name, endpoint=endpoint))
    for volume, comment in _VOLUME_COMMENTS.items():
        parts.append(_VOLUME.format(volume=volume, comment=comment))
        for slot, kind in enumerate(kinds):
            parts += [f"    {line}\n" for line in _key_lines(slot, kind, passphrase or "", kms_endpoint)]
    return "".join([*parts, _POLICY]).encode()


def _key_lines(slot: int, kind: KeyKind, passphrase: str, kms_endpoint: str) -> Iterator[str]:
    match kind:
        case KeyKind.STATIC:
            yield "# Whoever reads this config knows this passphrase; write another copy down and keep it elsewhere."
            yield f"- slot: {slot}"
            yield "  static:"
            yield f"    passphrase: {quote(passphrase)}"
        case KeyKind.NODE_ID:
            yield "# Made from the UUID of this machine: protects a disk that is taken out of it, nothing more."
            yield f"- slot: {slot}"
            yield "  nodeID: {}"
        case KeyKind.KMS:
            yield "# Sealed by a key management service, which must be reachable at every boot."
            yield f"- slot: {slot}"
            yield "  kms:"
            yield f"    endpoint: {quote(kms_endpoint)}"
        case KeyKind.TPM:
            yield "# Sealed in the TPM of this machine, bound to its Secure Boot state (PCR 7)."
            yield f"- slot: {slot}"
            yield "  tpm:"
            yield "    options:"
            yield "      pcrs: [7]"


def quote(text: str) -> str:
    """Return `text` as a double-quoted YAML scalar of printable ASCII."""
    return f'"{"".join(map(_escape, text))}"'


def _escape(character: str) -> str:
    code = ord(character)
    if character in '"\\':
        return f"\\{character}"
    if 0x20 <= code < 0x7F:
        return character
    if code <= 0xFFFF:
        return f"\\u{code:04X}"
    return f"\\U{code:08X}"
