"""What every test may rely on, wherever the tests were started from."""

from __future__ import annotations

import signal

from hypothesis import settings

# A busy machine is no failure.
settings.register_profile("luksctl", deadline=None)
settings.load_profile("luksctl")


def pytest_configure() -> None:
    """Take Ctrl-C as Python does by itself: a shell that starts tests in the background has it ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
