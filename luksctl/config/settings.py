"""The settings file: where the volumes of this machine are, where they are mounted, and how long to wait."""

from __future__ import annotations

from yaml.nodes import MappingNode

from luksctl.config.block import Block
from luksctl.config.nodes import is_null, kind_of
from luksctl.config.report import Report
from luksctl.config.split import refuse_duplicate_keys
from luksctl.config.yamltext import decode, line_of, load_documents
from luksctl.hints import Final
from luksctl.model.config import (
    EPHEMERAL,
    META,
    STATE,
    ByDevice,
    ByImage,
    ByLabel,
    Location,
    Settings,
    Timeouts,
    VolumeSettings,
)
from luksctl.units import parse_duration_s

META_IMAGE_NAME: Final = "luksctl.meta"
_VOLUMES: Final = (META, STATE, EPHEMERAL)
_PLACES: Final = ("label", "device", "image")
_TIMEOUTS: Final = {
    "device": "device_s",
    "hook": "hook_s",
    "lock": "lock_s",
    "retryMin": "retry_min_s",
    "retryMax": "retry_max_s",
}
_LONGEST_TIMEOUT_S: Final = 24 * 3600.0
_LONGEST_LABEL: Final = 36  # UTF-16 units in a GPT entry


def parse_settings(text: bytes, source: str) -> Settings:
    """Return the settings in `text`; an empty text gives the defaults. `source` is the path of the file.

    Raises ConfigError with every problem found. A relative image path counts from the directory of `source`.
    """
    report = Report(source)
    root = _root(text, report)
    default = Settings()
    if root is None:
        report.raise_problems()
        return Settings(path=source)
    root.refuse_unknown(("volumes", "timeouts"))
    volumes = _read_volumes(root.block("volumes"), source)
    settings = Settings(
        volumes=default.volumes if volumes is None else volumes,
        timeouts=_read_timeouts(root.block("timeouts")),
        path=source,
    )
    report.raise_problems()
    return settings


def _root(text: bytes, report: Report) -> Block | None:
    roots = [root for root in load_documents(decode(text, report), report) if not is_null(root)]
    for surplus in roots[1:]:
        report.error(line_of(surplus), "", "the settings are one document")
    if not roots:
        return None
    refuse_duplicate_keys(roots[0], "", report)
    if isinstance(roots[0], MappingNode):
        return Block(report, roots[0], "", line_of(roots[0]))
    report.error(line_of(roots[0]), "", f"the settings must be a mapping, not {kind_of(roots[0])}")
    return None


def _read_volumes(block: Block | None, source: str) -> tuple[tuple[str, VolumeSettings], ...] | None:
    if block is None:
        return None
    block.refuse_unknown(_VOLUMES)
    directory = source.rpartition("/")[0]
    volumes = dict(Settings().volumes)
    for name in _VOLUMES:
        if block.has(name) and not block.given(name):
            block.error(name, f"{name} is empty", "fill it in, or take it out for the default")
        inner = block.block(name)
        if inner is not None:
            volumes[name] = _read_volume(inner, name, volumes[name], directory)
    # Without a disk there is no META partition either: its copy lies beside the settings, as design.md asks.
    if isinstance(volumes[STATE].location, ByImage) and not block.has(META):
        volumes[META] = VolumeSettings(ByImage(_beside(directory, META_IMAGE_NAME)))
    _refuse_shared(block, volumes)
    return tuple(volumes.items())


def _read_volume(block: Block, name: str, default: VolumeSettings, directory: str) -> VolumeSettings:
    known = (*_PLACES, "disk") if name == META else (*_PLACES, "disk", "mountPoint")
    block.refuse_unknown(known, elsewhere={} if name != META else {"mountPoint": "META is never mounted"})
    location = _read_location(block, default.location, directory)
    if name == META or not block.has("mountPoint"):
        return VolumeSettings(location, default.mount_point)
    return VolumeSettings(location, _read_mount_point(block))


def _read_location(block: Block, default: Location, directory: str) -> Location:
    places = [place for place in _PLACES if block.given(place)]
    if len(places) > 1:
        block.error(places[1], f"several places for one volume: {', '.join(places)}", "give exactly one of them")
    disk = _absolute(block, "disk")
    if disk is not None and places not in ([], ["label"]):
        block.error("disk", f"disk narrows the search for a label and does not go with {places[0]}")
    match places:
        case ["device", *_]:
            return ByDevice(_absolute(block, "device") or "")
        case ["image", *_]:
            return ByImage(_beside(directory, _filled(block, "image") or ""))
        case ["label", *_]:
            return ByLabel(_read_label(block), disk)
        case _:
            return ByLabel(default.label, disk) if isinstance(default, ByLabel) else default


def _read_label(block: Block) -> str:
    label = _filled(block, "label") or ""
    if len(label.encode("utf-16-le")) > 2 * _LONGEST_LABEL:
        block.error("label", f"a partition label has at most {_LONGEST_LABEL} characters")
    return label


def _filled(block: Block, name: str) -> str | None:
    text = block.text(name)
    if text is not None and (not text or not text.isprintable()):
        block.error(name, "empty text" if not text else "text that cannot be printed")
    return text


def _absolute(block: Block, name: str) -> str | None:
    path = _filled(block, name)
    if path and not path.startswith("/"):
        block.error(name, f"{path!r} is no absolute path", "begin it with /")
    return path


def _read_mount_point(block: Block) -> str | None:
    path = _absolute(block, "mountPoint")
    if not path:
        return None
    parts = [part for part in path.split("/") if part]
    if not parts or "." in parts or ".." in parts:
        block.error("mountPoint", f"{path!r} cannot be mounted on", "give a directory below /, without . and ..")
    return "/" + "/".join(parts)


def _beside(directory: str, path: str) -> str:
    return path if path.startswith("/") or not directory else f"{directory}/{path}"


def _refuse_shared(block: Block, volumes: dict[str, VolumeSettings]) -> None:
    places: dict[Location, str] = {}
    mount_points: dict[str, str] = {}
    for name, volume in volumes.items():
        other = places.setdefault(volume.location, name)
        if other != name:
            block.error(name, f"{name} and {other} are at the same place")
        if volume.mount_point is None:
            continue
        other = mount_points.setdefault(volume.mount_point, name)
        if other != name:
            block.error(name, f"{name} and {other} have the same mount point {volume.mount_point}")
    _refuse_nested(block, mount_points)


def _refuse_nested(block: Block, mount_points: dict[str, str]) -> None:
    """Refuse a mount point below another: each volume is opened by what the other holds, or sealed inside of it."""
    for path, name in mount_points.items():
        for above, other in mount_points.items():
            if path.startswith(f"{above}/"):
                block.error(name, f"the mount point of {name}, {path}, is below that of {other}, {above}")


def _read_timeouts(block: Block | None) -> Timeouts:
    if block is None:
        return Timeouts()
    block.refuse_unknown(tuple(_TIMEOUTS))
    read = {field: _read_duration_s(block, name) for name, field in _TIMEOUTS.items()}
    timeouts = Timeouts(**{field: duration_s for field, duration_s in read.items() if duration_s is not None})
    if timeouts.retry_min_s > timeouts.retry_max_s:
        block.error("retryMin", f"retryMin ({timeouts.retry_min_s:g} s) is above retryMax ({timeouts.retry_max_s:g} s)")
    return timeouts


def _read_duration_s(block: Block, name: str) -> float | None:
    text = block.text(name)
    if text is None:
        return None
    try:
        duration_s = parse_duration_s(text)
    except ValueError as error:
        block.error(name, str(error))
        return None
    if not 0 < duration_s <= _LONGEST_TIMEOUT_S:
        block.error(name, f"{text} is outside 1ms-24h")
        return None
    return duration_s
