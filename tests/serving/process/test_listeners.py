"""Listening sockets that several processes share."""

import contextlib
import errno
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator

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
    port = listener.getsockname()[1]
    for host in ("127.0.0.1", "127.0.0.2"):
        with socket.socket() as client, pytest.raises(ConnectionRefusedError):
            client.connect((host, port))
    close(listeners)


def test_a_gate_stays_closed_without_a_descriptor_to_wake_the_acceptor_with() -> None:
    (listener,) = listeners = listen("127.0.0.1", 0, 64, 1, port_setting="PORT")
    gate = AcceptGate(listener.fileno())
    gate.close()
    with no_descriptor_left(), pytest.raises(OSError, match="Too many open files"):
        gate.open()
    assert gate.closed
    gate.open()
    assert not gate.closed
    close(listeners)


@contextlib.contextmanager
def no_descriptor_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        with socket.socket() as highest:
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest.fileno() + 1, hard))
        with contextlib.suppress(OSError):
            while True:
                stack.enter_context(socket.socket())
        yield


@pytest.mark.parametrize(
    ("number", "port", "remedy"),
    [
        (errno.EADDRINUSE, 8443, "; stop that program, or set PORT to another port"),
        (
            errno.EACCES,
            443,
            "; ports under 1024 need root or CAP_NET_BIND_SERVICE; else set PORT to another port",
        ),
        (errno.EADDRNOTAVAIL, 8443, "; set the host to an address or name of this machine, or to * for all"),
        (errno.ENOMEM, 8443, ""),
    ],
)
def test_the_error_of_a_listener_names_the_remedy(number: int, port: int, remedy: str) -> None:
    text = listen_error("::", port, OSError(number, "Reason"), "PORT")
    assert text == f"cannot listen on :: port {port}: Reason{remedy}"
