"""`sigil doctor`: the certificate that the running server shows."""

from __future__ import annotations

import ssl
from pathlib import Path

from tests.doctor.examination import examine
from tests.doctor.peers import hangs, peer
from tests.preflight.test_checks import write_pair
from tests.support.live import LiveServer


class _Server(LiveServer):
    """Its certificate is examined here, and not verified."""

    def tls(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context


def _serving(pair: dict[str, str]) -> _Server:
    server = _Server(workers=1, TLS_AUTO_GENERATE="false", SIGIL_PUBLIC_URL="https://sigil.example.com", **pair)
    server.certificate = Path(pair["TLS_CERT_PATH"])
    return server


def test_a_certificate_that_suits_clients_is_ok(tmp_path: Path) -> None:
    with _serving(write_pair(tmp_path, "sigil.example.com", days=90)) as server:
        assert examine(server.environ).states("certificate") == {"ok"}


def test_a_self_signed_one_does_not_suit_the_web_app_and_an_ip_address_has_none() -> None:
    with _Server(workers=1, SIGIL_PUBLIC_URL="https://localhost") as server:
        found = examine(server.environ).the("certificate")
        assert (found.state, "web app at https://localhost/device/" in found.text) == ("open", True)
        off = examine(server.environ, SIGIL_DEVICE_APP="off")
        assert off.states("certificate") == {"ok"}
        by_address = examine(server.environ, SIGIL_PUBLIC_URL="https://127.0.0.1").findings["settings"]
        assert [found.text for found in by_address if found.text.startswith("SIGIL_DEVICE_APP: on")]


def test_an_operators_own_self_signed_one_does_not_suit_the_web_app_either(tmp_path: Path) -> None:
    with _serving(write_pair(tmp_path, "sigil.example.com", days=90, issuer="leaf")) as server:
        found = examine(server.environ).the("certificate")
        assert (found.state, "is self-signed" in found.text) == ("open", True)


def test_a_certificate_that_ends_soon_or_has_ended_is_named(tmp_path: Path) -> None:
    for number, (days, text) in enumerate(((5.0, "in less than 14 days"), (-1.0, "expired on"))):
        folder = tmp_path / str(number)
        folder.mkdir()
        with _serving(write_pair(folder, "sigil.example.com", days=days, begins=-90)) as server:
            found = examine(server.environ)
        assert found.failed == {"certificate"}
        assert text in found.the("certificate").text
        assert "SIGHUP" in found.the("certificate").next_step


def test_a_certificate_for_another_host_is_named(tmp_path: Path) -> None:
    with _serving(write_pair(tmp_path, "other.example.com")) as server:
        found = examine(server.environ)
    assert "is not for sigil.example.com" in found.the("certificate").text


def test_a_renewed_file_that_waits_for_its_reload_is_named(tmp_path: Path) -> None:
    with _serving(write_pair(tmp_path, "sigil.example.com")) as server:
        write_pair(tmp_path, "sigil.example.com")
        found = examine(server.environ)
    assert found.the("certificate").state == "open"
    assert "SIGHUP" in found.the("certificate").next_step


def test_while_the_server_is_down_the_file_is_examined(tmp_path: Path) -> None:
    server = _serving(write_pair(tmp_path, "sigil.example.com", days=-1, begins=-90))
    try:
        found = examine(server.environ)
    finally:
        server.__exit__(None, None, None)
    assert {"server", "certificate"} <= found.failed
    assert "expired on" in found.the("certificate").text


def test_behind_a_proxy_the_certificate_of_the_public_address_is_examined(tmp_path: Path) -> None:
    folders = [tmp_path / "server", tmp_path / "proxy"]
    for folder in folders:
        folder.mkdir()
    own = write_pair(folders[0], "localhost")
    proxy = write_pair(folders[1], "localhost", issuer="leaf", days=5)
    cert = Path(proxy["TLS_CERT_PATH"])
    with _serving(own) as server, peer(hangs, (cert, Path(proxy["TLS_KEY_PATH"]))) as port:
        environ = {**server.environ, "TRUSTED_PROXY_IP": "192.0.2.1", "SIGIL_PUBLIC_URL": f"https://localhost:{port}"}
        assert "self-signed" in examine(environ).the("certificate").text
        assert "in less than 14 days" in examine(environ, SSL_CERT_FILE=str(cert)).the("certificate").text
