"""`luksctl gen config`: a commented machine config to start from, or one for each kind of node of a cluster."""

from __future__ import annotations

import os
import secrets
from argparse import Namespace
from collections.abc import Sequence

from luksctl.cli.context import Context
from luksctl.cli.parser import Parser
from luksctl.cli.patches import add_keys_by_slot, add_patches, patch_texts
from luksctl.config.endpoint import endpoint_problem
from luksctl.config.spelling import did_you_mean
from luksctl.config.template import DEFAULT_KMS_ENDPOINT, Machine, generate_machine_config
from luksctl.errors import DeviceError, Refused, UsageError
from luksctl.hints import Final
from luksctl.model.config import KeyKind

_PASSPHRASE_BYTES: Final = 32
_DEFAULT_KEYS: Final = (KeyKind.NODE_ID.value, KeyKind.STATIC.value)
# The kind of node, and the patches that are for it alone.
_TYPES: Final = {"controlplane": "control_plane_patches", "worker": "worker_patches"}


def configure(parser: Parser) -> None:
    """Add the options of the verb."""
    config = parser.add_command("config", text="a commented machine config to start from")
    config.add_argument("cluster", metavar="NAME", nargs="?", help="the cluster: one file for each kind of its nodes")
    config.add_argument("endpoint", metavar="ENDPOINT", nargs="?", help="the URL of its control plane")
    kinds = ", ".join(KeyKind)
    config.add_list(
        "keys",
        metavar="KIND,…",
        text=f"kinds of key, slot 0 first: {kinds} (default: {','.join(_DEFAULT_KEYS)})",
        default=_DEFAULT_KEYS,
    )
    config.add_argument(
        "--kms-endpoint", metavar="URL", default=DEFAULT_KMS_ENDPOINT, help="where the key management service is"
    )
    add_patches(config, "--config-patch")
    for option, dest in (("control-plane", "control_plane_patches"), ("worker", "worker_patches")):
        text = f"the same, for {option} nodes only, behind the others"
        add_patches(config, f"--config-patch-{option}", dest=dest, text=text)
    add_keys_by_slot(config)
    config.add_argument(
        *("-o", "--output", "--output-dir"),
        dest="output",
        metavar="FILE",
        help="write it there, readable by its owner alone; never over another file; with NAME, a directory",
    )


def run(arguments: Namespace, context: Context) -> int:
    """Generate the configs; a static passphrase is made here and stands nowhere but in them."""
    kinds = _kinds(arguments.keys)
    if arguments.cluster is not None:
        return _cluster(arguments, kinds, context)
    if arguments.control_plane_patches or arguments.worker_patches:
        raise UsageError("without a cluster there is one kind of node", hint="luksctl gen config NAME ENDPOINT")
    text = _text(arguments, kinds, None, context)
    path: str | None = arguments.output
    console = context.console
    if path is None:
        console.document({"config": text.decode()})
        if not console.json:
            console.raw(text)
        return 0
    _write({path: text})
    console.say(f"{path}: written; edit it, then: luksctl validate {path}")
    console.document({"file": path, "keys": [kind.value for kind in kinds]})
    return 0


def _cluster(arguments: Namespace, kinds: Sequence[KeyKind], context: Context) -> int:
    """Write one file for each kind of node; none where one of them is there already."""
    endpoint: str | None = arguments.endpoint
    if endpoint is None or "://" not in endpoint or endpoint_problem(endpoint) is not None:
        raise UsageError("ENDPOINT must be the URL of the control plane", hint="https://10.0.0.1:6443")
    directory: str = arguments.output or "."
    machines = [Machine(kind, arguments.cluster, endpoint) for kind in _TYPES]
    texts = {
        os.path.join(directory, f"{machine.type}.yaml"): _text(arguments, kinds, machine, context)
        for machine in machines
    }
    _write(texts)
    for path in texts:
        context.console.say(f"{path}: written")
    context.console.document({"files": list(texts), "keys": [kind.value for kind in kinds]})
    return 0


def _text(arguments: Namespace, kinds: Sequence[KeyKind], machine: Machine | None, context: Context) -> bytes:
    passphrase = secrets.token_urlsafe(_PASSPHRASE_BYTES) if KeyKind.STATIC in kinds else None
    text = generate_machine_config(kinds, passphrase=passphrase, kms_endpoint=arguments.kms_endpoint, machine=machine)
    own = [] if machine is None else getattr(arguments, _TYPES[machine.type])
    patches = [*arguments.patches, *own]
    if not patches:
        return text
    from luksctl.config.patching import apply_patches  # noqa: PLC0415  # only where there are patches

    source = "the generated config" if machine is None else f"{machine.type}.yaml"
    patched = apply_patches(text, source, patch_texts(patches), keys_by_slot=arguments.keys_by_slot)
    for note in patched.notes:
        context.console.note(f"warning: {note}")
    return patched.config().text


def _kinds(words: Sequence[str]) -> tuple[KeyKind, ...]:
    known = {kind.value: kind for kind in KeyKind}
    for word in words:
        if word not in known:
            raise UsageError(
                f"unknown kind of key {word!r}", hint=did_you_mean(word, known) or f"one of {', '.join(known)}"
            )
    return tuple(known[word] for word in words)


def _write(texts: dict[str, bytes]) -> None:
    for path in texts:
        if os.path.lexists(path):
            raise Refused(f"{path} exists; nothing was written", hint="name another file, or remove this one")
    for path, text in texts.items():
        _create(path, text)


def _create(path: str, text: bytes) -> None:
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise Refused(f"{path} exists; it was not written", hint="name another file, or remove this one") from error
    except OSError as error:
        raise DeviceError(f"{path} cannot be made: {error.strerror}") from error
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
