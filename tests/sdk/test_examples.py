"""The examples of docs/sdk.md, run against a real server with a device that answers."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from sigil.device import Device
from sigil.device.client import DeviceClient
from sigil.device.pin import verify_info
from sigil.device.tls import TlsTrust
from sigil.device.wire import ServerConnection
from tests.live import LiveServer

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"


class Answer(NamedTuple):
    status: int
    body: dict[str, Any]


Call = Callable[..., Answer]


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@contextmanager
def _falcon(module: ModuleType) -> Iterator[Call]:
    testing = pytest.importorskip("falcon.testing")
    client = testing.TestClient(module.create_app())

    def call(method: str, path: str, json: Any = None, user: str = "zoe") -> Answer:
        result = client.simulate_request(method, path, json=json, headers={"X-User": user})
        return Answer(result.status_code, result.json or {})

    yield call


@contextmanager
def _fastapi(module: ModuleType) -> Iterator[Call]:
    testing = pytest.importorskip("fastapi.testclient")
    with testing.TestClient(module.app) as client:

        def call(method: str, path: str, json: Any = None, user: str = "zoe") -> Answer:
            result = client.request(method, path, json=json, headers={"X-User": user})
            return Answer(result.status_code, result.json())

        yield call


@contextmanager
def _django(module: ModuleType) -> Iterator[Call]:
    testing = pytest.importorskip("django.test")
    client = testing.Client()

    def call(method: str, path: str, json: Any = None, user: str = "zoe") -> Answer:
        options = {"headers": {"X-User": user}}
        send = client.get if method == "GET" else client.post
        result = send(path, json, "application/json", **options) if json else send(path, **options)
        return Answer(result.status_code, result.json() if result.get("Content-Type", "").endswith("json") else {})

    yield call
    module.sigil().close()
    module.sigil.cache_clear()


OPEN = {"falcon": _falcon, "fastapi": _fastapi, "django": _django}


@pytest.fixture(params=OPEN)
def example(request: pytest.FixtureRequest, server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module of an example and a way to call its application."""
    pytest.importorskip(request.param, reason=f"{request.param} is not installed")
    monkeypatch.setenv("SIGIL_API_KEY", server.api_key)
    monkeypatch.setenv("SIGIL_SERVICE_URL", server.url)
    monkeypatch.setenv("SIGIL_CA_FILE", str(server.certificate))
    name = f"{request.param}_view"
    module = sys.modules.get(name) or _module(name)
    with OPEN[request.param](module) as call:
        yield module, call


def _approve(server: LiveServer, device: Device, challenge_id: str, match_code: str) -> None:
    trust = TlsTrust(ca_pem=server.certificate.read_text())
    with ServerConnection(server.url, trust) as connection:
        pin = verify_info(connection.info(), server.url, pin=server.identity.server_id, tls=trust)
        person = DeviceClient(device, pin, connection)
        person.approve(person.inbox().find(challenge_id), match_code)


def test_a_transfer_is_done_once_its_device_approves(server: LiveServer, example: Any) -> None:
    module, call = example
    device = Device.generate()
    module.DEVICES["zoe"] = device.wire_key
    asked = call("POST", "/transfers", {"to": "Zoë", "amount": 12})
    assert asked.status == 202, asked
    _approve(server, device, asked.body["id"], asked.body["match_code"])
    assert call("GET", f"/transfers/{asked.body['id']}") == Answer(200, {"state": "done"})
    assert call("GET", f"/transfers/{asked.body['id']}", user="mallory").status == 404


def test_a_transfer_that_is_cancelled_is_refused(server: LiveServer, example: Any) -> None:
    module, call = example
    module.DEVICES["zoe"] = Device.generate().wire_key
    asked = call("POST", "/transfers", {"to": "Zoë", "amount": 12})
    with server.authorised() as http:
        http.delete(f"/v1/auth/challenge/{asked.body['id']}")
    assert call("GET", f"/transfers/{asked.body['id']}").body == {"state": "refused"}


def test_a_device_with_too_much_pending_is_told_to_wait(example: Any) -> None:
    module, call = example
    module.DEVICES["zoe"] = Device.generate().wire_key
    asked = [call("POST", "/transfers", {"to": "Zoë", "amount": 12}).status for _ in range(6)]
    assert asked == [202] * 5 + [429]
