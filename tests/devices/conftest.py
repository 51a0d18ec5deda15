"""Fixtures named after the state they provide."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.devices.fake_tree import FakeTree


@pytest.fixture
def kernel(tmp_path: Path) -> FakeTree:
    """Provide a kernel without block devices."""
    return FakeTree(tmp_path / "kernel")


@pytest.fixture
def installed(kernel: FakeTree) -> FakeTree:
    """Provide a kernel with one disk, sda, that holds META, STATE and EPHEMERAL."""
    mib = 1024 * 1024
    kernel.add_disk("sda", "8:0")
    kernel.add_partition("sda", 1, "META", offset_bytes=mib, size_bytes=mib)
    kernel.add_partition("sda", 2, "STATE", offset_bytes=2 * mib, size_bytes=100 * mib)
    kernel.add_partition("sda", 3, "EPHEMERAL", offset_bytes=102 * mib, size_bytes=900 * mib)
    return kernel
