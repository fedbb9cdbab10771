"""A TLS certificate and key, read once and kept in memory, so that every worker of a generation serves the same pair.

A worker reads its pair by path when it starts. If that were the configured path, a worker that is started again after
a renewal would serve another certificate than its siblings, and none at all while the files are half written or (as
on Kubernetes) the directory behind the symlink is gone.
"""

import os
import ssl
import sys
from multiprocessing.reduction import DupFd
from pathlib import Path

from sigil.serving.refusal import StartRefused


class KeptOpen:
    """File descriptors that keep their numbers in the spawned process that gets this object as an argument."""

    def __init__(self, *fds: int) -> None:
        self.fds = fds

    def __getstate__(self) -> dict[str, object]:
        for fd in self.fds:
            DupFd(fd)
        return {"fds": self.fds}


class TlsPair:
    """`cert` and `key`: paths that a worker can read, as long as the pair is not closed."""

    def __init__(self, cert: Path, key: Path) -> None:
        """Read and check the pair, through symlinks as they point now; raise StartRefused."""
        self._fds: list[int] = []
        try:
            self.cert, self.key = self._keep(cert), self._keep(key)
            # An empty password instead of none: OpenSSL would ask for it on the terminal and wait.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.cert, self.key, password="")
        except OSError as exc:
            self.close()
            raise StartRefused(_line(exc, cert, key)) from exc

    def _keep(self, path: Path) -> str:
        if sys.platform != "linux":
            return str(path.resolve(strict=True))
        data = path.read_bytes()
        fd = os.memfd_create(path.name)
        self._fds.append(fd)
        os.write(fd, data)
        return f"/proc/self/fd/{fd}"

    def kept_open(self) -> KeptOpen:
        """What a worker must be given so that the paths mean something there."""
        return KeptOpen(*self._fds)

    def close(self) -> None:
        """Forget the key; workers that have started keep theirs."""
        while self._fds:
            os.close(self._fds.pop())


def _line(exc: OSError, cert: Path, key: Path) -> str:
    if isinstance(exc, ssl.SSLError):
        return f"TLS: {cert} and {key} are not a certificate and its unencrypted key in PEM"
    return f"TLS: cannot read {exc.filename}: {exc.strerror}"
