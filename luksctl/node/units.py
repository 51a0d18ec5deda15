"""The systemd units of a node, as text. systemd mounts, orders and unmounts; our services only open.

    luksctl-open@STATE.service ─▶ system-state.mount ─▶ luksctl-open@EPHEMERAL.service ─▶ system-ephemeral.mount
              │ OnFailure                                          │ OnFailure
    luksctl-retry@STATE.service                        luksctl-retry@EPHEMERAL.service

Nothing here is required by local-fs.target: a volume that stays locked ends in a failed unit, not in emergency mode.
The mounts come before local-fs.target, so services find them in place; the hook's own deadline bounds the wait.
"""

from __future__ import annotations

from string import ascii_letters, digits

from luksctl.hints import Final
from luksctl.model.config import EPHEMERAL, STATE, Settings
from luksctl.node.node import Paths
from luksctl.value import frozen

IDENTIFIER: Final = "luksctl-boot"
MARK: Final = "# Written by luksctl enable; changes are overwritten.\n"

_OPEN: Final = """\
[Unit]
Description=Open the {volume} volume
DefaultDependencies=no
Conflicts=shutdown.target
After=systemd-udevd.service systemd-modules-load.service systemd-tmpfiles-setup-dev.service
After=systemd-remount-fs.service{after}
Wants=systemd-udevd.service{wants}
Before=shutdown.target{before}
OnFailure=luksctl-retry@{volume}.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={program} {volume}
TimeoutStartSec={stop_after_s:.0f}
SyslogIdentifier={identifier}
UMask=0077
LimitCORE=0
"""

_RETRY: Final = """\
[Unit]
Description=Keep trying to open the %i volume
DefaultDependencies=no
Conflicts=shutdown.target
Before=shutdown.target

[Service]
Type=exec
ExecStart={program} --retry %i
Restart=on-failure
RestartSec=30
SyslogIdentifier={identifier}
UMask=0077
LimitCORE=0
"""

_MOUNT: Final = """\
[Unit]
Description=The {volume} volume
Requires=luksctl-open@{volume}.service
After=luksctl-open@{volume}.service
Before=local-fs.target

[Mount]
What={what}
Where={where}
Options={options}
DirectoryMode={mode}

[Install]
WantedBy=local-fs.target
"""

_MOUNT_OPTIONS: Final = {STATE: ("nosuid,nodev,noexec,nofail", "0700"), EPHEMERAL: ("nofail", "0755")}
_PLAIN: Final = frozenset(ascii_letters + digits + ":_")
# The service's own deadlines end it, after a mkfs that may take ten minutes; systemd's is for a hook that hangs.
_HANG_MARGIN_S: Final = 720


@frozen
class UnitFile:
    """One unit: its file name, its text, and whether local-fs.target wants it."""

    name: str
    text: str
    wanted: bool = False


def escape_path(path: str) -> str:
    """Return `path` as systemd spells it in unit names (systemd.unit(5), "string escaping")."""
    trimmed = "/".join(part for part in path.split("/") if part)
    if not trimmed:
        return "-"
    escaped = []
    for position, character in enumerate(trimmed):
        if character == "/":
            escaped.append("-")
        elif character in _PLAIN or (character == "." and position > 0):
            escaped.append(character)
        else:
            escaped.extend(f"\\x{byte:02x}" for byte in character.encode())
    return "".join(escaped)


def mount_unit(mount_point: str) -> str:
    """Return the name of the mount unit for `mount_point`."""
    return f"{escape_path(mount_point)}.mount"


def literal(path: str) -> str:
    """Return `path` as a unit file takes it whole: no part of it is a specifier (systemd.unit(5))."""
    return path.replace("%", "%%")


def _command(program: tuple[str, ...]) -> str:
    """Return a command line as ExecStart= takes it (systemd.service(5), command lines)."""
    return " ".join(map(_word, program))


def _word(text: str) -> str:
    escaped = literal(text).replace("\\", "\\\\").replace('"', '\\"')
    return escaped if escaped == text and not set(text) & set(" \t;'") else f'"{escaped}"'


def unit_files(settings: Settings, paths: Paths, program: tuple[str, ...]) -> tuple[UnitFile, ...]:
    """Return every unit of this node. `program` starts the hook: an absolute path, and arguments."""
    retry = _RETRY.format(program=_command(program), identifier=IDENTIFIER)
    units = [UnitFile("luksctl-retry@.service", MARK + retry)]
    for volume in (STATE, EPHEMERAL):
        mount_point = settings.volume(volume).mount_point
        units.append(_open_service(settings, volume, program))
        if mount_point is not None:
            options, mode = _MOUNT_OPTIONS[volume]
            text = _MOUNT.format(
                volume=volume, what=paths.volume_link(volume), where=literal(mount_point), options=options, mode=mode
            )
            units.append(UnitFile(mount_unit(mount_point), MARK + text, wanted=True))
    return tuple(units)


def _open_service(settings: Settings, volume: str, program: tuple[str, ...]) -> UnitFile:
    state_mount = settings.volume(STATE).mount_point
    after = wants = before = ""
    if volume == EPHEMERAL:
        after = " luksctl-open@STATE.service"
        if state_mount is not None:
            after += " " + mount_unit(state_mount)
            wants = " " + mount_unit(state_mount)
    own_mount = settings.volume(volume).mount_point
    if own_mount is not None:
        before = " " + mount_unit(own_mount)
    text = _OPEN.format(
        volume=volume,
        after=after,
        wants=wants,
        before=before,
        program=_command(program),
        identifier=IDENTIFIER,
        stop_after_s=settings.timeouts.hook_s + _HANG_MARGIN_S,
    )
    return UnitFile(f"luksctl-open@{volume}.service", MARK + text, wanted=own_mount is None)
