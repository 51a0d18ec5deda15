"""How long a reset takes by the size of the volume: it must not matter."""

from __future__ import annotations

import os
import time
from pathlib import Path

from luksctl.model.config import EPHEMERAL, META, META_SIZE_BYTES, STATE, ByImage, Settings, VolumeSettings
from luksctl.model.intent import EraseMethod
from luksctl.node.node import Paths
from luksctl.node.reset import announce, erase_announced, look_at
from luksctl.units import GIB
from luksctl.wiring import build_node
from tests.bench.images import formatted
from tests.bench.measure import Figure

_SIZES = {"1 GiB": GIB, "100 GiB": 100 * GIB, "1 TiB": 1024 * GIB}
_GOAL_MS = 1000.0
_TIMES = 5


def reset(directory: Path) -> Figure:
    """Measure the reset of sparse volumes of three sizes, from the announcement to the last META write: the slowest."""
    taken = {name: _median_ms(directory / str(size_bytes), size_bytes) for name, size_bytes in _SIZES.items()}
    told = ", ".join(f"{name}: {ms:.0f} ms" for name, ms in taken.items())
    spread = max(taken.values()) / min(taken.values())
    return Figure(
        "reset: the slowest of three sizes", max(taken.values()), "ms", f"{told}; spread {spread:.2f}", _GOAL_MS
    )


def _median_ms(directory: Path, size_bytes: int) -> float:
    directory.mkdir()
    volume = Path(formatted(directory / "volume").device.path)
    header = volume.read_bytes()
    meta = directory / "meta.img"
    meta.touch()
    os.truncate(meta, META_SIZE_BYTES)
    os.truncate(volume, size_bytes)
    places = {META: str(meta), STATE: str(directory / "none.img"), EPHEMERAL: str(volume)}
    volumes = tuple((name, VolumeSettings(ByImage(place))) for name, place in places.items())
    paths = Paths(run_dir=str(directory / "run"), erasures=str(directory), expected_encrypted=str(directory / "none"))
    node = build_node(Settings(volumes), lambda _: None, paths)
    times = []
    for _ in range(_TIMES):
        with volume.open("r+b") as target:
            target.write(header)
            os.fsync(target.fileno())
        begun = time.perf_counter()
        announce(node, look_at(node, (EPHEMERAL,), EraseMethod.FAST, named=True))
        erase_announced(node)
        times.append(1000 * (time.perf_counter() - begun))
    return sorted(times)[_TIMES // 2]
