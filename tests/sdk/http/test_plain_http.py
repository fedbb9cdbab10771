"""http:// in the address of a server that uses TLS."""

from __future__ import annotations

from pathlib import Path

import pytest

from sigil.sdk import SigilAuth
from sigil.sdk.errors import ConnectionFailed
from tests.device.tls import tls_server


def test_http_in_place_of_https_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGIL_API_KEY", "sgk_test_" + "a" * 64)
    with (
        tls_server(tmp_path) as tls,
        SigilAuth(service_url="http://localhost:" + tls.url.rpartition(":")[2]) as sigil,
        pytest.raises(ConnectionFailed, match="write https:// in place of http://"),
    ):
        sigil.auth.get_status("00000000-0000-4000-8000-000000000000")
