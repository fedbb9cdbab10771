"""OpenSSL's variables for trusted certificate authorities."""

from __future__ import annotations

import os


def drop_empty_certificate_variables() -> None:
    """OpenSSL takes an empty variable for a file without certificates: every verification would fail."""
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        if not os.environ.get(name, "unset").strip():
            del os.environ[name]
