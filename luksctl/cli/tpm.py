"""`luksctl tpm preflight`: whether the tpm keys will open at the next boot, before an image or firmware is changed."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from luksctl.cli.context import Context
from luksctl.cli.parser import Parser
from luksctl.cli.volumes import volumes_of
from luksctl.errors import UsageError
from luksctl.hints import Final
from luksctl.node.tpm_preflight import tpm_preflight

_LAST_PCR: Final = 23
_PCR_DIGITS: Final = 64


def configure(parser: Parser) -> None:
    """Add the options of the verb."""
    asking = parser.add_command("preflight", text="would the tpm keys open at the next boot? nothing is unsealed")
    asking.add_argument("volumes", metavar="VOLUME", nargs="*", help="STATE, EPHEMERAL; both without any")
    asking.add_argument(
        "--signature",
        metavar="FILE",
        action="append",
        default=[],
        help="tpm2-pcr-signature.json of the image that comes; without it, those of the node count",
    )
    asking.add_argument(
        "--pcr",
        metavar="N=HEX",
        action="append",
        default=[],
        help="what a PCR will hold (sha256, 64 digits); those not given stay as they are",
    )


def run(arguments: Namespace, context: Context) -> int:
    """Look ahead, and say for each slot whether it will open."""
    foreseen = _pcrs(arguments.pcr)
    volumes = volumes_of(arguments.volumes)
    found = tpm_preflight(context.node(), volumes, tuple(arguments.signature), foreseen)
    console = context.console
    rows = [
        (entry.volume, str(entry.slot), "opens" if entry.forecast.opens else "will not open", entry.forecast.because)
        for entry in found.slots
    ]
    console.table(("volume", "slot", "at the next boot", "because"), rows)
    console.document(
        {
            "exitCode": found.exit_code,
            "slots": [
                {
                    "volume": entry.volume,
                    "slot": entry.slot,
                    "opens": entry.forecast.opens,
                    "because": entry.forecast.because,
                }
                for entry in found.slots
            ],
        }
    )
    return found.exit_code


def _pcrs(given: Sequence[str]) -> dict[int, bytes]:
    """Return the values by number; UsageError for what is none, or given twice."""
    values: dict[int, bytes] = {}
    for text in given:
        number, _, digits = text.partition("=")
        try:
            pcr, value = int(number), bytes.fromhex(digits)
        except ValueError:
            pcr, value = -1, b""
        if not 0 <= pcr <= _LAST_PCR or len(value) * 2 != _PCR_DIGITS:
            raise UsageError(f"--pcr {text}: not a PCR from 0 to {_LAST_PCR} and {_PCR_DIGITS} hexadecimal digits")
        if pcr in values:
            raise UsageError(f"--pcr {text}: PCR {pcr} is given twice")
        values[pcr] = value
    return values
