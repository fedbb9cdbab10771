"""The server's identity: /info, and its derivation from the mnemonic."""

from __future__ import annotations

import rfc8785

from .integrator import Integrator, assert_ok
from .server import Server
from .wire import SERVER_KEYS, SUITES, fingerprint_of, pictogram_of, unb64, verifies


def test_health_is_healthy_and_operational_with_a_version(server: Server) -> None:
    body = assert_ok(server.http.get("/health"))
    assert body["status"] == "healthy"
    assert body["mode"] == "operational"
    assert body["version"]
    assert set(body) == {"status", "mode", "version"}


def test_info_has_exactly_the_documented_members(server: Server) -> None:
    info = assert_ok(server.http.get("/info"))
    assert set(info) - {"relay_url"} == {
        "server_id",
        "server_name",
        "server_public_key",
        "server_public_keys",
        "keys_signature",
        "server_pictogram",
        "server_pictogram_speakable",
        "version",
        "mode",
        "features",
    }
    assert info["server_name"] == "Sigil"
    assert info["mode"] == "operational"
    assert info["version"] == assert_ok(server.http.get("/health"))["version"]


def test_info_without_a_public_relay_has_no_relay_url(server: Server) -> None:
    assert assert_ok(server.http.get("/info")).get("relay_url") is None


def test_features_are_four_booleans(server: Server) -> None:
    features = assert_ok(server.http.get("/info"))["features"]
    assert set(features) == {"mpa", "webhooks", "secure_decrypt", "mnemonic_generation"}
    assert all(isinstance(value, bool) for value in features.values())


def test_keys_and_server_id_are_derived_from_the_mnemonic(server: Server) -> None:
    info = assert_ok(server.http.get("/info"))
    assert info["server_public_keys"] == server.identity.public_keys
    assert info["server_public_key"] == info["server_public_keys"]["ES256"]
    assert info["server_id"] == server.identity.server_id
    assert info["server_id"] == fingerprint_of(unb64(info["server_public_key"]))


def test_pictogram_is_that_of_the_server_id(server: Server) -> None:
    info = assert_ok(server.http.get("/info"))
    assert (info["server_pictogram"], info["server_pictogram_speakable"]) == pictogram_of(info["server_id"])


def test_keys_signature_verifies_and_is_deterministic(server: Server) -> None:
    info = assert_ok(server.http.get("/info"))
    message = SERVER_KEYS + rfc8785.dumps(info["server_public_keys"])
    assert verifies(unb64(info["server_public_key"]), message, unb64(info["keys_signature"]))
    assert info["keys_signature"] == server.identity.signature("ES256", message)


def test_servers_with_different_mnemonics_share_no_key(server: Server, public_server: Server) -> None:
    ours, theirs = (assert_ok(one.http.get("/info")) for one in (server, public_server))
    assert ours["server_id"] != theirs["server_id"]
    assert all(ours["server_public_keys"][suite] != theirs["server_public_keys"][suite] for suite in SUITES)


def test_a_server_in_init_mode_with_a_mnemonic_is_operational(public_server: Server) -> None:
    assert assert_ok(public_server.http.get("/health"))["mode"] == "operational"


def test_info_has_the_configured_server_name(public_server: Server) -> None:
    assert assert_ok(public_server.http.get("/info"))["server_name"] == "Ünïcode & Söhne"


def test_open_endpoints_ignore_a_wrong_api_key(server: Server) -> None:
    caller = Integrator(server, "sgk_test_wrong")
    assert server.http.get("/health", headers=caller.headers).status_code == 200
    assert server.http.get("/info", headers=caller.headers).status_code == 200
