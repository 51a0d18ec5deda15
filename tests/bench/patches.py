"""What a patch costs: a long config of many documents is loaded, patched, validated and stored by one process."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.bench.measure import BARE_START_MS, Figure, command, medians_ms, python

GOAL_MS = 250.0
LINES = 3000
_VERB = "import sys; from luksctl.cli.main import run; code = run()"
# The most memory that the process ever held. getrusage would count what its parent held before the program began, too.
_WITH_PEAK = f"""{_VERB}
import json
with open("/proc/self/status") as status:
    peak_kib = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
sys.stderr.write(json.dumps(dict(code=code, peakKiB=peak_kib)) + chr(10))
"""
_HEAD = """\
# a node with much to say
machine:
  type: worker # for now
  kubelet:
    image: registry.example/kubelet:v1.30.1
    extraArgs: {rotate-server-certificates: "true"}
  network:
    hostname: node-1
    interfaces:
      - interface: eth0
        addresses: [10.0.0.2/24]
---
apiVersion: v1alpha1
kind: VolumeConfig
name: EPHEMERAL
encryption:
  provider: luks2
  keys:
    - slot: 0 # of the board
      nodeID: {}
"""
_DOCUMENT = """\
---
# number {number}
apiVersion: v1alpha1
kind: ExtensionServiceConfig
name: service-{number}
environment:
  - NUMBER={number} # of this one
  - "TEXT=two words"
configFiles:
  - mountPath: /etc/service/{number}.conf
    content: |
      [main]
      number = {number}

      [more]
      list = a, b, c
depends: {{a: 1, b: [x, y], c: ~}}
"""
_MERGE = "machine: {network: {hostname: node-2, interfaces: [{interface: eth0, mtu: 9000}]}, sysctls: {a: '1'}}"
_KEY = (
    "{apiVersion: v1alpha1, kind: VolumeConfig, name: EPHEMERAL, "
    "encryption: {keys: [{slot: 1, static: {passphrase: one for measuring}}]}}"
)


def long_config() -> str:
    """Return a valid config of LINES lines or a few more."""
    text, number = _HEAD, 0
    while text.count("\n") < LINES:
        text += _DOCUMENT.format(number=number)
        number += 1
    return text


def patch(directory: Path) -> Figure:
    """Measure `machineconfig patch` with two patches, from its start to its end, and its peak of memory."""
    base = directory / "machine.yaml"
    base.write_text(long_config(), encoding="utf-8")
    words = ("machineconfig", "patch", str(base), "-p", _MERGE, "-p", _KEY, "-o", str(directory / "patched.yaml"))
    bare, name, validate = "python -c pass", "machineconfig patch, 3,000 lines", "validate of the same"
    taken = medians_ms(
        {
            name: python("-c", f"{_VERB}; sys.exit(code)", *words),
            validate: python("-c", f"{_VERB}; sys.exit(code)", "validate", str(base)),
            bare: python("-c", "pass"),
        }
    )
    scale = BARE_START_MS / taken[bare]
    peer = f"peak of memory: {_peak_mib(words):.0f} MiB; {validate}: {taken[validate] * scale:.0f} ms"
    unit = f"ms where python -c pass takes {BARE_START_MS:.0f}"
    return Figure(name, taken[name] * scale, unit, peer, GOAL_MS)


def _peak_mib(words: tuple[str, ...]) -> float:
    said: list[bytes] = []
    command((sys.executable, "-c", _WITH_PEAK, *words), said.append)()
    found = json.loads(said[0].splitlines()[-1])
    if found["code"] != 0:
        raise RuntimeError("the patch did not apply")
    return float(found["peakKiB"]) / 1024
