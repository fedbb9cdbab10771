"""The web app of devices: where it is served, its closed list of files, and their headers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import falcon.testing
import pytest

from sigil.app.operational import Snapshot, build
from sigil.app.services import Dependencies
from sigil.app.state import KINDS
from sigil.attestation.policy import AttestationPolicy
from sigil.config.settings import Config
from sigil.resources import device_app
from sigil.resources.pages import PageFiles
from sigil.serving.process.lifecycle import WorkerLifecycle
from sigil.sessions.long_polls import LongPolls
from sigil.store.memory import MemoryStore
from sigil.telemetry.null_metrics import NullMetrics
from tests.support.services import SECRETS, Clock

PUBLIC_URL = "https://sigil.example.com"
BROWSER = {"Accept": "text/html"}
CONFIG = Config(public_url=PUBLIC_URL, relay_url="", server_name='A "Sign-in" <Server>')


async def get(path: str, config: Config = CONFIG, method: str = "GET") -> Any:
    store = MemoryStore(kinds=KINDS, clock=Clock())
    parts = Dependencies(store=store, long_polls=LongPolls(), metrics=NullMetrics())
    app = build(Snapshot(config, SECRETS), parts, WorkerLifecycle(0, 1))
    async with falcon.testing.ASGIConductor(app) as conductor:
        return await conductor.simulate_request(method, path, headers=BROWSER)


def policy(answer: Any) -> dict[str, str]:
    return dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_page_has_its_headers(method: str) -> None:
    answer = await get("/device/", method=method)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["permissions-policy"] == (
        "camera=(self), publickey-credentials-get=(self), publickey-credentials-create=(self)"
    )
    assert policy(answer) == {
        **dict.fromkeys(("default-src", "form-action", "base-uri", "frame-ancestors"), "'none'"),
        **dict.fromkeys(("script-src", "style-src", "img-src", "connect-src", "worker-src", "manifest-src"), "'self'"),
        "require-trusted-types-for": "'script'",
        "trusted-types": "sigil-worker",
    }


async def test_the_page_shows_the_servers_name_as_text() -> None:
    assert "A &quot;Sign-in&quot; &lt;Server&gt;" in (await get("/device/")).text


async def test_the_page_may_connect_to_the_relay_where_devices_register() -> None:
    relay = replace(CONFIG, relay_url="http://relay:8080", relay_public_url="https://relay.example.com:9443")
    assert policy(await get("/device/", relay))["connect-src"] == "'self' https://relay.example.com:9443"
    off = replace(relay, relay_url="")
    assert policy(await get("/device/", off))["connect-src"] == "'self'"


async def test_the_address_without_a_slash_leads_to_the_scope_of_the_worker() -> None:
    answer = await get("/device")
    assert (answer.status_code, answer.headers["location"]) == (308, "/device/")
    assert answer.headers["cache-control"] == "no-store"


async def test_other_pages_keep_their_headers() -> None:
    answer = await get("/")
    assert (policy(answer)["trusted-types"], policy(answer)["connect-src"]) == ("'none'", "'self'")
    assert "permissions-policy" not in answer.headers


@pytest.mark.parametrize(
    "config",
    [
        replace(CONFIG, device_app=False),
        replace(CONFIG, public_url=None),
        replace(CONFIG, public_url="https://192.0.2.1"),
        replace(CONFIG, public_url="https://[2001:db8::1]:8443"),
        replace(CONFIG, public_url="http://127.0.0.1:8080"),
    ],
)
@pytest.mark.parametrize("path", ["/device", "/device/", "/device/worker.js"])
async def test_without_the_app_there_is_nothing(config: Config, path: str) -> None:
    answer = await get(path, config)
    assert answer.status_code == 404
    assert "There is nothing here" in answer.text
    features = (await get("/info", config)).json["features"]
    assert not features.get("device_app")
    assert not features.get("web_plain_keys")


@pytest.mark.parametrize("public_url", [PUBLIC_URL, "https://localhost:8443", "http://localhost:8080"])
async def test_info_reports_the_app(public_url: str) -> None:
    features = (await get("/info", replace(CONFIG, public_url=public_url))).json["features"]
    assert features["device_app"] is True
    assert "web_plain_keys" not in features
    plain = replace(CONFIG, public_url=public_url, web_plain_keys=True)
    assert (await get("/info", plain)).json["features"]["web_plain_keys"] is True


async def test_info_reports_to_the_page_that_attestation_is_required_before_it_makes_a_key() -> None:
    required = AttestationPolicy(kinds=frozenset({"yubikey-piv"}), required=True)
    info = (await get("/info", replace(CONFIG, attestation=required))).json
    assert info["features"]["device_app"] is True
    assert info["attestation"] == {"kinds": ["yubikey-piv"], "required": True}


@pytest.mark.parametrize("path", ["index.html", "app.js", "icons/icon-192.png", "worker.js/", "..%2fworker.js", "%2e"])
async def test_nothing_outside_of_the_list_is_served(path: str) -> None:
    assert (await get(f"/device/{path}")).status_code == 404


async def test_worker_manifest_and_icons_are_served_below_the_page() -> None:
    pages = PageFiles(
        {
            "device/worker.js": ("text/javascript; charset=utf-8", b"worker"),
            "device/manifest.webmanifest": ("application/manifest+json", b'{"name": "{{server_name}}"}'),
            "device/icons/icon-192.png": ("image/png", b"png"),
            "device/icons/other.png": ("image/png", b"png"),
            "device/app.js": ("text/javascript; charset=utf-8", b"app"),
        },
        {"device/index.html": "{{server_name}}"},
    )
    app = falcon.asgi.App()
    device_app.add_routes(app, pages, server_name='"x"', version="1.0.0", relay_origin=None)
    async with falcon.testing.ASGIConductor(app) as conductor:
        worker = await conductor.simulate_get("/device/worker.js")
        assert (worker.text, worker.headers["content-type"]) == ("worker", "text/javascript; charset=utf-8")
        # A worker has the policy of its own file: it fetches from the relay, too.
        assert policy(worker) == policy(await conductor.simulate_get("/device/"))
        manifest = await conductor.simulate_get("/device/manifest.webmanifest")
        assert (manifest.json, manifest.headers["content-type"]) == ({"name": '"x"'}, "application/manifest+json")
        icon = await conductor.simulate_get("/device/icon-192.png")
        assert (icon.content, icon.headers["content-type"]) == (b"png", "image/png")
        for other in ("other.png", "app.js", "icons/icon-192.png"):
            assert (await conductor.simulate_get(f"/device/{other}")).status_code == 404
