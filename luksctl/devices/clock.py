"""Whether somebody is about to set the clock: systemd knows, for its own client and for others."""

from __future__ import annotations

import os

from luksctl.devices.programs import Program, locate, run
from luksctl.errors import DeviceError
from luksctl.hints import Final

# systemd-timesyncd(8) makes it with the first answer of a server.
SYNCHRONISED: Final = "/run/systemd/timesync/synchronized"
_TIMEOUT_S: Final = 10.0


def clock_awaited(path: str = SYNCHRONISED) -> bool:
    """Tell whether the clock is not synchronised, and a service that does it is on; False where nobody knows."""
    if os.path.exists(path):
        return False
    # What the kernel knows of it (adjtimex(2), STA_UNSYNC), and whether chrony or another one runs.
    argv = [locate(Program("timedatectl", "systemd")), "show", "--property=NTP", "--property=NTPSynchronized"]
    try:
        said = run(argv, timeout_s=_TIMEOUT_S).split()
    except DeviceError:
        return False
    return "NTP=yes" in said and "NTPSynchronized=no" in said
