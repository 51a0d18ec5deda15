"""What happens to a TPM without luksctl: firmware measures something else, or makes it forget all keys."""

from __future__ import annotations

from rig.machine import Machine

# TPM 2.0 library specification part 3, TPM2_PCR_Extend and TPM2_Clear, with empty passwords.
_COMMANDS = """
import struct, sys

def send(code, handle, parameters=b""):
    password = struct.pack(">IHBH", 0x40000009, 0, 0, 0)
    body = struct.pack(">I", handle) + struct.pack(">I", len(password)) + password + parameters
    with open("/dev/tpm0", "r+b", buffering=0) as tpm:
        tpm.write(struct.pack(">HII", 0x8002, 10 + len(body), code) + body)
        answer = struct.unpack(">HII", tpm.read(4096)[:10])
    sys.exit(f"TPM: {answer[2]:#x}" if answer[2] else 0)

if sys.argv[1] == "extend":
    send(0x182, int(sys.argv[2]), struct.pack(">IH", 1, 0x000B) + sys.argv[3].encode().ljust(32))
send(0x126, 0x4000000A)
"""


def extend(node: Machine, pcr: int, content: str) -> None:
    """Extend a PCR with at most 32 bytes, as firmware of another version would."""
    _send(node, "extend", str(pcr), content)


def clear(node: Machine) -> None:
    """Have the TPM forget every key, as firmware does when it is told to."""
    _send(node, "clear")


def _send(node: Machine, *words: str) -> None:
    node.check("python3", "-c", _COMMANDS, *words)
