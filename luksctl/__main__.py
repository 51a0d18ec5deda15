"""`python -m luksctl`."""

from luksctl.cli.main import start

start()
