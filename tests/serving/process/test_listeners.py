"""Listening sockets that several processes share."""

import errno
import socket
import subprocess
import sys

import pytest

from sigil.serving.connections.accept_gate import AcceptGate
from sigil.serving.process.listeners import close, listen, listen_error

GREETER = """
import socket, sys, threading
from sigil.serving.connections.accept_gate import AcceptGate

listener = socket.socket(fileno=int(sys.argv[1]))
listener.setblocking(False)

def greet():
    while True:
        try:
            peer, _ = listener.accept()
        except BlockingIOError:
            continue
        peer.sendall(b"the other process")
        peer.close()

threading.Thread(target=greet, daemon=True).start()
print("greeting", flush=True)
sys.stdin.readline()
AcceptGate(listener.fileno()).close(final=True)
print("stopped", flush=True)
sys.stdin.readline()
"""


def test_after_stop_accepting_other_processes_get_every_connection() -> None:
    (listener,) = listeners = listen("127.0.0.1", 0, 64, 1, port_setting="PORT")
    greeter = subprocess.Popen(
        [sys.executable, "-c", GREETER, str(listener.fileno())],
        pass_fds=[listener.fileno()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert greeter.stdin is not None
    assert greeter.stdout is not None
    with greeter, greeter.stdin:
        assert greeter.stdout.readline() == b"greeting\n"
        with socket.create_connection(listener.getsockname(), timeout=60) as client:
            assert client.recv(64) == b"the other process"
        greeter.stdin.write(b"\n")
        greeter.stdin.flush()
        assert greeter.stdout.readline() == b"stopped\n"
        for _ in range(20):
            with socket.create_connection(listener.getsockname(), timeout=60) as client:
                mine, _ = listener.accept()
                mine.sendall(b"this process")
                mine.close()
                assert client.recv(64) == b"this process"
    close(listeners)


def test_no_program_reaches_the_socket_of_a_closed_gate() -> None:
    (listener,) = listeners = listen("127.0.0.1", 0, 64, 1, port_setting="PORT")
    AcceptGate(listener.fileno()).close()
    instead = listener.getsockname()
    with socket.socket() as client:
        client.settimeout(0.5)
        with pytest.raises(TimeoutError):
            client.connect(instead)
    close(listeners)


@pytest.mark.parametrize(
    ("number", "port", "remedy"),
    [
        (errno.EADDRINUSE, 8443, "; stop that program, or set PORT to another port"),
        (
            errno.EACCES,
            443,
            "; ports under 1024 need root or CAP_NET_BIND_SERVICE; else set PORT to another port",
        ),
        (errno.EADDRNOTAVAIL, 8443, ""),
    ],
)
def test_the_error_of_a_listener_names_the_remedy(number: int, port: int, remedy: str) -> None:
    text = listen_error("::", port, OSError(number, "Reason"), "PORT")
    assert text == f"cannot listen on :: port {port}: Reason{remedy}"
