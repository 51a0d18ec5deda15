"""What the TSS library was given of a key, and what it gave back, is not left in the memory of the process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.house.tree import ROOT
from tests.providers.swtpm import Swtpm

# The key is shown with every bit turned, so that this process, which is searched too, holds it nowhere else.
_SCRIPT = """
import os, sys
from luksctl.providers.tpm_device import Tpm
from luksctl.providers.tpm_policy import Policy, policy_digest
from luksctl.secret import Secret

policy = Policy(signed=False, bound=(0,))
with Tpm(sys.argv[1]) as tpm:
    digest = policy_digest(policy, None, tpm.pcr_values((0,)))
    with Secret.random(32) as content:
        sealed = tpm.seal(content, digest)
    with tpm.unseal(sealed, policy, None) as again, again.view() as view:
        print(" ".join(str(byte ^ 0xFF) for byte in view), flush=True)
        sys.stdin.readline()
    print("closed", flush=True)
    sys.stdin.readline()
"""


def _places(pid: int, wanted: bytes) -> list[str]:
    """Return the names of the mappings of process `pid` in which `wanted` stands, once for each place."""
    found = []
    maps = Path(f"/proc/{pid}/maps").read_text(encoding="ascii").splitlines()
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            start, end, access, name = re.match(r"(\w+)-(\w+) (\S+) \S+ \S+ \S+ *(.*)", line).groups()  # type: ignore[union-attr]  # the kernel's format
            if not access.startswith("rw") or name.startswith("[v"):
                continue
            memory.seek(int(start, 16))
            content = memory.read(int(end, 16) - int(start, 16))
            found += [name or "anonymous"] * content.count(wanted)
    return found


def test_only_the_secret_itself_holds_an_unsealed_key() -> None:
    """One place while it is open, and none once it was closed."""
    with (
        Swtpm() as tpm,
        subprocess.Popen(
            [sys.executable, "-c", _SCRIPT, tpm.tcti],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        key = bytes(int(number) ^ 0xFF for number in process.stdout.readline().split())
        assert len(key) == 32
        assert _places(process.pid, key) == ["anonymous"]
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"closed\n"
        assert _places(process.pid, key) == []
        process.stdin.write(b"\n")
        process.stdin.flush()
