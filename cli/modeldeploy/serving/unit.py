"""The systemd unit of `modeldeploy serve --systemd`. Pure.

https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html
"""

from collections.abc import Sequence
from pathlib import PurePosixPath

#: Below it systemd makes a folder for the unit's user.
STATE = PurePosixPath("/var/lib")
USER = "modeldeploy"
ENVIRONMENT_FILE = "/etc/modeldeploy/serve.env"
_HOMES = tuple(PurePosixPath(home) for home in ("/home", "/root", "/run/user"))
_PRIVILEGED_PORTS = 1024

_UNIT = """\
# Written by `modeldeploy serve --systemd`. To install it:
#   useradd --system --no-create-home {user}
#   modeldeploy serve ... --systemd > /etc/systemd/system/modeldeploy-serve.service
#   systemctl daemon-reload && systemctl enable --now modeldeploy-serve
[Unit]
Description=Model of {uri}, served by modeldeploy
# Not network-online.target: without network the package that was kept is served.
After=network.target

[Service]
Type=exec
ExecStart={command}
# Settings of the server (MODEL_SERVER_...) and credentials of the storage, one NAME=value a line; mode 0600.
EnvironmentFile=-{environment_file}
User={user}
Restart=always
RestartSec=5
# The supervisor drains its servers; what is left after the timeout is ended.
KillMode=mixed
TimeoutStopSec=60

NoNewPrivileges=yes
ProtectSystem=strict
{writable}
ProtectHome={homes}
PrivateTmp=yes
# A model on a GPU needs PrivateDevices=no.
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
LockPersonality=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
CapabilityBoundingSet={capabilities}
AmbientCapabilities={capabilities}
UMask=0077

[Install]
WantedBy=multi-user.target
"""


def unit(command: Sequence[str], uri: str, *, keep: str, port: int, read: Sequence[str]) -> str:
    """The unit's text.

    Args:
        command: the program with its arguments.
        uri: what is served, for the description.
        keep: folder of the package that is kept.
        port: a port below 1024 needs a capability.
        read: files and folders that the program reads.
    """
    folder = PurePosixPath(keep)
    is_of_state = folder.is_relative_to(STATE) and folder != STATE
    return _UNIT.format(
        user=USER,
        uri=_literal(uri),
        command=" ".join(map(_quoted, command)),
        environment_file=ENVIRONMENT_FILE,
        writable=f"StateDirectory={folder.relative_to(STATE)}" if is_of_state else f"ReadWritePaths={_quoted(keep)}",
        homes="read-only" if any(map(_is_in_a_home, [*read, keep])) else "yes",
        capabilities="CAP_NET_BIND_SERVICE" if 0 < port < _PRIVILEGED_PORTS else "",
    )


def _is_in_a_home(path: str) -> bool:
    return any(PurePosixPath(path).is_relative_to(home) for home in _HOMES)


def _literal(text: str) -> str:
    """A text without systemd's specifiers, in one line."""
    return " ".join(text.split()).replace("%", "%%")


def _quoted(argument: str) -> str:
    """One argument of a command line of systemd."""
    escaped = argument.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if not escaped or set(escaped) & set(" \t\"'\\;") else escaped
