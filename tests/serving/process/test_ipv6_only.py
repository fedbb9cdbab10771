"""A host whose only addresses are IPv6: a network namespace without 127.0.0.1."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_NETWORK = 'ip link set lo up && ip addr del 127.0.0.1/8 dev lo && exec "$@"'
# Clients connect anew for each request while the service replaces its workers twice.
_RELOADS = """
import json, signal, socket, sys, threading
from pathlib import Path
from tests.serving.running import Running, eventually

results, stop = [], threading.Event()

def requests(port):
    while not stop.is_set():
        try:
            with socket.create_connection(("::1", port), 120) as client:
                client.sendall(b"GET / HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n")
                results.append(client.recv(4096)[9:12].decode())
        except OSError as error:
            results.append(repr(error))

with Running(Path(sys.argv[1]), host="::") as server:
    server.ready()
    clients = [threading.Thread(target=requests, args=(server.port,)) for _ in range(4)]
    for client in clients:
        client.start()
    for number in (1, 2):
        server.send(signal.SIGHUP)
        eventually(lambda: len(server.events("reload_finished")) == number, "a reload")
    stop.set()
    for client in clients:
        client.join()
    code = server.terminate()
print(json.dumps({"code": code, "served": len(results), "lost": [r for r in results if r != "200"]}))
"""
# As in a sandbox that refuses IP_FREEBIND.
_GATE = """
from sigil.serving.connections import accept_gate
from sigil.serving.process.listeners import listen
accept_gate._IP_FREEBIND = accept_gate._IPV6_FREEBIND = 9999
(listener,) = listen("::", 0, 1, 1, port_setting="PORT")
accept_gate.AcceptGate(listener.fileno()).close(final=True)
print("closed")
"""


def with_ipv6_only(*command: str) -> subprocess.CompletedProcess[str]:
    isolated = ["unshare", "--net", "sh", "-c", _NETWORK, "sh", *command]
    return subprocess.run(isolated, capture_output=True, text=True, timeout=400, check=False)


def _can_isolate() -> bool:
    return bool(shutil.which("unshare") and shutil.which("ip")) and with_ipv6_only("true").returncode == 0


pytestmark = pytest.mark.skipif(not _can_isolate(), reason="a network namespace needs root, unshare and ip")


def test_a_reload_loses_no_request(tmp_path: Path) -> None:
    ended = with_ipv6_only(sys.executable, "-c", _RELOADS, str(tmp_path))
    assert ended.returncode == 0, ended.stderr
    result = json.loads(ended.stdout)
    assert (result["code"], result["lost"]) == (0, [])
    assert result["served"]


def test_a_worker_stops_accepting_without_an_address_of_ipv4() -> None:
    ended = with_ipv6_only(sys.executable, "-c", _GATE)
    assert (ended.stdout, ended.stderr) == ("closed\n", "")
