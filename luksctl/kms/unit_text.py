"""The systemd service of the KMS: a user of its own while it runs, and nothing of the machine but its files."""

from __future__ import annotations

from collections.abc import Sequence

from luksctl.hints import Final
from luksctl.model.kms import DEFAULT_DIRECTORY, KEY_CREDENTIAL, PASSPHRASE_CREDENTIAL

_TEXT: Final = """\
[Unit]
Description=luksctl KMS: seals and unseals the disk keys of nodes
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
ExecStart={command}
ExecReload=kill -HUP $MAINPID
Restart=on-failure
RestartSec=2
TimeoutStopSec=30

# The list of nodes and the audit log are in {directory}. The master key there is sealed; systemd reads it for the
# start of the service, as it does the passphrase, whoever may read it there; a reload reads the one there:
#   systemd-creds encrypt --name={passphrase} - /etc/luksctl/{passphrase}.cred
DynamicUser=yes
StateDirectory=luksctl-kms
StateDirectoryMode=0700
UMask=0077
LoadCredential={key}:{directory}/master.key
LoadCredentialEncrypted={passphrase}:/etc/luksctl/{passphrase}.cred

# Keys stay in memory, and out of core dumps.
LimitMEMLOCK=64M
LimitCORE=0
LimitNOFILE=65536

CapabilityBoundingSet=
AmbientCapabilities=
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
PrivateUsers=yes
ProtectProc=invisible
ProcSubset=pid
ProtectHostname=yes
ProtectClock=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RemoveIPC=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
DevicePolicy=closed

[Install]
WantedBy=multi-user.target
"""


def service(command: Sequence[str], options: Sequence[str]) -> str:
    """Return the text of the unit; `command` is luksctl with an absolute path, `options` go behind kms serve."""
    words = (*command, "kms", "serve", *options)
    return _TEXT.format(
        command=" ".join(map(_word, words)),
        directory=DEFAULT_DIRECTORY,
        key=KEY_CREDENTIAL,
        passphrase=PASSPHRASE_CREDENTIAL,
    )


def _word(text: str) -> str:
    """Return one word of a command line as systemd reads it back (systemd.service(5), command lines)."""
    # %d is the directory of the credentials, and the one specifier that makes sense here.
    escaped = "%d/".join(part.replace("%", "%%") for part in text.split("%d/"))
    escaped = escaped.replace("$", "$$").replace("\\", "\\\\").replace('"', '\\"')
    return escaped if escaped == text and not set(text) & set(" \t;'") else f'"{escaped}"'
