"""The command line on a running node in memory: STATE is open and mounted, and holds a config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from luksctl import wiring
from luksctl.cli.main import main
from luksctl.errors import Degraded
from luksctl.model.config import EPHEMERAL, STATE
from luksctl.node.apply_config import apply_config
from tests.cli.desk import Answer
from tests.node.nodes import Bench, bench, config

CONFIG = (
    "# of this node\n"
    + config().text.decode()
    + "---\napiVersion: v1alpha1\nkind: VolumeConfig\nname: EPHEMERAL\nencryption:\n  provider: luks2\n  keys:\n"
    + "    - {slot: 0, static: {passphrase: correct horse}}\n"
    + "---\nmachine:\n  type: worker # for now\n"
)


class RunningNode:
    """A node, and `run`."""

    def __init__(self, found: Bench, capture: pytest.CaptureFixture[str]) -> None:
        self.bench = found
        self.capture = capture

    @property
    def stored(self) -> str:
        """Return STATE's own config."""
        text = self.bench.stored()
        assert text is not None
        return text.decode()

    def run(self, *words: str) -> Answer:
        """Run `luksctl` with these words on the node."""
        self.capture.readouterr()
        code = main(words)
        said = self.capture.readouterr()
        return Answer(code, said.out, said.err)


def running_node(directory: Path, capture: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> RunningNode:
    """Return a node whose volumes, one and the same device here, are in sync with CONFIG."""
    found = bench(directory)
    with pytest.raises(Degraded):
        apply_config(found.node, config(), insecure=True)
    del found.world.fail[f"find {EPHEMERAL} in {found.node.settings.volume(EPHEMERAL).location} for 0 s"]
    (found.state / "config.yaml").write_text(CONFIG, encoding="utf-8")
    partition = dict(found.world.meta.facts().record.partitions)[STATE]
    found.node.ports.meta.update_record(lambda record: record.with_finished(EPHEMERAL, partition, encrypted=True))

    def build(*_: object, **__: object) -> Any:
        return found.node

    monkeypatch.setattr(wiring, "build_node", build)
    monkeypatch.setattr(wiring, "read_settings", lambda _: found.node.settings)
    return RunningNode(found, capture)
