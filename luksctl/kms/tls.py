"""The server's certificate: files that are read again on SIGHUP, or a pair that signs itself, for trying out."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from luksctl.errors import SealError
from luksctl.hints import TYPE_CHECKING, Final, cast, final
from luksctl.kms.address import Address
from luksctl.model.kms import TlsFiles
from luksctl.node.files import create_file

if TYPE_CHECKING:
    import grpc
    from cryptography import x509

CERTIFICATE: Final = "self-signed.crt"
PRIVATE_KEY: Final = "self-signed.key"
_DAYS: Final = 825


def self_signed(directory: str, address: Address) -> TlsFiles:
    """Return the pair in `directory`, made first where none is there.

    Cut: no pair, or a private key that the next call goes on with.
    """
    files = TlsFiles(os.path.join(directory, CERTIFICATE), os.path.join(directory, PRIVATE_KEY))
    if not os.path.exists(files.certificate):
        _make_pair(files, address)
    return files


def check_pair(files: TlsFiles) -> None:
    """Return where the files can serve; SealError where not: missing, damaged, or not belonging to each other."""
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.certificate, files.private_key)
        if files.client_ca is not None:
            context.load_verify_locations(files.client_ca)
    except (OSError, ssl.SSLError) as error:
        names = ", ".join(name for name in (files.certificate, files.private_key, files.client_ca) if name)
        why = error.reason if isinstance(error, ssl.SSLError) else error.strerror
        raise SealError(f"{names}: {why}", operation="read the server's certificate") from error


@final
class Credentials:
    """What gRPC serves with; each new connection gets the files as they were read last."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._initial = _read(files)
        self._newer: grpc.ServerCertificateConfiguration | None = None

    def reload(self) -> None:
        """Read the files again; SealError where they cannot serve, and then those from before go on."""
        check_pair(self._files)
        self._newer = _read(self._files)

    def for_server(self) -> grpc.ServerCredentials:
        """Return credentials; where there is a CA for clients, each of them has to show a certificate of it."""
        import grpc  # noqa: PLC0415  # only workers load it

        # The stubs do not know of None, which says that nothing changed.
        fetch = cast("Callable[[], grpc.ServerCertificateConfiguration]", self._take)
        return grpc.dynamic_ssl_server_credentials(self._initial, fetch, self._files.client_ca is not None)

    def _take(self) -> grpc.ServerCertificateConfiguration | None:
        """Return what was read since the last call, for each new connection; None for no change.

        gRPC owns what it is given, and frees it: the same one a second time would end the process.
        """
        newer, self._newer = self._newer, None
        return newer


def _read(files: TlsFiles) -> grpc.ServerCertificateConfiguration:
    import grpc  # noqa: PLC0415  # as above

    pair = (_content(files.private_key), _content(files.certificate))
    roots = None if files.client_ca is None else _content(files.client_ca)
    return grpc.ssl_server_certificate_configuration([pair], root_certificates=roots)


def _content(path: str) -> bytes:
    with open(path, "rb") as stream:
        return stream.read()


def _make_pair(files: TlsFiles, address: Address) -> None:
    from cryptography import x509  # noqa: PLC0415  # only for trying out
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    if not os.path.exists(files.private_key):
        made = ec.generate_private_key(ec.SECP256R1())
        pem = made.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        create_file(files.private_key, pem)
    key = serialization.load_pem_private_key(_content(files.private_key), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "luksctl KMS, for trying out")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectAlternativeName(_names(address)), critical=False)
        .sign(key, hashes.SHA256())
    )
    create_file(files.certificate, certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)


def _names(address: Address) -> list[x509.GeneralName]:
    from ipaddress import ip_address  # noqa: PLC0415  # as above

    from cryptography import x509  # noqa: PLC0415

    hosts = {ip_address(host) for host in ("127.0.0.1", "::1", address.host)}
    addresses = [x509.IPAddress(host) for host in sorted(hosts, key=str) if not host.is_unspecified]
    return [*(x509.DNSName(name) for name in dict.fromkeys((socket.gethostname(), "localhost"))), *addresses]
