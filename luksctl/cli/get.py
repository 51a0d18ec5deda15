"""`luksctl get machineconfig|volumestatus|meta`: what the node holds, in the form of Talos' resources."""

from __future__ import annotations

import os
from argparse import Namespace

from luksctl.cli.context import Context
from luksctl.cli.parser import Parser
from luksctl.cli.volume_resources import TYPE, si_size, volume_spec
from luksctl.cli.volumes import volumes_of
from luksctl.config.redaction import redact
from luksctl.errors import ConfigError, Maintenance, UsageError
from luksctl.hints import Any, Final
from luksctl.meta.tags import describe_tag, tag_name
from luksctl.model.config import MachineConfig
from luksctl.node.get import ACTIVE, PERSISTENT, machine_config, ruling_text
from luksctl.node.preview import outlook, preview
from luksctl.node.volume_status import volume_status
from luksctl.value import frozen
from luksctl.wiring import meta_store

_NAMES: Final = {
    "machineconfig": ("machineconfigs", "mc"),
    "volumestatus": ("volumestatuses", "vs"),
    "meta": ("metakeys", "metakey"),
}
_FORMS: Final = ("table", "yaml", "json")
_JSONPATH: Final = "jsonpath="


@frozen
class _Resource:
    """One thing: its id, its fields, and what a table says of it behind NODE, NAMESPACE, TYPE, ID and VERSION."""

    id: str
    spec: object
    cells: tuple[str, ...] = ()


@frozen
class _Kind:
    """What resources of one kind are called; `columns` are those of `cells`."""

    namespace: str
    type: str
    columns: tuple[str, ...] = ()


_CONFIGS: Final = _Kind("config", "MachineConfig")
_VOLUMES: Final = _Kind("runtime", "VolumeStatus", ("type", "phase", "location", "size"))
_TAGS: Final = _Kind("runtime", "MetaKey", ("value",))


def configure(parser: Parser) -> None:
    """Add the options of the verb."""
    parser.add_argument("what", metavar="RESOURCE", help=f"one of {', '.join(_NAMES)}")
    parser.add_argument(
        "ids", metavar="ID", nargs="*", help=f"volumes; of machineconfig {ACTIVE} (what rules) or {PERSISTENT}"
    )
    parser.add_argument(
        "-o", "--output", metavar="FORM", help="table, yaml, json or jsonpath=TEMPLATE; a config is else its text"
    )
    parser.add_flag("show-secrets", text="of machineconfig: show passphrases as well")


def run(arguments: Namespace, context: Context) -> int:
    """Show it; reads only."""
    form = _form(arguments.output)
    if form == "json":
        context.console.json = True
    match _name(arguments.what):
        case "machineconfig":
            return _machine_config(arguments, form, context)
        case "volumestatus":
            return _show(_VOLUMES, _volumes(arguments.ids, context), form, context)
        case _:
            return _show(_TAGS, _tags(arguments.ids, context), form, context)


def _form(text: str | None) -> str | None:
    """Return `text` where it is a form of output; UsageError otherwise."""
    if text is None or text in _FORMS or text.startswith(_JSONPATH):
        return text
    raise UsageError(f"unknown form {text!r}", hint=f"one of {', '.join(_FORMS)}, {_JSONPATH}TEMPLATE")


def _name(word: str) -> str:
    for name, others in _NAMES.items():
        if word.lower() in (name, *others):
            return name
    raise UsageError(f"unknown resource {word!r}", hint=f"one of {', '.join(_NAMES)}")


def _machine_config(arguments: Namespace, form: str | None, context: Context) -> int:
    ids: list[str] = arguments.ids or [ACTIVE]
    if len(ids) > 1:
        raise UsageError("one config at a time", hint=f"{ACTIVE} or {PERSISTENT}")
    config = _config(ids[0], context, raw=arguments.show_secrets and form is None and not context.console.json)
    if config is None:
        raise Maintenance("the node has no machine config", hint="luksctl apply-config --insecure -f FILE")
    text = _text(config, secrets=arguments.show_secrets)
    if form is None and not context.console.json:
        context.console.raw(text.encode())
        return 0
    return _show(_CONFIGS, [_Resource(ids[0], text)], form, context)


def _config(name: str, context: Context, *, raw: bool) -> MachineConfig | None:
    """Return the config; one that is wrong is an error, but its text is printed `raw` where nothing is to be hidden."""
    node = context.node()
    try:
        return machine_config(node, name)
    except ConfigError:
        found = ruling_text(node) if raw and name == ACTIVE else None
        if found is not None:
            context.console.raw(found[0])
        raise


def _text(config: MachineConfig, *, secrets: bool) -> str:
    return (config.text if secrets else redact(config.text)).decode()


def _volumes(words: list[str], context: Context) -> list[_Resource]:
    node = context.node()
    known = outlook(node)
    found = []
    for volume in volumes_of(words):
        seen = preview(known, volume)
        spec = volume_spec(seen, volume_status(node, seen))
        size = si_size(spec["size"]) if "size" in spec else ""
        found.append(_Resource(volume, spec, (TYPE, spec["phase"], spec.get("location", ""), size)))
    return found


def _tags(words: list[str], context: Context) -> list[_Resource]:
    tags = meta_store(context.settings()).list_tags()
    found = []
    for tag, value in tags.items():
        name, shown = f"0x{tag:02x}", describe_tag(tag, value)
        if not words or name in words or str(tag) in words:
            spec = {"value": shown, "name": tag_name(tag) or None, "size": len(value)}
            found.append(_Resource(name, {field: item for field, item in spec.items() if item is not None}, (shown,)))
    return found


def _show(kind: _Kind, found: list[_Resource], form: str | None, context: Context) -> int:
    console, node = context.console, os.uname().nodename
    if console.json:
        console.document({"resources": [_document(kind, resource, node) for resource in found]})
    elif form is not None and form.startswith(_JSONPATH):
        from luksctl.cli.jsonpath import read_template  # noqa: PLC0415  # as yaml_of

        template = read_template(form.removeprefix(_JSONPATH))
        console.raw("".join(f"{template(_document(kind, each, node))}\n" for each in found).encode())
    elif form == "yaml":
        from luksctl.config.unfolding import yaml_of  # noqa: PLC0415  # only for those who ask

        console.raw("---\n".join(yaml_of(_document(kind, resource, node)) for resource in found).encode())
    else:
        rows = [(node, kind.namespace, kind.type, item.id, "1", *item.cells) for item in found]
        console.table(("node", "namespace", "type", "id", "version", *kind.columns), rows)
    return 0


def _document(kind: _Kind, resource: _Resource, node: str) -> dict[str, Any]:
    metadata = {"namespace": kind.namespace, "type": kind.type, "id": resource.id, "version": 1}
    return {"node": node, "metadata": metadata, "spec": resource.spec}
