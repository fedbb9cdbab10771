"""The unit of the results: one raw P-256 verification with `cryptography`, on this machine, now."""

from __future__ import annotations

import time
from collections.abc import Callable

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

_MESSAGE = bytes(80)
_ALGORITHM = ec.ECDSA(hashes.SHA256())


def verification() -> Callable[[], object]:
    """A function that verifies one valid signature with `cryptography` alone."""
    key = ec.generate_private_key(ec.SECP256R1())
    public, signature = key.public_key(), key.sign(_MESSAGE, _ALGORITHM)
    return lambda: public.verify(signature, _MESSAGE, _ALGORITHM)


class Calibration:
    """The best verification of a measurement in seconds, over all calls of `take`."""

    def __init__(self, verifications: int) -> None:
        self._verifications = verifications
        self._verify = verification()
        self.best = float("inf")

    def take(self) -> None:
        for _ in range(self._verifications):
            start = time.perf_counter()
            self._verify()
            self.best = min(self.best, time.perf_counter() - start)
