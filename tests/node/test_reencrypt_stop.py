"""What stopped a re-encryption is kept for those who ask later in the same boot."""

from __future__ import annotations

from pathlib import Path

import pytest

from luksctl.errors import DeviceError, Locked, NeedsReboot
from luksctl.model.config import EPHEMERAL, STATE
from luksctl.node.reencrypt import Options, begin, go_on, start_service
from luksctl.node.reencrypt_pace import Stop, note_stop, read_stop
from luksctl.node.status import node_status
from luksctl.node.sync import adopt
from luksctl.value import replace
from tests.node.image_node import ImageNode, MadeUpSystem, document, static


class Starting(MadeUpSystem):
    """Starts every unit, and does nothing by it."""

    def reset_failed(self, unit: str) -> None:
        """Do nothing."""

    def start_soon(self, unit: str) -> None:
        """Do nothing."""


@pytest.fixture
def image(tmp_path: Path) -> ImageNode:
    """Return a running node whose volumes are ours."""
    found = ImageNode(tmp_path)
    found.configure(*(document(volume, static(0, "one")) for volume in (STATE, EPHEMERAL)))
    for volume in (STATE, EPHEMERAL):
        found.format(volume, {0: "one"})
        adopt(found.node, volume)
    return found


def test_what_stopped_it_is_told_until_it_goes_on(image: ImageNode) -> None:
    """A run that fails leaves its words to status, with the way on; the next one that is started takes them away."""
    begin(image.node, EPHEMERAL, Options(), lambda _: None, lambda *_: None)
    image.configure(*(document(volume, static(0, "another")) for volume in (STATE, EPHEMERAL)))
    with pytest.raises(Locked):
        go_on(image.node, EPHEMERAL)
    (found,) = node_status(image.node, (EPHEMERAL,)).volumes
    assert found.reencryption is not None
    stop = found.reencryption.stop
    assert stop is not None
    assert "slot 0" in stop.why
    assert not stop.for_good
    assert f"its re-encryption stopped: {stop.why}" in found.findings

    image.node = replace(image.node, system=Starting())
    start_service(image.node, EPHEMERAL)
    assert read_stop(image.node, EPHEMERAL) is None


def test_what_needs_a_reboot_is_told_as_that(image: ImageNode) -> None:
    """Whoever follows the service waits no longer for what only a reboot goes on with."""
    note_stop(image.node, EPHEMERAL, NeedsReboot("it broke off", volume=EPHEMERAL, hint="reboot"))
    assert read_stop(image.node, EPHEMERAL) == Stop("it broke off (reboot)", for_good=True)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"why": "it broke off"}', "null"])
def test_a_note_of_what_stopped_it_that_is_torn_is_none(text: str, image: ImageNode) -> None:
    """As with the rate: it only helps people."""
    note_stop(image.node, EPHEMERAL, DeviceError("it broke off"))
    (path,) = Path(image.node.paths.run_dir, "reencrypt").iterdir()
    path.write_text(text, encoding="utf-8")
    assert read_stop(image.node, EPHEMERAL) is None
