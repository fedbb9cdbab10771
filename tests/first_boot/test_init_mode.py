"""A server that has no identity yet: what it tells, what it refuses, whom it listens to."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from sigil import __version__
from sigil.resources.openapi import document
from tests.first_boot.newborn import WORDS, Newborn, identity_of, refused

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
API = [path for path in document.paths() if not path.startswith("/init/") and path not in {"/health", "/info"}]
FRAMING = {
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


def test_health_and_info_say_that_it_waits(newborn: Newborn) -> None:
    health = newborn.get("/health")
    assert (health.status_code, health.json()) == (
        200,
        {"status": "initializing", "mode": "init", "version": __version__},
    )
    assert newborn.get("/info").json() == {"mode": "init", "version": __version__, "server_name": "Söhne & <Co>"}


@pytest.mark.parametrize("path", API)
def test_every_other_endpoint_is_not_initialized(newborn: Newborn, path: str) -> None:
    path = path.replace("{challenge_id}", "00000000-0000-4000-8000-000000000000")
    with newborn.client() as client:
        client.event_hooks = {}
        for method in ("GET", "POST", "DELETE"):
            answer = client.request(method, path, headers={"Authorization": "Bearer x"})
            refused(answer, 503, "NOT_INITIALIZED")
            assert int(answer.headers["retry-after"]) > 0


def test_keys_are_not_made_before_there_is_an_identity(newborn: Newborn) -> None:
    refused(newborn.post("/init/api-keys", token="x"), 503, "NOT_INITIALIZED")


@pytest.mark.parametrize("path", ["/", "/login", "/init/", "/init/unknown", "/a/b/c?d=e"])
def test_pages_lead_to_the_wizard(newborn: Newborn, path: str) -> None:
    answer = newborn.get(path, **BROWSER)
    assert (answer.status_code, answer.headers["location"]) == (302, "/init")


def test_a_program_is_told_that_there_is_nothing(newborn: Newborn) -> None:
    refused(newborn.get("/login"), 404, "NOT_FOUND")
    refused(newborn.post("/login"), 404, "NOT_FOUND")


@pytest.mark.parametrize("path", ["/init", "/", "/assets/favicon.svg", "/favicon.ico"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_pages_cannot_be_framed_cached_or_filled_from_elsewhere(newborn: Newborn, path: str, method: str) -> None:
    with newborn.client() as client:
        answer = client.request(method, path, headers=BROWSER)
    assert answer.headers.items() >= FRAMING.items()
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert {policy[kind] for kind in ("script-src", "style-src", "img-src", "connect-src")} == {"'self'"}
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_the_page_is_html_and_its_parts_are_what_they_say(newborn: Newborn) -> None:
    page = newborn.get("/init", **BROWSER)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.text.startswith("<!doctype html>")
    assert newborn.get("/favicon.ico").headers["content-type"] == "image/svg+xml"
    assert newborn.get("/assets/words.txt").text.split() == openapi_words()


def openapi_words() -> list[str]:
    from mnemonic import Mnemonic

    return list(Mnemonic("english").wordlist)


@pytest.mark.parametrize(
    "name", ["init.html", "home.html", "../pages/init.html", "..%2f__init__.py", "%2e%2e/app.py", ".", "", "words"]
)
def test_nothing_outside_of_the_list_of_assets_is_served(newborn: Newborn, name: str) -> None:
    assert newborn.get(f"/assets/{name}").status_code == 404


def test_it_tells_the_page_what_to_ask_for(newborn: Newborn) -> None:
    assert newborn.get("/init/state").json() == {
        "mode": "init",
        "token_required": False,
        "restore_only": None,
        "server_name": "Söhne & <Co>",
        "base_url": newborn.url,
    }


def test_new_words_are_good_and_never_the_same(newborn: Newborn) -> None:
    first, second = (newborn.post("/init/words") for _ in range(2))
    assert first.headers["cache-control"] == "no-store"
    assert len(first.json()["words"]) == 24
    assert first.json() != second.json()
    assert identity_of(" ".join(first.json()["words"])).server_id


@pytest.mark.parametrize("words", [WORDS, WORDS.upper(), f"\n  {WORDS.replace(' ', '   ')}\t\n"])
def test_words_in_any_case_and_spacing_show_their_identity(newborn: Newborn, words: str) -> None:
    identity = identity_of(WORDS)
    assert newborn.post("/init/check", {"words": words}).json() == {
        "identity": {
            "server_id": identity.server_id,
            "server_public_key": identity.server_public_keys["ES256"],
            "server_pictogram": identity.pictogram,
            "server_pictogram_speakable": identity.pictogram_speakable,
        }
    }


SPANISH = "ábaco abdomen abeja abierto abogado abono aborto abrazo abrir abuelo abuso acabar " * 2
WRONG: dict[str, tuple[str, dict[str, Any]]] = {
    "none": ("", {"count": 0, "unknown": [], "likely": []}),
    "23 words": (WORDS.rpartition(" ")[0], {"count": 23, "unknown": [], "likely": []}),
    "25 words": (f"{WORDS} zoo", {"count": 25, "unknown": [], "likely": []}),
    "words of another language": (SPANISH, {"count": 24, "unknown": list(range(1, 25)), "likely": []}),
    "a misspelt word": (WORDS.replace("nothing", "nothin"), {"count": 24, "unknown": [10], "likely": []}),
    "a word taken for its neighbour": (WORDS.replace("cost", "coast"), {"count": 24, "unknown": [], "likely": [23]}),
    "a word for quite another": (WORDS.replace("whale", "zebra"), {"count": 24, "unknown": [], "likely": []}),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_words_are_told_as_far_as_it_can_be_known(newborn: Newborn, case: str) -> None:
    words, told = WRONG[case]
    for path in ("/init/check", "/init/commit"):
        answer = newborn.post(path, {"words": words})
        assert refused(answer, 400, "INVALID_REQUEST") == {"path": "$.words", **told}
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
def test_a_body_of_another_form_names_its_fault(newborn: Newborn, body: bytes, path: str) -> None:
    with newborn.client() as client:
        answer = client.post("/init/commit", content=body, headers={"Content-Type": "application/json"})
    assert refused(answer, 400, "INVALID_REQUEST")["path"] == path


@pytest.mark.parametrize("path", ["/init/words", "/init/check", "/init/commit"])
def test_a_megabyte_is_refused(newborn: Newborn, path: str) -> None:
    body = json.dumps({"words": "zoo " * (1 << 18)}).encode()
    with newborn.client() as client:
        answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
    refused(answer, 413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
)
def test_what_a_form_of_another_site_can_send_is_refused(newborn: Newborn, kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    with newborn.client() as client:
        answer = client.post("/init/commit", content=json.dumps({"words": WORDS}), headers=headers)
    refused(answer, 415, "UNSUPPORTED_MEDIA_TYPE")


STRANGE: list[dict[str, str]] = [
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
]
OURS: list[dict[str, str]] = [
    {},
    {"Origin": "https://127.0.0.1:{port}", "Sec-Fetch-Site": "same-origin"},
    {"Host": "localhost:{port}", "Origin": "https://localhost:{port}"},
    {"Host": "LOCALHOST", "Origin": "https://localhost"},
    {"Host": "[::1]:{port}", "Sec-Fetch-Site": "none"},
    {"Host": "localhost:7777"},
]


def sent(newborn: Newborn, headers: dict[str, str], **options: Any) -> list[httpx.Response]:
    named = {name: value.format(port=newborn.port) for name, value in headers.items()}
    with newborn.client(**options) as client:
        return [
            client.get("/init/state", headers=named),
            *(client.post(path, json={"words": "x"}, headers=named) for path in ("/init/check", "/init/commit")),
            client.post("/init/words", json={}, headers=named),
        ]


@pytest.mark.parametrize("headers", STRANGE, ids=str)
def test_other_sites_and_names_from_a_strangers_dns_are_refused(newborn: Newborn, headers: dict[str, str]) -> None:
    for answer in sent(newborn, headers):
        refused(answer, 403, "ORIGIN_REFUSED")


@pytest.mark.parametrize("headers", OURS, ids=str)
def test_the_own_page_is_heard(newborn: Newborn, headers: dict[str, str]) -> None:
    assert [answer.status_code for answer in sent(newborn, headers)] == [200, 400, 400, 200]


def test_the_name_that_http_2_asks_for_counts_as_well(newborn: Newborn) -> None:
    over = {"http1": False, "http2": True}
    for answer in sent(newborn, {"Host": "evil.example"}, **over):
        assert answer.http_version == "HTTP/2"
        refused(answer, 403, "ORIGIN_REFUSED")
    assert sent(newborn, {"Host": "localhost"}, **over)[0].status_code == 200


def test_it_listens_on_loopback_and_so_asks_for_no_token_and_warns_of_nothing(newborn: Newborn) -> None:
    assert newborn.address() == f"https://localhost:{newborn.port}/init"
    assert "init_without_token" not in {line["event"] for line in newborn.log()}


def test_it_keeps_nothing_of_what_was_only_asked(newborn: Newborn) -> None:
    newborn.post("/init/check", {"words": WORDS})
    assert not [path for path in newborn.state.iterdir() if path.name.startswith("identity")]
    assert newborn.modes() == {"init"}
