"""Free ports for servers of tests."""

from __future__ import annotations

import errno
import secrets
import socket

# Below the ports that the kernel gives to clients, from 32 768 on. A port from there can be taken again by any
# connection of another test between the choice and the start of the server.
_PORTS = range(20_000, 32_000)


def free_port() -> int:
    """A TCP port that no address of this host uses."""
    while True:
        port = secrets.choice(_PORTS)
        try:
            if socket.has_dualstack_ipv6():
                socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True).close()
            else:
                socket.create_server(("", port)).close()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return port
