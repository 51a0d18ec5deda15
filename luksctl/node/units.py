"""The systemd units of a node, as text. systemd mounts, orders and unmounts; our services only open.

    luksctl-open@STATE.service ─▶ system-state.mount ─▶ luksctl-open@EPHEMERAL.service ─▶ system-ephemeral.mount
              │ OnFailure                                          │ OnFailure
    luksctl-retry@STATE.service                        luksctl-retry@EPHEMERAL.service
              │ started by it                                      │ started by it
    luksctl-network@STATE.service                      luksctl-network@EPHEMERAL.service

Nothing here is required by local-fs.target: a volume that stays locked ends in a failed unit, not in emergency mode.
The mounts come before local-fs.target, so services find them in place; the hook's own deadline bounds the wait.

What only a KMS can open is left to luksctl-network@: nothing but the hook starts it, so no other node waits for a
network. It tries for as long as it takes, and then starts the mount, and what was given up because of it.

luksctl-check.timer starts luksctl-check.service once a week, which proves the keys. Nothing requires or awaits it.
luksctl-reencrypt@.service goes on with a re-encryption: started by the verb that began it, and by each boot after that.
luksctl-trial.service runs while a config is on trial, and takes it back at its deadline.
"""

from __future__ import annotations

from string import ascii_letters, digits

from luksctl.hints import Final
from luksctl.model.config import EPHEMERAL, META, STATE, ByImage, Settings
from luksctl.node.node import Paths
from luksctl.value import frozen

IDENTIFIER: Final = "luksctl-boot"
CHECK_SERVICE: Final = "luksctl-check.service"
CHECK_TIMER: Final = "luksctl-check.timer"
TRIAL_SERVICE: Final = "luksctl-trial.service"
LOCAL_FS: Final = "local-fs.target"
TIMERS: Final = "timers.target"
MARK: Final = "# Written by luksctl enable; changes are overwritten.\n"

_OPEN: Final = """\
[Unit]
Description=Open the {volume} volume
DefaultDependencies=no
Conflicts=shutdown.target
After=systemd-udevd.service systemd-modules-load.service systemd-tmpfiles-setup-dev.service
After=systemd-remount-fs.service{after}
{files}Wants=systemd-udevd.service{wants}
Before=shutdown.target{before}
OnFailure=luksctl-retry@{volume}.service

[Service]
Type=notify
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

_NETWORK: Final = """\
[Unit]
Description=Ask the KMS for the key of the %i volume
Wants=network-online.target
After=network-online.target nss-lookup.target time-sync.target

[Service]
Type=exec
ExecStart={program} --network %i
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

# In maintenance (12) there is nothing to check, which is no failure. The time is for keys that take the longest there
# is, on every slot: systemd's default for such a service is to wait for ever, and then no timer would start it again.
_CHECK: Final = """\
[Unit]
Description=Prove that every configured key opens its volume
After=local-fs.target{after}

[Service]
Type=oneshot
ExecStart={command} check
SuccessExitStatus=12
TimeoutStartSec=3h
Nice=19
IOSchedulingClass=idle
SyslogIdentifier=luksctl-check
UMask=0077
LimitCORE=0
"""

# Started by apply-config before a trial changes anything, which waits until it runs; it ends when the trial was
# confirmed, or taken back.
_TRIAL: Final = """\
[Unit]
Description=Take back a machine config on trial unless it is confirmed

[Service]
Type=notify
ExecStart={command} trial revert --at-deadline
Restart=on-failure
RestartSec=5
SyslogIdentifier=luksctl-trial
UMask=0077
LimitCORE=0
"""

# Whatever stops it leaves all in order, and it has time to end a hot zone. It comes last at the disk, but is neither
# idle nor nice: what is mounted waits for its hot zone, and would wait for all else that runs. What needs a reboot (7)
# is not tried again before.
_REENCRYPT: Final = """\
[Unit]
Description=Re-encrypt the %i volume
Wants=network-online.target
After=local-fs.target network-online.target nss-lookup.target time-sync.target

[Service]
Type=exec
ExecStart={command} reencrypt %i --resume
Restart=on-failure
RestartSec=30
RestartPreventExitStatus=7
SuccessExitStatus=130
TimeoutStopSec=5min
IOSchedulingClass=best-effort
IOSchedulingPriority=7
SyslogIdentifier=luksctl-reencrypt
UMask=0077
LimitCORE=0
"""

# The same hour of each week, and another one on each node, so that a key service sees them one after the other.
_TIMER: Final = """\
[Unit]
Description=Prove once a week that every configured key opens its volume

[Timer]
OnCalendar=weekly
RandomizedDelaySec=7d
FixedRandomDelay=yes
Persistent=yes

[Install]
WantedBy=timers.target
"""

_MOUNT_OPTIONS: Final = {STATE: ("nosuid,nodev,noexec,nofail", "0700"), EPHEMERAL: ("nofail", "0755")}
_PLAIN: Final = frozenset(ascii_letters + digits + ":_")
# The service's own deadlines end it, after a mkfs that may take ten minutes; systemd's is for a hook that hangs.
_HANG_MARGIN_S: Final = 720


@frozen
class UnitFile:
    """One unit: its file name, its text, and whether `target` wants it."""

    name: str
    text: str
    wanted: bool = False
    target: str = LOCAL_FS


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


def network_unit(volume: str) -> str:
    """Return the name of the unit that goes on with `volume` once there is a network."""
    return f"luksctl-network@{volume}.service"


def reencrypt_unit(volume: str) -> str:
    """Return the name of the unit that re-encrypts `volume`."""
    return f"luksctl-reencrypt@{volume}.service"


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
    network = _NETWORK.format(program=_command(program), identifier=IDENTIFIER)
    units = [UnitFile("luksctl-retry@.service", MARK + retry), UnitFile("luksctl-network@.service", MARK + network)]
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


def check_units(settings: Settings, command: tuple[str, ...]) -> tuple[UnitFile, ...]:
    """Return the timer and the service that prove the keys. `command` starts luksctl: an absolute path, and arguments.

    The service comes after the mounts only in order: a volume that does not open is no reason not to check the other.
    """
    points = (settings.volume(volume).mount_point for volume in (STATE, EPHEMERAL))
    after = "".join(f" {mount_unit(point)}" for point in points if point is not None)
    service = _CHECK.format(after=after, command=_command(command))
    return (
        UnitFile(CHECK_SERVICE, MARK + service),
        UnitFile(CHECK_TIMER, MARK + _TIMER, wanted=True, target=TIMERS),
    )


def trial_unit(command: tuple[str, ...]) -> UnitFile:
    """Return the service that takes back a config on trial; nothing starts it but apply-config."""
    return UnitFile(TRIAL_SERVICE, MARK + _TRIAL.format(command=_command(command)))


def reencrypt_template(command: tuple[str, ...]) -> UnitFile:
    """Return the service that goes on with a re-encryption; the verb and the hook start it."""
    return UnitFile("luksctl-reencrypt@.service", MARK + _REENCRYPT.format(command=_command(command)))


def _files(settings: Settings, volume: str) -> str:
    """Return what mounts the directories of image files; nothing for partitions."""
    locations = (settings.volume(name).location for name in (META, volume))
    paths = [_word(location.path) for location in locations if isinstance(location, ByImage)]
    return f"RequiresMountsFor={' '.join(paths)}\n" if paths else ""


def _open_service(settings: Settings, volume: str, program: tuple[str, ...]) -> UnitFile:
    state_mount = settings.volume(STATE).mount_point
    after = wants = ""
    if volume == EPHEMERAL:
        after = " luksctl-open@STATE.service"
        if state_mount is not None:
            after += " " + mount_unit(state_mount)
            wants = " " + mount_unit(state_mount)
    own_mount = settings.volume(volume).mount_point
    # Being wanted by the target orders nothing here, and what comes after it is a phase too late for a tpm key.
    before = " " + (LOCAL_FS if own_mount is None else mount_unit(own_mount))
    text = _OPEN.format(
        volume=volume,
        after=after,
        wants=wants,
        before=before,
        files=_files(settings, volume),
        program=_command(program),
        identifier=IDENTIFIER,
        stop_after_s=settings.timeouts.hook_s + _HANG_MARGIN_S,
    )
    return UnitFile(f"luksctl-open@{volume}.service", MARK + text, wanted=own_mount is None)
