"""`python -m tests.bench [PATTERN]`: measure, print each figure with its goal, and write build/bench.json.

PATTERN is searched in the names. Exit code 0 whether goals hold or not: figures of a busy machine decide nothing.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.bench import keyslots, kms, kms_client, online, patches, reencryption, resets, starts, tpm, volumes
from tests.bench.measure import ROOT, Figure

MEASUREMENTS: dict[str, Callable[[Path], Figure]] = {
    "hook-start": starts.hook_start,
    "hook-start-config": starts.hook_start_config,
    "verb-version": starts.version,
    "verb-validate": starts.validate,
    "status-eight": starts.status_of_eight,
    "patch": patches.patch,
    "unlock-cheap": volumes.cheap_unlock,
    "unlock-argon2": volumes.argon2_unlock,
    "unlock-two-at-once": volumes.two_at_once,
    "format": volumes.format_volume,
    "kms-fresh": kms.fresh,
    "kms-kept": kms.kept,
    "kms-workers": kms.scaling,
    "reencrypt": reencryption.offline,
    "reencrypt-recovery": reencryption.recovery,
    "reencrypt-online": online.online,
    "reset": resets.reset,
    "tpm-import": tpm.importing,
    "tpm-steps": tpm.steps,
    "tpm-unlock": tpm.unlocking,
    **{f"sync-{count}": partial(keyslots.sync_of, count) for count in (1, 4, 8, 16, 30)},
    "kms-loading": kms_client.loading,
    "kms-connecting": kms_client.connecting,
    "kms-calling": kms_client.calling,
}
RESULT = ROOT / "build" / "bench.json"


def _run(pattern: str) -> int:
    chosen = {name: take for name, take in MEASUREMENTS.items() if re.search(pattern, name)}
    if not chosen:
        print(f"error: no measurement matches {pattern!r}; there are: {', '.join(MEASUREMENTS)}", file=sys.stderr)
        return 64
    figures = []
    for name, take in chosen.items():
        with tempfile.TemporaryDirectory(prefix="luksctl-bench-") as directory:
            figure = take(Path(directory))
        figures.append({**figure.as_json(), "name": name})
        verdict = "holds" if figure.holds else "MISSED"
        print(f"{figure.name}: {figure.value:.2f} {figure.unit} (goal {figure.goal:g}, {verdict}; {figure.peer})")
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(f"written: {RESULT.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(_run(sys.argv[1] if len(sys.argv) > 1 else ""))
