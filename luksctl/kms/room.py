"""What the command line can ask of the KMS (luksctl.model.kms.KmsRoom), on the files of this machine."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from importlib.util import find_spec

from luksctl.errors import DeviceError, Refused, SealError, UsageError
from luksctl.hints import Final, final
from luksctl.kms import unit_text
from luksctl.kms.address import read_address
from luksctl.kms.admission import read_rules
from luksctl.kms.audit import NAME as AUDIT_NAME
from luksctl.kms.audit import STANDARD_OUTPUT
from luksctl.kms.identity import identity_of
from luksctl.kms.key_source import KEY_NAME, KeySource
from luksctl.kms.keyfile import Costs, expect_passphrase, make_key_file, read_key, replace_key_file
from luksctl.kms.keyring import Keyring
from luksctl.kms.plan import Plan
from luksctl.kms.sqlite_nodes import SqliteNodes
from luksctl.model.kms import (
    Enrolment,
    KeyFile,
    KeyList,
    KeyVersion,
    KnownNode,
    NodeState,
    ServeOptions,
)
from luksctl.secret import Secret
from luksctl.value import replace

_SHORTEST_PREFIX: Final = 8
_SHORTEST_TOKEN: Final = 16
_HEX: Final = frozenset("0123456789abcdef")
_MOST_WORKERS: Final = 64
# One byte more than the longest key there is: a longer file is none.
_LONGEST_IMPORTED_BYTES: Final = 33


@final
class Kms:
    """The KMS in files; `costs` are those of a passphrase, and None of them the usual ones."""

    def __init__(self, costs: Costs | None = None) -> None:
        self._costs = costs

    def initialise(self, directory: str, passphrase: Secret) -> KeyVersion:
        """Make the master key, sealed under `passphrase`, and an empty list of nodes; Refused where one is there.

        Cut: a part of them, and the key last, so that the same call goes on unless the key is there.
        """
        _expect_installed("argon2")
        expect_passphrase(passphrase)
        os.makedirs(directory, mode=0o700, exist_ok=True)
        SqliteNodes(directory, create=True).close()
        with Keyring.new(int(time.time())) as keyring:
            make_key_file(os.path.join(directory, KEY_NAME), keyring, passphrase, self._costs)
            return keyring.newest

    def nodes(self, directory: str) -> tuple[KnownNode, ...]:
        """Return every node, oldest first."""
        store = SqliteNodes(directory)
        try:
            return store.every()
        finally:
            store.close()

    def change_nodes(
        self, directory: str, names: Sequence[str], state: NodeState, *, note: str | None, new_certificate: bool
    ) -> tuple[KnownNode, ...]:
        """Give nodes a state, all or none of them; names are UUIDs or the beginnings of hashes."""
        store = SqliteNodes(directory)
        try:
            known = store.every()
            identities = tuple(dict.fromkeys(_identity(name, known) for name in names))
            store.change(identities, state, int(time.time()), note=note, new_certificate=new_certificate)
            changed = {node.identity: node for node in store.every()}
            return tuple(changed[identity] for identity in identities)
        finally:
            store.close()

    def keys(self, file: KeyFile) -> KeyList:
        """Return what the master key file holds, without the keys themselves."""
        with read_key(file.path, file.ask) as keyring:
            return KeyList(keyring.versions, keyring.imported)

    def rotate_key(self, file: KeyFile) -> KeyVersion:
        """Add a version of the master key. Cut: the file as it was, or with the new version."""
        with file.ask() as passphrase:
            with read_key(file.path, lambda: Secret.join(passphrase)) as keyring:
                rotated = keyring.rotated(int(time.time()))
            with rotated:
                replace_key_file(file.path, rotated, passphrase, self._costs)
                return rotated.newest

    def import_key(self, file: KeyFile, path: str) -> int:
        """Have the KMS open what a reference server sealed by the key file at `path`; return how many such keys it has.

        Cut: the master key file as it was, or with that key.
        """
        with open(path, "rb") as stream:
            content = bytearray(stream.read(_LONGEST_IMPORTED_BYTES))
        if not content:
            raise SealError(f"{path} is empty", hint="it is to be the key file of the reference server")
        imported = Secret.take(content)
        with imported, file.ask() as passphrase:
            with read_key(file.path, lambda: Secret.join(passphrase)) as keyring:
                wider = keyring.with_imported(imported, int(time.time()))
            with wider:
                replace_key_file(file.path, wider, passphrase, self._costs)
                return len(wider.imported)

    def change_passphrase(self, file: KeyFile, new: Callable[[], Secret]) -> None:
        """Seal the master key file under another passphrase. Cut: it opens with the old one, or the new one."""
        with read_key(file.path, file.ask) as keyring, new() as passphrase:
            expect_passphrase(passphrase)
            replace_key_file(file.path, keyring, passphrase, self._costs)

    def export_key(self, file: KeyFile) -> Secret:
        """Return the master key as it is, for a systemd credential."""
        with read_key(file.path, file.ask) as keyring:
            return keyring.text()

    def serve(self, options: ServeOptions, ask: Callable[[], Secret], tell: Callable[[str], None]) -> int:
        """Serve until SIGTERM or SIGINT, and return the exit code; `tell` is given warnings and what happens."""
        from luksctl.kms.supervisor import supervise  # noqa: PLC0415  # only who serves needs processes

        _expect_installed("grpc")
        plan = checked(options)
        for line in warnings(plan):
            tell(line)
        os.makedirs(options.directory, mode=0o700, exist_ok=True)
        if plan.directory is not None:
            SqliteNodes(plan.directory, create=True).close()
        plan = _with_certificate(plan, tell)
        with closing(KeySource(options, ask)) as source:
            return supervise(plan, source.read(), source.renewed, tell)

    def unit(self, command: Sequence[str], options: Sequence[str]) -> str:
        """Return the text of a systemd service that runs `command` with `options`."""
        return unit_text.service(command, options)


def _expect_installed(package: str) -> None:
    """DeviceError where a package is missing that only the KMS needs."""
    if find_spec(package) is None:
        raise DeviceError(f"the KMS needs {package}, which is not installed", hint="pip install 'luksctl[kms]'")


def checked(options: ServeOptions) -> Plan:
    """Return what is to be done; UsageError or Refused where it makes no sense, or is not safe."""
    address = read_address(options.listen, "--listen")
    if options.plaintext and options.client_ca is not None:
        raise UsageError("client certificates are a part of TLS, and --no-tls takes that away")
    if not 1 <= options.workers <= _MOST_WORKERS:
        raise UsageError(f"--workers is 1 to {_MOST_WORKERS}")
    if options.plaintext and not address.is_loopback and not options.force_plaintext:
        raise Refused(
            f"without TLS, keys would be readable on the network of {address}",
            operation="serve",
            hint="--listen 127.0.0.1:4050, or --force-plaintext if something in front of it does TLS",
        )
    asked = options.enrolment != Enrolment() or options.client_ca is not None or options.token_file is not None
    if options.compat and asked:
        raise UsageError("--compat answers any node: there is nothing to enroll, and nothing to ask it for")
    token = None if options.token_file is None else _token(options.token_file)
    return Plan(
        options=options,
        address=address,
        status_address=read_address(options.status_listen, "--status-listen"),
        directory=None if options.compat else options.directory,
        audit=options.audit or (STANDARD_OUTPUT if options.compat else os.path.join(options.directory, AUDIT_NAME)),
        tls=options.tls,
        rules=read_rules(options.enrolment, certificates=options.client_ca is not None, token=token),
    )


def warnings(plan: Plan) -> list[str]:
    """Return what an operator should know before it serves."""
    options, said = plan.options, []
    if options.compat:
        said.append("warning: --compat answers ANY node, as Talos' reference server does; it is for tests")
    if options.plaintext:
        where = "this machine" if plan.address.is_loopback else "the network"
        said.append(f"warning: no TLS: whoever can listen on {where} reads the keys")
    if options.client_ca is None and not options.compat:
        who = "whoever knows the UUID of an allowed node" + (" and the token" if options.token_file else "")
        said.append(f"warning: no client certificates: {who} is that node")
    if not plan.status_address.is_loopback:
        said.append("warning: health and metrics are reachable from other machines, without TLS")
    return said


def _token(path: str) -> bytes:
    """Return the SHA-256 of the token in a file; Refused for one that could be guessed."""
    with open(path, "rb") as stream:
        token = stream.read().strip()
    if len(token) < _SHORTEST_TOKEN:
        raise Refused(
            f"{path}: a token of {len(token)} characters protects nothing; {_SHORTEST_TOKEN} are the least",
            hint="openssl rand -base64 32",
        )
    return hashlib.sha256(token).digest()


def _with_certificate(plan: Plan, tell: Callable[[str], None]) -> Plan:
    """Return the plan with files that can serve; makes a pair for trying out where none was given."""
    from luksctl.kms.tls import check_pair, self_signed  # noqa: PLC0415  # as serve

    if plan.options.plaintext:
        return replace(plan, tls=None)
    tls = plan.tls
    if tls is None:
        tls = self_signed(plan.options.directory, plan.address)
        tell(f"warning: the certificate signs itself, for trying out; nodes need {tls.certificate} as a CA")
    tls = replace(tls, client_ca=plan.options.client_ca)
    check_pair(tls)
    return replace(plan, tls=tls)


def _identity(name: str, known: Sequence[KnownNode]) -> bytes:
    """Return the node that `name` means; UsageError where it is no UUID, or the beginning of none or several hashes."""
    text = name.strip().lower()
    if len(text) >= _SHORTEST_PREFIX and set(text) <= _HEX:
        found = [node.identity for node in known if node.identity.hex().startswith(text)]
        if len(found) == 1:
            return found[0]
        raise UsageError(
            f"{len(found)} nodes begin with {text}", hint="luksctl kms node list; a UUID goes through standard input"
        )
    try:
        return identity_of(text)
    except ValueError as error:
        raise UsageError(
            f"a name is {error}, and no beginning of a hash",
            hint=f"a hash has at least {_SHORTEST_PREFIX} characters: luksctl kms node list",
        ) from error
