"""Whether the TLS server can serve a pair: it tries, in a process of its own.

OpenSSL accepts more than Granian's TLS, in which a worker aborts on such a pair. The trial makes Granian load the pair
and complete one handshake. It takes 70 ms on an idle machine; the process ends by itself, or after `_SECONDS`.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, cast

from sigil.serving.process.memory_protection import forbid_core_dumps

_SECONDS = 30.0
_SERVED = "served"
_CHILD = "import sys; sys.path[:] = sys.argv[1].split(sys.argv[2]); from sigil.serving.tls.trial import serve_once"
_PANIC = re.compile(r"panicked at [^\n]*\n([^\n]+)")
_ERROR = re.compile(r"on an `Err` value: (.+)")
_ACCEPTED = "it takes RSA of 2048 to 4096 bits, P-256, P-384 and Ed25519, in PKCS#8, PKCS#1 or SEC1 with a named curve"
# Errors of rustls as it prints them, and what to do. Any other one is shown as it is.
_MEANINGS = {
    "UnsupportedCertVersion": (
        "the certificate is X.509 version 1: make one of version 3 (openssl x509 -req needs -extfile for that)"
    ),
    "UnsupportedCriticalExtension": "the certificate has a critical extension that the TLS server does not know",
    "InconsistentKeys": "the key does not belong to the first certificate of the file",
    "NoCertificatesPresented": "the first file has no certificate in PEM",
    "`Option::unwrap()` on a `None` value": "the second file has no private key in PEM",
    "failed to parse private key": f"the TLS server does not know this kind or form of key: {_ACCEPTED}",
    "MissingSectionEnd": "a file ends within a block of PEM",
    "[SSL] ASN1": "a certificate of the chain cannot be read",
}


def refusal_of(cert: str, key: str, descriptors: Sequence[int] = ()) -> str | None:
    """Why the TLS server cannot serve the files `cert` and `key`, in one line; None if it can. `descriptors` are those
    that the two paths need.
    """
    # Not the environment: it may hold secrets, which a process that aborts must not have.
    environ = {name: value for name, value in os.environ.items() if name in {"LD_LIBRARY_PATH", "PYTHONHOME"}}
    code = f"{_CHILD}; serve_once(*sys.argv[3:])"
    arguments = [os.pathsep.join(sys.path), os.pathsep, cert, key]
    try:
        tried = subprocess.run(  # noqa: S603 - this program itself
            [sys.executable, "-P", "-c", code, *arguments],
            pass_fds=descriptors,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            env=environ | {"RUST_BACKTRACE": "0"},
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"the TLS server completed no handshake within {_SECONDS:.0f} s; try again when this host has less load"
    except OSError as error:
        return f"a process that tries the pair cannot be started: {error.strerror}"
    # Not the exit code, which is lost where the parent ignores SIGCHLD.
    if tried.stdout.decode(errors="replace").strip() == _SERVED:
        return None
    return _reason(tried.stderr.decode(errors="replace"))


def _reason(stderr: str) -> str:
    """From a panic, or from the last line of a traceback."""
    panic = _PANIC.search(stderr)
    text = panic[1] if panic else (stderr.strip().splitlines() or ["no reason is given"])[-1]
    for sign, meaning in _MEANINGS.items():
        if sign in text:
            return meaning
    error = _ERROR.search(text)
    return f"the TLS server does not accept this pair: {(error[1] if error else text)[:300]}"


def serve_once(cert: str, key: str) -> None:
    """The process of the trial: one handshake on a socket that no other host reaches. It ends the process."""
    # An abort must not write the key to a disk.
    forbid_core_dumps()
    import asyncio

    import granian._futures
    import granian._granian

    # Their stubs lack the arguments that Granian's own workers pass.
    native, futures = cast(Any, granian._granian), cast(Any, granian._futures)

    on_linux = sys.platform == "linux"
    # On Linux an abstract name, which needs neither a file nor an address.
    listener = socket.socket(socket.AF_UNIX if on_linux else socket.AF_INET)
    listener.bind("" if on_linux else ("127.0.0.1", 0))
    listener.listen(1)
    listener.setblocking(False)
    tls: tuple[Any, ...] = (True, cert, key, None, "tls1.2", None, [], False)
    holder = native.SocketHolder(listener.fileno(), on_linux, *((1,) if on_linux else ()))
    worker = native.ASGIWorker(
        0, (None, holder), None, 1, 1, 1, 30, 1, "1", None, None, False, None, *tls, (None, None)
    )
    loop = asyncio.new_event_loop()
    serve = worker.serve_mtr_uds if on_linux else worker.serve_mtr
    serve(futures._new_cbscheduler(loop, None), loop, native.WorkerSignal())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.socket(listener.family) as client:
        client.settimeout(_SECONDS)
        client.connect(listener.getsockname())
        with context.wrap_socket(client, server_hostname="localhost"):
            os.write(1, _SERVED.encode())
    # Without the interpreter's shutdown: Granian's threads still run, and sometimes abort it.
    os._exit(0)
