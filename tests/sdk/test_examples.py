"""The examples of docs/sdk.md, run against a real server with a device that answers."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import httpx
import pytest

from sigil.device import Device
from sigil.device.client import DeviceClient
from sigil.device.http.connection import ServerConnection
from sigil.device.http.tls import TlsTrust
from sigil.device.server_pin import verify_info
from sigil.protocol.webhook import signed_headers
from sigil.sdk import Challenge
from tests.support.live import DEADLINE, LiveServer, wait_until
from tests.support.phone import Phone
from tests.support.ports import free_port

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"


class Answer(NamedTuple):
    status: int
    body: dict[str, Any]


Call = Callable[..., Answer]
Deliver = Callable[[bytes, dict[str, str]], int]
WEBHOOK = "/webhooks/sigil"
SECRET = "the webhook secret of the examples"


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@contextmanager
def _falcon(module: ModuleType) -> Iterator[tuple[Call, Deliver]]:
    testing = pytest.importorskip("falcon.testing")
    client = testing.TestClient(module.create_app())

    def call(method: str, path: str, json: Any = None, user: str = "zoe") -> Answer:
        result = client.simulate_request(method, path, json=json, headers={"X-User": user})
        return Answer(result.status_code, result.json or {})

    yield call, lambda body, headers: client.simulate_post(WEBHOOK, body=body, headers=headers).status_code


@contextmanager
def _fastapi(module: ModuleType) -> Iterator[tuple[Call, Deliver]]:
    testing = pytest.importorskip("fastapi.testclient")
    with testing.TestClient(module.app) as client:

        def call(method: str, path: str, json: Any = None, user: str = "zoe") -> Answer:
            result = client.request(method, path, json=json, headers={"X-User": user})
            return Answer(result.status_code, result.json())

        yield call, lambda body, headers: client.post(WEBHOOK, content=body, headers=headers).status_code


@contextmanager
def _django(module: ModuleType) -> Iterator[tuple[Call, Deliver]]:
    testing = pytest.importorskip("django.test")
    client = testing.Client()

    def call(method: str, path: str, json: Any = None, user: str = "zoe") -> Answer:
        options = {"headers": {"X-User": user}}
        send = client.get if method == "GET" else client.post
        result = send(path, json, "application/json", **options) if json is not None else send(path, **options)
        return Answer(result.status_code, result.json() if result.get("Content-Type", "").endswith("json") else {})

    def deliver(body: bytes, headers: dict[str, str]) -> int:
        status: int = client.post(WEBHOOK, body, "application/json", headers=headers).status_code
        return status

    yield call, deliver
    module.sigil().close()
    module.sigil.cache_clear()


OPEN = {"falcon": _falcon, "fastapi": _fastapi, "django": _django}


@pytest.fixture(params=OPEN)
def example(request: pytest.FixtureRequest, server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module of an example, a function that calls its application, and one that delivers an event to it."""
    pytest.importorskip(request.param, reason=f"{request.param} is not installed")
    monkeypatch.setenv("SIGIL_API_KEY", server.api_key)
    monkeypatch.setenv("SIGIL_SERVICE_URL", server.url)
    monkeypatch.setenv("SIGIL_CA_FILE", str(server.certificate))
    name = f"{request.param}_view"
    module = sys.modules.get(name) or _module(name)
    monkeypatch.setenv("WEBHOOK_SECRET", SECRET)
    with OPEN[request.param](module) as (call, deliver):
        yield module, call, deliver


def _approve(server: LiveServer, device: Device, challenge_id: str, match_code: str) -> None:
    trust = TlsTrust(ca_pem=server.certificate.read_text())
    with ServerConnection(server.url, trust) as connection:
        pin = verify_info(connection.info(), server.url, pin=server.identity.server_id, tls=trust)
        person = DeviceClient(device, pin, connection)
        person.approve(person.inbox().find(challenge_id), match_code)


def test_a_transfer_is_done_when_its_device_approves(server: LiveServer, example: Any) -> None:
    module, call, _ = example
    device = Device.generate()
    module.DEVICES["zoe"] = device.wire_key
    created = call("POST", "/transfers", {"to": "Zoë", "amount": 12})
    assert created.status == 202, created
    _approve(server, device, created.body["id"], created.body["match_code"])
    assert call("GET", f"/transfers/{created.body['id']}") == Answer(200, {"state": "done"})
    assert call("GET", f"/transfers/{created.body['id']}", user="mallory").status == 404


def test_a_transfer_that_is_cancelled_is_refused(server: LiveServer, example: Any) -> None:
    module, call, _ = example
    module.DEVICES["zoe"] = Device.generate().wire_key
    created = call("POST", "/transfers", {"to": "Zoë", "amount": 12})
    with server.authorised() as http:
        http.delete(f"/v1/auth/challenge/{created.body['id']}")
    assert call("GET", f"/transfers/{created.body['id']}").body == {"state": "refused"}


def test_a_device_with_too_many_pending_challenges_gets_429(example: Any) -> None:
    module, call, _ = example
    module.DEVICES["zoe"] = Device.generate().wire_key
    statuses = [call("POST", "/transfers", {"to": "Zoë", "amount": 12}).status for _ in range(6)]
    assert statuses == [202] * 5 + [429]


def _event(challenge_id: str, kind: str) -> bytes:
    return json.dumps(
        {
            "id": f"evt_{challenge_id}",
            "type": f"challenge.{kind}",
            "status": kind,
            "timestamp": "2026-04-24T10:32:15Z",
            "key_id": "0523fec9",
            "action_type": "payment",
            "challenge_id": challenge_id,
            "fingerprint": "b8" * 32,
        }
    ).encode()


@pytest.mark.parametrize(("kind", "state"), [("verified", "done"), ("rejected", "refused"), ("expired", "refused")])
def test_an_event_ends_a_transfer_and_a_forged_one_does_not(example: Any, kind: str, state: str) -> None:
    module, _, deliver = example
    number = str(uuid.uuid4())
    module.TRANSFERS[number] = {"user": "zoe", "wanted": {}, "state": "waiting"}
    body, now = _event(number, kind), int(time.time())
    forged = signed_headers(["another secret, just as long as it"], f"evt_{number}", now, body)
    assert deliver(body, forged) == 400
    assert deliver(body, {}) == 400
    assert module.TRANSFERS[number]["state"] == "waiting"
    headers = signed_headers([SECRET], f"evt_{number}", now, body)
    assert deliver(body.replace(b"payment", b"present"), headers) == 400
    for _ in range(2):
        assert deliver(body, headers) == 204
        assert module.TRANSFERS[number]["state"] == state


def test_an_event_of_another_challenge_is_accepted_and_ignored(example: Any) -> None:
    _, _, deliver = example
    body = _event(str(uuid.uuid4()), "verified")
    assert deliver(body, signed_headers([SECRET], json.loads(body)["id"], int(time.time()), body)) == 204


APPLICATIONS = {"falcon": "falcon_view:app", "fastapi": "fastapi_view:app", "django": "django_view:application"}


class Application:
    """An example as its first lines say it is run: in its folder, by granian, with the settings of .dev/env."""

    def __init__(self, framework: str, folder: Path, server: LiveServer, **changed: str) -> None:
        key = folder / "api_key"
        key.write_text(server.api_key + "\n")
        self.log = folder / "log"
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{free_port()}", timeout=DEADLINE, trust_env=False)
        self._command = [
            *(sys.executable, "-m", "granian", "--port", str(self.http.base_url.port)),
            *("--interface", "wsgi" if framework == "django" else "asgi", APPLICATIONS[framework]),
        ]
        self._environ = {
            "PATH": os.environ["PATH"],
            "SIGIL_SERVICE_URL": server.url,
            "SIGIL_CA_FILE": str(server.certificate),
            "SIGIL_API_KEY_FILE": str(key),
            **changed,
        }

    def __enter__(self) -> Application:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, cwd=EXAMPLES, env=self._environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        wait_until(self._answers, "the application")
        return self

    def _answers(self) -> bool:
        assert self._process.poll() is None, self.log.read_text()
        try:
            self.http.get("/")
        except httpx.HTTPError:
            return False
        return True

    def __exit__(self, *_: object) -> None:
        self.http.close()
        self._process.terminate()
        self._process.wait(DEADLINE)


class EnrolmentPage:
    """The page in one browser: its session, and what its script sends."""

    def __init__(self, http: httpx.Client, user: str) -> None:
        self._http = http
        page = http.get("/device", params={"user": user})
        assert page.status_code == 200
        token = re.search(r'<meta name="csrf" content="([^"]{32,})">', page.text)
        assert token is not None
        self._csrf = {"X-CSRFToken": token[1]}
        nonce = re.search(r'<script nonce="([^"]{16,})">', page.text)
        assert nonce is not None
        policy = page.headers["Content-Security-Policy"]
        assert f"script-src 'nonce-{nonce[1]}'" in policy
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert page.headers["Cache-Control"] == "no-store"

    def call(self, method: str, path: str = "", json: Any = None, *, csrf: bool = True) -> Answer:
        headers = self._csrf if csrf else {}
        answer = self._http.request(method, f"/device/enrolment{path}", json=json, headers=headers)
        is_json = answer.headers.get("Content-Type", "").startswith("application/json")
        return Answer(answer.status_code, answer.json() if is_json else {})


def _enrol(http: httpx.Client, phone: Phone, has_device: Callable[[], bool], status_of: Callable[[str], str]) -> None:
    """As a person does it, with typing errors. The key is stored at the end, and not before."""
    page = EnrolmentPage(http, "zoe")
    assert page.call("GET").status == 404, "no enrolment was begun"
    begun = page.call("POST")
    assert (begun.status, set(begun.body)) == (201, {"qr", "uri", "typed_token"})
    assert begun.body["qr"].startswith("<svg ")
    assert begun.body["uri"].endswith(begun.body["typed_token"].replace("-", ""))
    session = phone.scan(begun.body["uri"])
    assert phone.offer is not None
    assert phone.offer.account == "zoe"
    for shown in ("pending", "claimed"):
        state = page.call("GET", f"?shown={shown}")
        assert state == Answer(
            200, {"status": "confirming", "pictogram": session.pictogram, "names": session.speakable.split()}
        )
    assert page.call("POST", "/code", {"code": "12345"}).status == 400
    wrong = page.call("POST", "/code", {"code": f"{(int(session.code) + 1) % 10**6:06}"})
    assert (wrong.status, "Attempts left: 2" in wrong.body["error"]) == (403, True)
    assert page.call("POST", "/code", {"code": session.code}, csrf=False).status == 403
    with httpx.Client(base_url=http.base_url, trust_env=False, timeout=DEADLINE) as other_browser:
        assert other_browser.get("/device/enrolment").status_code in {400, 403}
        other = EnrolmentPage(other_browser, "zoe")
        assert other.call("POST", "/code", {"code": session.code}).status == 404, "the other browser's session"
    assert not has_device()
    done = page.call("POST", "/code", {"code": session.code})
    assert (done.status, done.body["status"]) == (200, "enrolled")
    assert has_device()
    assert page.call("GET", "?shown=confirming").body["status"] == "enrolled"
    assert page.call("DELETE").status == 409
    phone.scan(page.call("POST").body["uri"])
    earlier = phone.offer.enrolment_id
    again = phone.scan(page.call("POST").body["uri"])
    assert status_of(earlier) == "cancelled", "its phone can begin again"
    mallory = EnrolmentPage(http, "mallory")
    assert mallory.call("POST", "/code", {"code": again.code}).status == 404, "another user in the same browser"


@pytest.mark.parametrize("framework", APPLICATIONS)
def test_an_example_runs_unmodified(framework: str, server: LiveServer, tmp_path: Path) -> None:
    pytest.importorskip(framework)
    phone, zoe = Phone(server), {"X-User": "zoe"}
    device = phone.device
    with Application(framework, tmp_path, server) as application:
        http, transfer = application.http, {"to": "Zoë", "amount": 12}
        # 400: the device is there, and the transfer is not one.
        nothing: dict[str, Any] = {"to": "two\nlines", "amount": 1}
        with server.authorised() as of_server:
            _enrol(
                http,
                phone,
                lambda: http.post("/transfers", json=nothing, headers=zoe).status_code == 400,
                lambda enrolment_id: of_server.get(f"/enrolment/{enrolment_id}/status").json()["status"],
            )
        created = http.post("/transfers", json=transfer, headers=zoe)
        assert created.status_code == 202, (created.text, application.log.read_text())
        _approve(server, device, created.json()["id"], created.json()["match_code"])
        path = f"/transfers/{created.json()['id']}"
        state = wait_until(lambda: _ended_state(http.get(path, headers=zoe)), "the transfer's end")
        assert state == "done"


def _ended_state(response: httpx.Response) -> str | None:
    state: str = response.json()["state"]
    return None if state == "waiting" else state


@pytest.mark.parametrize("framework", APPLICATIONS)
def test_an_example_logs_the_reason_of_a_503(framework: str, server: LiveServer, tmp_path: Path) -> None:
    pytest.importorskip(framework)
    zoe = {"X-User": "zoe"}
    other = {"SIGIL_API_KEY": "sgk_test_" + "0" * 64, "SIGIL_API_KEY_FILE": ""}
    with Application(framework, tmp_path, server, **other) as application:
        http = application.http
        assert http.post("/transfers", json={"to": "Zoë", "amount": 12}, headers=zoe).status_code == 409
        begun = EnrolmentPage(http, "zoe").call("POST")
        assert begun == Answer(503, {"error": "Approval is not possible now."})
        assert http.post(WEBHOOK, content=b"{}").status_code == 503
        for reason in ("The server does not accept this API key", "WEBHOOK_SECRET"):
            wait_until(lambda reason=reason: reason in application.log.read_text(), reason)  # type: ignore[misc]


@pytest.fixture(scope="module")
def revoking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LiveServer, Path]]:
    """A server, and its list of revoked devices."""
    revoked = tmp_path_factory.mktemp("revoked") / "devices"
    revoked.write_text("")
    with LiveServer(workers=1, SIGIL_RATE_LIMIT="off", SIGIL_REVOKED_DEVICES_FILE=str(revoked)) as running:
        yield running, revoked


def _reloads(server: LiveServer) -> int:
    return sum(line["event"] == "reload_finished" for line in server.log())


@pytest.mark.parametrize("framework", APPLICATIONS)
def test_a_phone_that_was_revoked_before_its_code_came_is_refused_and_not_a_fault_of_the_service(
    framework: str, revoking: tuple[LiveServer, Path], tmp_path: Path
) -> None:
    pytest.importorskip(framework)
    server, revoked = revoking
    phone = Phone(server)
    with Application(framework, tmp_path, server) as application:
        page = EnrolmentPage(application.http, "zoe")
        session = phone.scan(page.call("POST").body["uri"])
        revoked.write_text(phone.device.fingerprint)
        reloads = _reloads(server)
        os.kill(server.pid, signal.SIGHUP)
        wait_until(lambda: _reloads(server) > reloads, "the end of the reload")
        refused = page.call("POST", "/code", {"code": session.code})
        assert refused == Answer(403, {"error": "This phone is not accepted: use another one."})
        wait_until(lambda: "revoked" in application.log.read_text(), "the reason for the operator")


@pytest.mark.parametrize(
    ("body", "user"),
    [
        ({"to": "Zoë"}, "zoe"),
        ({"to": 1, "amount": "x"}, "zoe"),
        ([], "zoe"),
        ({"to": "two\nlines", "amount": 1}, "zoe"),
    ],
)
def test_a_wrong_request_is_the_clients_error(example: Any, body: Any, user: str) -> None:
    module, call, _ = example
    module.DEVICES[user] = Device.generate().wire_key
    answer = call("POST", "/transfers", body, user)
    assert answer.status in {400, 422}, answer


def test_the_code_of_the_guide_enrols_a_device_and_asks_an_existing_one(
    server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGIL_API_KEY", server.api_key)
    monkeypatch.setenv("SIGIL_SERVICE_URL", server.url)
    monkeypatch.setenv("SIGIL_CA_FILE", str(server.certificate))
    guide = (EXAMPLES.parent / "enrolling.md").read_text(encoding="utf-8")
    whole, second = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(whole, "enrolling.md", "exec"), names)  # noqa: S102 - the code of our own document
    phone, user, session = Phone(server), SimpleNamespace(email="zoe@example.com"), dict[str, str]()
    svg, uri, typed = names["begin"](user, session)
    assert svg.startswith("<svg ")
    assert uri.endswith(typed.replace("-", ""))
    shown = phone.scan(uri)
    assert names["poll"](session).session_pictogram == tuple(shown.pictogram)
    wrong = f"{(int(shown.code) + 1) % 10**6:06}"
    assert "2 attempts left" in names["confirm"](user, session, wrong)
    assert not hasattr(user, "device_public_key")
    names["confirm"](user, session, shown.code)
    assert user.device_public_key == phone.device.wire_key
    assert session == {}

    # A second phone, which the first one approves.
    names["begin"](user, session)
    earlier = session["enrolment_id"]
    _, uri, _ = names["begin"](user, session)
    assert names["sigil"].enrolment.get_status(earlier).status == "cancelled"
    other = Phone(server)
    names |= {"session": session, "user": user, "code": other.scan(uri).code}
    with names["sigil"] as client:
        monkeypatch.setattr(client.auth, "await_result", _approving(server, phone.device, client.auth.await_result))
        created = client.auth.create_challenge
        monkeypatch.setattr(client.auth, "create_challenge", lambda *args, **options: _kept(created(*args, **options)))
        exec(compile(second, "enrolling.md", "exec"), names)  # noqa: S102
        status = client.enrolment.get_status(session["enrolment_id"])
    assert (status.enrolled, status.device_public_key) == (True, other.device.wire_key)


_challenges: list[Challenge] = []


def _kept(challenge: Challenge) -> Challenge:
    _challenges.append(challenge)
    return challenge


def _approving(server: LiveServer, device: Device, wait: Callable[..., Any]) -> Callable[..., Any]:
    def approved(challenge_id: str) -> Any:
        number = _challenges.pop().match_code
        assert number is not None
        _approve(server, device, challenge_id, number)
        return wait(challenge_id)

    return approved
