"""What the boot hook does from its start to its first libcryptsetup call; run in a process of its own, that ends there.

`converged` is the boot of a node that was installed before: no settings file, META's tag 9 says what opens STATE, and
META, both header copies and the plan come before the call. `config` reads settings and a machine config first.
"""

from __future__ import annotations

import os
import sys

from luksctl.boot import start
from luksctl.hints import TYPE_CHECKING

if TYPE_CHECKING:
    from luksctl.model.config import Settings


class Reached(BaseException):
    """The first call was made."""


def run(case: str, directory: str) -> None:
    """Open STATE as `directory` describes it (tests.bench.images) until libcryptsetup is called, then raise Reached."""
    hook = start.load()
    # After the hook, and nothing that it does not load itself.
    from luksctl.node.node import Paths  # noqa: PLC0415

    settings = hook.read_settings(f"{directory}/luksctl.yaml") if case == "config" else _settings(directory)
    paths = Paths(
        run_dir=f"{directory}/run",
        machine_config=f"{directory}/machine.yaml",
        credential_dirs=(f"{directory}/credentials",),
        expected_encrypted=f"{directory}/expected.json",
    )
    _stop_at_first_call()
    node = hook.build_node(settings, hook.announce, paths)
    hook.open_volume(node, "STATE", hook.boot_deadline(node))


def _settings(directory: str) -> Settings:
    """Return what the defaults are on a node with disks."""
    from luksctl.model.config import ByImage, Settings, VolumeSettings  # noqa: PLC0415  # as above

    return Settings(tuple((name, VolumeSettings(ByImage(f"{directory}/{name}"))) for name in ("META", "STATE")))


def _stop_at_first_call() -> None:
    from luksctl.cryptsetup import handle  # noqa: PLC0415  # as above

    prepare = handle.prepare_library

    def stop() -> None:
        prepare()
        raise Reached

    # Whatever is done with a device calls this first.
    handle.prepare_library = stop  # type: ignore[assignment]


def main() -> None:
    """Run the case and the directory that the command line names; ends the process at the call."""
    try:
        run(sys.argv[1], sys.argv[2])
    except Reached:
        # The way from here to the end of the process is not part of the start.
        os._exit(0)
    sys.exit("the boot ended without a call of libcryptsetup")
