"""Which ports this user may listen on, and which port stands in for one below them.

Source: Linux ``net.ipv4.ip_unprivileged_port_start`` (ip-sysctl), capabilities(7).
"""

from __future__ import annotations

import pathlib
import socket

STAND_IN_OFFSET = 10_000
USUAL_LOWEST = 1024
SYSCTL = pathlib.Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
PROBED_ADDRESS = "127.255.255.254"


def lowest_port() -> int:
    """The lowest TCP port this process may listen on."""
    with socket.socket() as sock:
        try:
            sock.bind((PROBED_ADDRESS, 1))
        except PermissionError:
            try:
                return int(SYSCTL.read_text())
            except (OSError, ValueError):
                return USUAL_LOWEST
        except OSError:
            return 1  # taken, or no such address here: but not forbidden
    return 1


def stand_in(port: int, lowest: int) -> int:
    """``port``, or the one that stands in for it where ports below ``lowest`` are closed: 80 -> 10080."""
    return port if port >= lowest else port + STAND_IN_OFFSET
