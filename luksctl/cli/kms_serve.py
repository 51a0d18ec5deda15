"""The options of `luksctl kms serve`, and what they say."""

from __future__ import annotations

from argparse import Namespace
from datetime import UTC, datetime

from luksctl.cli.parser import Parser
from luksctl.errors import UsageError
from luksctl.model.kms import DEFAULT_LISTEN, DEFAULT_STATUS_LISTEN, Enrol, Enrolment, ServeOptions, TlsFiles

_DEFAULTS = ServeOptions()


def add_serve(parser: Parser) -> None:
    """Add them."""
    parser.add_argument(
        "--listen", metavar="HOST:PORT", default=DEFAULT_LISTEN, help=f"for nodes (default: {DEFAULT_LISTEN})"
    )
    parser.add_argument(
        "--status-listen",
        metavar="HOST:PORT",
        default=DEFAULT_STATUS_LISTEN,
        help=f"for /healthz, /readyz and /metrics, without TLS (default: {DEFAULT_STATUS_LISTEN})",
    )
    parser.add_argument("--key", metavar="FILE", help="the master key (default: the credential, or master.key in DIR)")
    parser.add_argument(
        "--audit", metavar="FILE", help="the audit log, - for standard output (default: audit.log in DIR)"
    )
    parser.add_argument(
        "--tls-cert", metavar="FILE", help="certificate chain in PEM (default: a self-signed one in DIR)"
    )
    parser.add_argument("--tls-key", metavar="FILE", help="its private key in PEM")
    parser.add_argument(
        "--client-ca", metavar="FILE", help="CAs whose certificates nodes have to show; each names its UUID"
    )
    parser.add_argument("--token-file", metavar="FILE", help="the bearer token that nodes have to give")
    parser.add_flag("tls", text="without it, keys are readable on the way; only on loopback", default=True)
    parser.add_flag("force-plaintext", text="--no-tls on any address, behind something that does TLS")
    parser.add_argument(
        "--enroll",
        choices=[mode.value for mode in Enrol],
        default=Enrol.PENDING.value,
        help="what becomes of unknown nodes",
    )
    parser.add_list("enroll-from", metavar="CIDR,…", text="networks whose nodes --enroll auto allows")
    parser.add_argument("--enroll-until", metavar="TIME", help="when --enroll auto ends, such as 2026-05-01T18:00Z")
    parser.add_argument("--workers", metavar="N", type=int, default=_DEFAULTS.workers, help="processes that answer")
    parser.add_argument(
        "--rate", metavar="N", type=float, default=_DEFAULTS.rate, help="requests a second from one peer; 0: no limit"
    )
    parser.add_argument(
        "--burst", metavar="N", type=int, default=_DEFAULTS.burst, help="requests at once before that counts"
    )
    parser.add_argument(
        "--grace", metavar="SECONDS", type=float, default=_DEFAULTS.grace_s, help="how long calls may take at the end"
    )
    parser.add_flag("compat", text="as Talos' reference server, for tests: any node, and random bytes on a mismatch")


def serve_options(arguments: Namespace) -> ServeOptions:
    """Return what the options say; UsageError where they contradict each other."""
    if (arguments.tls_cert is None) is not (arguments.tls_key is None):
        raise UsageError("--tls-cert and --tls-key belong together")
    if not arguments.tls and arguments.tls_cert is not None:
        raise UsageError("--no-tls and --tls-cert contradict each other")
    return ServeOptions(
        directory=arguments.dir,
        listen=arguments.listen,
        status_listen=arguments.status_listen,
        key=arguments.key,
        audit=arguments.audit,
        plaintext=not arguments.tls,
        force_plaintext=arguments.force_plaintext,
        tls=None if arguments.tls_cert is None else TlsFiles(arguments.tls_cert, arguments.tls_key),
        client_ca=arguments.client_ca,
        token_file=arguments.token_file,
        enrolment=Enrolment(Enrol(arguments.enroll), arguments.enroll_from or (), _until(arguments.enroll_until)),
        workers=arguments.workers,
        rate=arguments.rate,
        burst=arguments.burst,
        grace_s=arguments.grace,
        compat=arguments.compat,
    )


def _until(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"--enroll-until: {text!r} is no time", hint="such as 2026-05-01T18:00Z") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
