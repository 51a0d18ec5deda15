"""What can go wrong in the rig, kept apart from what a story asserts.

RigError
├── Precondition      this host cannot run guests (a program or a right is missing)
├── BuildFailed       the guest image or a disk could not be made
├── LostVM            the guest died, hung or restarted by itself: nothing is known about the assertion
└── NoAnswer          the guest lives, but what was waited for did not come in time

CommandFailed is an AssertionError: the guest answered, and the answer was wrong.
"""

from __future__ import annotations


class RigError(Exception):
    """Say that the rig, not the program under test, is in trouble."""


class Precondition(RigError):
    """Say which program or right this host lacks; a skip by hand, a failure in CI."""


class BuildFailed(RigError):
    """Say which build step failed, with the end of its output."""


class LostVM(RigError):
    """Say that the guest died, hung, or reset without being told to, with the end of its console."""


class NoAnswer(RigError):
    """Say what was waited for, and for how long, in a guest that still answers."""


class CommandFailed(AssertionError):
    """Say which command ended with which status inside the guest, with its output."""
