"""A server in init mode: its answers, its errors, and its origin check."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from sigil import __version__
from sigil.resources.openapi import document
from tests.first_boot.init_mode_server import WORDS, InitModeServer, identity_of, refused

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
API = [path for path in document.paths() if not path.startswith("/init/") and path not in {"/health", "/info"}]
FRAMING = {
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


def test_health_and_info_report_init_mode(init_mode_server: InitModeServer) -> None:
    health = init_mode_server.get("/health")
    assert (health.status_code, health.json()) == (
        200,
        {"status": "initializing", "mode": "init", "version": __version__},
    )
    assert init_mode_server.get("/info").json() == {
        "mode": "init",
        "version": __version__,
        "server_name": "Söhne & <Co>",
    }


@pytest.mark.parametrize("path", [path for path in API if path != "/metrics"])
def test_every_other_endpoint_is_not_initialized(init_mode_server: InitModeServer, path: str) -> None:
    path = path.replace("{challenge_id}", "00000000-0000-4000-8000-000000000000").replace("{request_id}", "order-7")
    with init_mode_server.client() as client:
        client.event_hooks = {}
        for method in ("GET", "POST", "DELETE"):
            answer = client.request(method, path, headers={"Authorization": "Bearer x"})
            refused(answer, 503, "NOT_INITIALIZED")
            assert int(answer.headers["retry-after"]) > 0


def test_no_keys_are_issued_before_the_commit(init_mode_server: InitModeServer) -> None:
    refused(init_mode_server.post("/init/api-keys", token="x"), 503, "NOT_INITIALIZED")


@pytest.mark.parametrize("path", ["/", "/login", "/init/", "/init/unknown", "/a/b/c?d=e"])
def test_pages_redirect_to_the_wizard(init_mode_server: InitModeServer, path: str) -> None:
    answer = init_mode_server.get(path, **BROWSER)
    assert (answer.status_code, answer.headers["location"]) == (302, "/init")


def test_unknown_paths_are_404_for_programs(init_mode_server: InitModeServer) -> None:
    refused(init_mode_server.get("/login"), 404, "NOT_FOUND")
    refused(init_mode_server.post("/login"), 404, "NOT_FOUND")


@pytest.mark.parametrize("path", ["/init", "/", "/assets/favicon.svg", "/favicon.ico"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_pages_cannot_be_framed_or_cached_and_load_only_from_this_server(
    init_mode_server: InitModeServer, path: str, method: str
) -> None:
    with init_mode_server.client() as client:
        answer = client.request(method, path, headers=BROWSER)
    assert answer.headers.items() >= FRAMING.items()
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert {policy[kind] for kind in ("script-src", "style-src", "img-src", "connect-src")} == {"'self'"}
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_the_page_and_its_assets_have_their_content_types(init_mode_server: InitModeServer) -> None:
    page = init_mode_server.get("/init", **BROWSER)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.text.startswith("<!doctype html>")
    assert init_mode_server.get("/favicon.ico").headers["content-type"] == "image/svg+xml"
    drawing = init_mode_server.get("/assets/pictograms/bell.svg")
    assert drawing.headers["content-type"] == "image/svg+xml"
    assert drawing.headers["cache-control"] == "public, max-age=86400"
    script = init_mode_server.get("/assets/wizard/steps/done.js")
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    assert script.headers["cache-control"] == "no-store"
    assert init_mode_server.get("/assets/words.txt").text.split() == openapi_words()


def openapi_words() -> list[str]:
    from mnemonic import Mnemonic

    return list(Mnemonic("english").wordlist)


@pytest.mark.parametrize(
    "name",
    [
        *["init.html", "home.html", "../pages/init.html", "..%2f__init__.py", "%2e%2e/app.py", ".", "", "words"],
        *["pictograms", "pictograms/", "pictograms/NOTICE", "pictograms/no.svg", "pictograms/..%2fstyle.css"],
        *["wizard", "wizard/steps", "wizard/steps/", "steps/done.js", "/wizard/wizard.js", "wizard//wizard.js"],
    ],
)
def test_nothing_outside_of_the_list_of_assets_is_served(init_mode_server: InitModeServer, name: str) -> None:
    assert init_mode_server.get(f"/assets/{name}").status_code == 404


def test_the_state_has_what_the_page_needs(init_mode_server: InitModeServer) -> None:
    assert init_mode_server.get("/init/state").json() == {
        "mode": "init",
        "token_required": False,
        "restore_only": None,
        "server_name": "Söhne & <Co>",
        "base_url": init_mode_server.url,
    }


def test_generated_mnemonics_are_valid_and_different(init_mode_server: InitModeServer) -> None:
    first, second = (init_mode_server.post("/init/words") for _ in range(2))
    assert first.headers["cache-control"] == "no-store"
    assert len(first.json()["words"]) == 24
    assert first.json() != second.json()
    assert identity_of(" ".join(first.json()["words"])).server_id


@pytest.mark.parametrize("words", [WORDS, WORDS.upper(), f"\n  {WORDS.replace(' ', '   ')}\t\n"])
def test_a_mnemonic_in_any_case_and_spacing_gives_its_identity(init_mode_server: InitModeServer, words: str) -> None:
    identity = identity_of(WORDS)
    assert init_mode_server.post("/init/check", {"words": words}).json() == {
        "identity": {
            "server_id": identity.server_id,
            "server_public_key": identity.server_public_keys["ES256"],
            "server_pictogram": identity.pictogram,
            "server_pictogram_speakable": identity.pictogram_speakable,
        }
    }


SPANISH = "ábaco abdomen abeja abierto abogado abono aborto abrazo abrir abuelo abuso acabar " * 2
WRONG: dict[str, tuple[str, dict[str, Any]]] = {
    "none": ("", {"count": 0, "unknown": []}),
    "23 words": (WORDS.rpartition(" ")[0], {"count": 23, "unknown": []}),
    "25 words": (f"{WORDS} zoo", {"count": 25, "unknown": []}),
    "words of another language": (SPANISH, {"count": 24, "unknown": list(range(1, 25))}),
    "a misspelt word": (WORDS.replace("nothing", "nothin"), {"count": 24, "unknown": [10]}),
    "a word taken for its neighbour": (WORDS.replace("cost", "coast"), {"count": 24, "unknown": []}),
    "a word for quite another": (WORDS.replace("whale", "zebra"), {"count": 24, "unknown": []}),
}


@pytest.mark.parametrize("case", WRONG)
def test_the_error_names_wrong_words_as_far_as_they_can_be_found(init_mode_server: InitModeServer, case: str) -> None:
    words, expected = WRONG[case]
    for path in ("/init/check", "/init/commit"):
        answer = init_mode_server.post(path, {"words": words})
        assert refused(answer, 400, "INVALID_REQUEST") == {"path": "$.words", **expected}
        message = answer.json()["error"]["message"]
        assert not [word for word in words.split() if len(word) > 5 and word in message]


BAD_BODIES: list[tuple[bytes, str]] = [
    (b"{}", "$.words"),
    (b'{"words": 7}', "$.words"),
    (b'{"words": ["zoo"]}', "$.words"),
    (b'{"words": null}', "$.words"),
    (b'{"words": "zoo", "more": 1}', "$.more"),
    (b'{"words": "\xff"}', "$"),
    (b'{"words": "zoo", "words": "zoo"}', "$"),
    (b"[]", "$"),
    (b"", "$"),
]


@pytest.mark.parametrize(("body", "path"), BAD_BODIES)
def test_the_error_of_a_malformed_body_names_the_path(init_mode_server: InitModeServer, body: bytes, path: str) -> None:
    with init_mode_server.client() as client:
        answer = client.post("/init/commit", content=body, headers={"Content-Type": "application/json"})
    assert refused(answer, 400, "INVALID_REQUEST")["path"] == path


@pytest.mark.parametrize("path", ["/init/words", "/init/check", "/init/commit"])
def test_a_body_of_a_megabyte_is_rejected(init_mode_server: InitModeServer, path: str) -> None:
    body = json.dumps({"words": "zoo " * (1 << 18)}).encode()
    with init_mode_server.client() as client:
        answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
    refused(answer, 413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
)
def test_the_content_types_of_html_forms_are_rejected(init_mode_server: InitModeServer, kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    with init_mode_server.client() as client:
        answer = client.post("/init/commit", content=json.dumps({"words": WORDS}), headers=headers)
    refused(answer, 415, "UNSUPPORTED_MEDIA_TYPE")


FOREIGN: list[dict[str, str]] = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:{port}"},
    {"Origin": "https://127.0.0.1"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Host": "evil.example:{port}"},
    {"Host": "evil.example", "Origin": "https://evil.example"},
    {"Host": "127.0.0.1.evil.example"},
    {"Host": "127.0.0.1@evil.example"},
    {"Host": "192.0.2.7"},
    {"X-Forwarded-For": "192.0.2.7"},
    {"Forwarded": "for=192.0.2.7"},
    {"X-Forwarded-Proto": "https"},
]
OURS: list[dict[str, str]] = [
    {},
    {"Origin": "https://127.0.0.1:{port}", "Sec-Fetch-Site": "same-origin"},
    {"Host": "localhost:{port}", "Origin": "https://localhost:{port}"},
    {"Host": "LOCALHOST", "Origin": "https://localhost"},
    {"Host": "[::1]:{port}", "Sec-Fetch-Site": "none"},
    {"Host": "localhost:7777"},
]


def sent(init_mode_server: InitModeServer, headers: dict[str, str], **options: Any) -> list[httpx.Response]:
    named = {name: value.format(port=init_mode_server.port) for name, value in headers.items()}
    with init_mode_server.client(**options) as client:
        return [
            client.get("/init/state", headers=named),
            *(client.post(path, json={"words": "x"}, headers=named) for path in ("/init/check", "/init/commit")),
            client.post("/init/words", json={}, headers=named),
        ]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_other_sites_and_foreign_host_names_are_rejected(
    init_mode_server: InitModeServer, headers: dict[str, str]
) -> None:
    for answer in sent(init_mode_server, headers):
        refused(answer, 403, "ORIGIN_REFUSED")


@pytest.mark.parametrize("headers", OURS, ids=str)
def test_requests_of_the_own_page_are_accepted(init_mode_server: InitModeServer, headers: dict[str, str]) -> None:
    assert [answer.status_code for answer in sent(init_mode_server, headers)] == [200, 400, 400, 200]


def test_the_host_is_also_checked_over_http_2(init_mode_server: InitModeServer) -> None:
    over = {"http1": False, "http2": True}
    for answer in sent(init_mode_server, {"Host": "evil.example"}, **over):
        assert answer.http_version == "HTTP/2"
        refused(answer, 403, "ORIGIN_REFUSED")
    assert sent(init_mode_server, {"Host": "localhost"}, **over)[0].status_code == 200


def test_without_a_token_the_log_warns(init_mode_server: InitModeServer) -> None:
    assert init_mode_server.address() == f"https://localhost:{init_mode_server.port}/init"
    assert "init_without_token" in {line["event"] for line in init_mode_server.log()}


def test_a_check_stores_nothing(init_mode_server: InitModeServer) -> None:
    init_mode_server.post("/init/check", {"words": WORDS})
    assert not [path for path in init_mode_server.state.iterdir() if path.name.startswith("identity")]
    assert init_mode_server.modes() == {"init"}
