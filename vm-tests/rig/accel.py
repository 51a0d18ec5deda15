"""Choose between emulation and hardware acceleration.

Emulation is the default. A /dev/kvm that opens proves nothing (there are hosts on which it does, and guests hang), so
LUKSCTL_VM_ACCEL=kvm asks for a probe: a guest really has to boot.
"""

from __future__ import annotations

import functools
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from rig.errors import LostVM
from rig.power import Power
from rig.spec import MachineSpec, Places

if TYPE_CHECKING:
    from rig.image import Image

PROBE_TIMEOUT_S = 20.0


@functools.cache
def accelerator(image: Image) -> str:
    """Return "kvm" when it was asked for and a guest booted with it in 20 s, else "tcg"; asked once a process."""
    if os.environ.get("LUKSCTL_VM_ACCEL") != "kvm" or not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    works = _boots_with_kvm(image)
    print(f"rig: hardware acceleration {'works' if works else 'does not boot a guest: emulating'}", file=sys.stderr)
    return "kvm" if works else "tcg"


def _boots_with_kvm(image: Image) -> bool:
    directory = Path(tempfile.mkdtemp(prefix="rig-probe-"))
    try:
        power = Power(MachineSpec(), image, None, Places(directory), accel="kvm")
    except LostVM:
        return False
    else:
        try:
            return power.wait_ready(PROBE_TIMEOUT_S)
        except LostVM:
            return False
        finally:
            power.kill()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
