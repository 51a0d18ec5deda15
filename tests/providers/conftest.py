"""What the tests of tpm keys begin with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.providers.measured_boot import IMAGE, Machine, boot, image_value
from tests.providers.swtpm import Swtpm


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """Boot a machine with a TPM of its own from a signed image."""
    with Swtpm() as tpm:
        machine = Machine(tpm, tmp_path)
        machine.files.sign(image_value(IMAGE))
        boot(tpm)
        yield machine
