"""What everybody sees of a certificate in the handshake, in words for a page."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from sigil.serving.bounded import files
from sigil.serving.tls.issuing import is_self_signed

_MAX_BYTES = 64 * 1024


@dataclass(frozen=True)
class CertificateFacts:
    """`self_signed`: clients trust it only if they are given it."""

    self_signed: bool
    begins: datetime.datetime
    ends: datetime.datetime

    @classmethod
    def read(cls, path: Path) -> CertificateFacts | None:
        """Of the first certificate in the file; None if it cannot be read: the server serves a copy in memory."""
        try:
            leaf = x509.load_pem_x509_certificates(files.read(path, _MAX_BYTES, pipe_seconds=0).data)[0]
            self_signed = is_self_signed(leaf)
        except (OSError, ValueError, UnsupportedAlgorithm):
            return None
        return cls(self_signed, leaf.not_valid_before_utc, leaf.not_valid_after_utc)

    def fault(self, now: float) -> str | None:
        """Why clients reject it at that time (Unix seconds), in one sentence; None if its dates are right."""
        moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
        if moment >= self.ends:
            return f"Expired on {self._date(self.ends)}: clients reject it"
        if moment < self.begins:
            return f"Not valid before {self._date(self.begins)}: clients reject it"
        return None

    @property
    def summary(self) -> str:
        kind = "Self-signed: devices and backends need a copy of it;" if self.self_signed else "Issued by an authority,"
        return f"{kind} valid until {self._date(self.ends)}"

    @staticmethod
    def _date(moment: datetime.datetime) -> str:
        # Not broken over two lines.
        return f"{moment.day}\u00a0{moment:%B}\u00a0{moment.year}"
