"""The calls about enrolments without I/O: what they send, what they accept, what they repeat; and the QR code."""

from __future__ import annotations

import dataclasses
import json
import pprint
import re
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from typing import Any

import pytest
import segno

from sigil.device import Device
from sigil.protocol import messages
from sigil.sdk import (
    AnswerUnusable,
    Attestation,
    CertificateRefused,
    ChallengeStatus,
    ConfigurationError,
    Conflict,
    ConnectionFailed,
    Enrolment,
    EnrolmentStatus,
    Expired,
    InvalidRequest,
    MpaVote,
    NotFound,
    ResultTimeout,
    SigilError,
    WebhookEvent,
    WrongCode,
)
from sigil.sdk.enrolment.operations import Enrolments
from sigil.sdk.http.responses import parse_result
from sigil.sdk.http.retry import RetryPolicy
from sigil.sdk.http.sans_io import Failure, Operation, Outcome, Pause, Response, Send
from tests.sdk.conftest import Calls, MovingClock
from tests.sdk.faults import FaultServer, answer, cut, refuse
from tests.sdk.test_secrets import shown

ID = "0a1b2c3d-0000-4000-8000-000000000001"
TOKEN = "7ZK3M0QWX4TD"
URI = f"sigil:enrol?u=https%3A%2F%2Fauth.example.com&s={'q' * 42}A&t={TOKEN}"
WEB_URI = f"https://auth.example.com/device/#s={'q' * 42}A&t={TOKEN}"
DEVICE = Device.generate()
FIVE = ["🍎", "🐙", "🌵", "🚲", "🎈"]
CODE = "042137"


def begun_body(**members: Any) -> bytes:
    body = {"enrolment_id": ID, "token": TOKEN, "uri": URI, "expires_at": "2030-01-01T00:00:00Z"}
    return json.dumps(body | {"later": 1} | members).encode()


def status_body(status: str = "pending", **members: Any) -> bytes:
    body: dict[str, Any] = {
        "enrolment_id": ID,
        "status": status,
        "account": "zoë",
        "confirm": "code",
        "expires_at": "2030-01-01T00:00:00Z",
        "later": {},
    }
    if status in {"confirming", "enrolled"}:
        body |= {"fingerprint": DEVICE.fingerprint, "session_pictogram": FIVE, "session_pictogram_speakable": "apple"}
    if status == "enrolled":
        body |= {"device_public_key": DEVICE.wire_key, "enrolled_at": "2030-01-01T00:00:00Z"}
    body |= members
    return json.dumps({name: value for name, value in body.items() if value is not None}).encode()


def error_body(code: str, **details: Any) -> bytes:
    return json.dumps({"error": {"code": code, "message": "No.", "details": details}}).encode()


def response(status: int, body: bytes) -> Response:
    return Response(status, {}, body)


LOST, BUSY = Failure(ConnectionFailed, "lost"), response(503, error_body("OVERLOADED"))
WRONG = response(403, error_body("WRONG_CODE", attempts_left=2))
ENROLLED, CONFIRMING = response(200, status_body("enrolled")), response(200, status_body("confirming"))


class Server:
    """Performs an operation: gives it these outcomes one after the other, and keeps what it sent."""

    def __init__(self, *outcomes: Outcome) -> None:
        self.sent: list[Send] = []
        self._left = list(outcomes)
        self._clock = MovingClock()
        self.enrolments = Enrolments(RetryPolicy(5, 30.0), self._clock.as_clock())

    def run(self, operation: Operation[Any]) -> Any:
        outcome: Outcome | None = None
        while True:
            try:
                step = operation.send(outcome)
            except StopIteration as end:
                assert not self._left, "a response that was not requested"
                return end.value
            outcome = None
            if isinstance(step, Pause):
                self._clock.sleep(step.seconds)
            else:
                self.sent.append(step)
                outcome = self._left.pop(0)

    def begin(self, account: Any = "zoë", **given: Any) -> Enrolment:
        names = ("confirm", "expires_in_seconds", "replaces", "min_level", "idempotency_key")
        begun: Enrolment = self.run(self.enrolments.begin(account, **(dict.fromkeys(names) | given)))
        return begun

    def confirm(self, code: Any = CODE) -> EnrolmentStatus:
        status: EnrolmentStatus = self.run(self.enrolments.confirm(ID, code))
        return status

    @property
    def targets(self) -> list[str]:
        return [f"{sent.method} {sent.target}" for sent in self.sent]


def body_of(sent: Send) -> dict[str, Any]:
    assert sent.body is not None
    members: dict[str, Any] = json.loads(sent.body)
    return members


def begun() -> Enrolment:
    return parse_result(response(201, begun_body()), 201, Enrolment)


def test_begin_sends_what_is_given_and_keeps_one_idempotency_key_over_its_retries() -> None:
    server = Server(LOST, BUSY, response(201, begun_body()))
    enrolment = server.begin(replaces="old", min_level="hardware", expires_in_seconds=60)
    assert (enrolment.enrolment_id, enrolment.token, enrolment.uri) == (ID, TOKEN, URI)
    assert enrolment.typed_token == "7ZK3-M0QW-X4TD"
    assert body_of(server.sent[0]) == {
        "account": "zoë", "replaces": "old", "min_level": "hardware", "expires_in_seconds": 60,
    }  # fmt: skip
    assert server.targets == ["POST /enrolment"] * 3
    assert len({(sent.body, sent.headers["Idempotency-Key"]) for sent in server.sent}) == 1


def test_begin_with_a_key_of_ones_own_and_without_a_code() -> None:
    server = Server(response(201, begun_body()))
    server.begin(idempotency_key="user-7", confirm="none")
    assert server.sent[0].headers["Idempotency-Key"] == "user-7"
    assert body_of(server.sent[0]) == {"account": "zoë", "confirm": "none"}


@pytest.mark.parametrize(
    ("given", "path"),
    [({"account": b"zoe"}, "$.account"), ({"account": None}, "$.account"), ({"replaces": 7}, "$.replaces"),
     ({"min_level": 1}, "$.min_level"), ({"confirm": False}, "$.confirm"), ({"idempotency_key": "a b"}, "Idem")],
)  # fmt: skip
def test_begin_rejects_what_is_no_text_before_it_is_sent(given: dict[str, Any], path: str) -> None:
    server = Server()
    with pytest.raises(InvalidRequest) as refused:
        server.begin(**given)
    assert refused.value.status is None
    assert str(refused.value.path).startswith(path)
    assert server.sent == []


@pytest.mark.parametrize(
    "members",
    [
        {"token": TOKEN.lower()}, {"token": TOKEN[:-1]}, {"token": f"{TOKEN[:-1]}U"}, {"token": 7}, {"token": None},
        {"token": "7ZK3M0QWX4TE"}, {"uri": URI.replace("sigil:", "https:")}, {"uri": f"{URI}\n"}, {"uri": f'{URI}"'},
        {"uri": URI.replace("%3A", "<")}, {"uri": URI.replace("%3A", ":")},
        {"uri": URI.replace("q" * 42, "q" * 41)}, {"expires_at": "soon"},
        {"enrolment_id": None},
    ],
)  # fmt: skip
def test_a_token_or_link_of_another_form_is_unusable(members: dict[str, Any]) -> None:
    with pytest.raises(AnswerUnusable):
        Server(response(201, begun_body(**members))).begin()


def test_neither_token_nor_link_nor_code_is_printed() -> None:
    enrolment = begun()
    for text in (repr(enrolment), str(enrolment), pprint.pformat(enrolment)):
        assert TOKEN not in text
        assert "sigil:enrol" not in text


@pytest.mark.parametrize(
    "outcome", [LOST, WRONG, response(200, b"{}"), response(200, status_body("enrolled", enrolment_id="x"))]
)
def test_no_error_of_confirm_shows_the_code_even_with_local_variables(outcome: Outcome) -> None:
    server = Server(*[outcome] * 9)
    with pytest.raises(SigilError) as failed:
        server.run(server.enrolments.confirm(ID, CODE))
    assert CODE not in shown(failed.value)
    assert failed.value.__cause__ is None
    assert failed.value.__context__ is None


def test_both_clients_hide_the_code_and_have_every_method(faulty: FaultServer, enrolment: Calls) -> None:
    client: Any = enrolment
    faulty.script = [answer(201, begun_body())]
    assert client.begin("zoë").uri == URI
    faulty.script = [answer(200, status_body("confirming"))]
    assert client.get_status(ID).session_pictogram == tuple(FIVE)
    faulty.script = [answer(200, status_body("pending")), answer(200, status_body("confirming"))]
    assert client.await_result(ID, until="confirming").status == "confirming"
    faulty.script = [refuse(403, "WRONG_CODE")]
    with pytest.raises(WrongCode) as wrong:
        client.confirm(ID, CODE)
    assert CODE not in shown(wrong.value)
    faulty.script = [cut, answer(200, status_body("confirming")), answer(200, status_body("enrolled"))]
    assert client.confirm(ID, CODE).enrolled
    faulty.script = [answer(200, status_body("cancelled"))]
    assert client.cancel(ID).is_final
    assert [seen.path for seen in faulty.seen if seen.method == "DELETE"] == [f"/enrolment/{ID}"]


def test_a_status_has_the_members_of_the_body() -> None:
    attestation = {
        "kind": "android-key",
        "level": "hardware",
        "binding": "direct",
        "attested_at": "2029-01-01T00:00:00Z",
    }
    server = Server(response(200, status_body("enrolled", attestation=attestation, replaced="ab" * 32)))
    status = server.run(server.enrolments.status(ID.upper()))
    assert server.targets == [f"GET /enrolment/{ID}/status"]
    assert (status.enrolled, status.is_final, status.account) == (True, True, "zoë")
    assert (status.device_public_key, status.replaced) == (DEVICE.wire_key, "ab" * 32)
    assert status.attestation.level == "hardware"
    with pytest.raises(TypeError, match="enrolled"):
        bool(status)
    with pytest.raises(AttributeError):
        status.status = "failed"


@pytest.mark.parametrize(
    "body",
    [
        status_body("confirming", device_public_key=DEVICE.wire_key),
        status_body("pending", device_public_key=DEVICE.wire_key),
        status_body("enrolled", device_public_key=None),
        status_body("enrolled", fingerprint=None),
        status_body("enrolled", fingerprint=Device.generate().fingerprint),
        status_body("enrolled", device_public_key=Device.generate().wire_key),
        status_body("enrolled", device_public_key="AAAA"),
        status_body("confirming", session_pictogram=None),
        status_body("confirming", fingerprint=None),
        status_body("done"),
        status_body(confirm="maybe"),
        status_body(account=None),
        status_body(expires_at="2030-01-01T00:00:00"),
        status_body(attestation={"kind": "x", "level": "hardware", "binding": "direct"}),
        status_body(enrolment_id=ID.replace("1", "2")),
    ],
)  # fmt: skip
def test_a_status_that_the_server_must_never_send_is_unusable(body: bytes) -> None:
    """Above all a key before the code is confirmed, and a key that is not that of the fingerprint."""
    server = Server(response(200, body))
    with pytest.raises(AnswerUnusable):
        server.run(server.enrolments.status(ID))


@pytest.mark.parametrize("wrong", ["", "x", f"{ID}/..", f"{ID}\n", "../" + ID[3:], None, 7])
def test_a_malformed_id_is_not_found_and_nothing_is_sent(wrong: Any) -> None:
    server = Server()
    calls = server.enrolments
    given: list[Any] = [(calls.status,), (calls.cancel,), (calls.confirm, CODE), (calls.result, 0, "enrolled")]
    for call, *rest in given:
        with pytest.raises(NotFound, match="ENROLMENT_NOT_FOUND"):
            server.run(call(wrong, *rest))
    assert server.sent == []


def statuses(*names: str) -> Iterable[Response]:
    return [response(200, status_body(name)) for name in names]


@pytest.mark.parametrize(
    ("until", "names"),
    [
        ("confirming", ["pending", "claimed", "confirming"]), ("confirming", ["confirming"]),
        ("claimed", ["pending", "claimed"]), ("claimed", ["confirming"]), ("claimed", ["pending", "failed"]),
        ("confirming", ["pending", "enrolled"]), ("confirming", ["claimed", "expired"]),
        ("enrolled", ["pending", "confirming", "enrolled"]), ("enrolled", ["confirming", "failed"]),
        ("enrolled", ["cancelled"]),
    ],
)  # fmt: skip
def test_waiting_ends_at_its_state_or_a_final_one_and_names_the_known_state(until: Any, names: list[str]) -> None:
    server = Server(*statuses(*names))
    status = server.run(server.enrolments.result(ID, None, until))
    assert status.status == names[-1]
    queries = ["wait=0", *(f"wait=25&known={name}" for name in names[:-1])]
    assert server.targets == [f"GET /enrolment/{ID}/status?{query}" for query in queries]


def test_waiting_that_takes_too_long_is_a_result_timeout() -> None:
    server = Server(*statuses("claimed"))
    with pytest.raises(ResultTimeout) as late:
        server.run(server.enrolments.result(ID, 0, "confirming"))
    assert late.value.enrolment_id == ID
    assert isinstance(late.value.last, EnrolmentStatus)
    with pytest.raises(ConfigurationError, match="until"):
        server.run(server.enrolments.result(ID, 0, "done"))  # type: ignore[arg-type]


@pytest.mark.parametrize("typed", [CODE, " 042 137\n", "042-137", "0 4 2 1 3 7"])
def test_a_code_is_sent_as_six_digits(typed: str) -> None:
    server = Server(ENROLLED)
    assert server.confirm(typed).enrolled
    assert body_of(server.sent[0]) == {"code": CODE}
    assert server.targets == [f"POST /enrolment/{ID}/confirm"]


@pytest.mark.parametrize("typed", ["", "12345", "1234567", "12345x", "١٢٣٤٥٦", None, 42137, b"042137"])
def test_a_code_of_another_form_costs_no_attempt(typed: Any) -> None:
    server = Server()
    with pytest.raises(InvalidRequest, match="six digits") as refused:
        server.confirm(typed)
    assert server.sent == []
    assert "12345" not in shown(refused.value).replace("_CODE", "")


@pytest.mark.parametrize(("left", "known"), [(2, 2), (0, 0), (None, 0), ("2", 0), (-1, 0), (True, 0)])
def test_a_wrong_code_says_how_many_attempts_are_left_and_is_sent_once(left: Any, known: int) -> None:
    server = Server(response(403, error_body("WRONG_CODE", attempts_left=left)))
    with pytest.raises(WrongCode) as wrong:
        server.confirm()
    assert (wrong.value.attempts_left, wrong.value.code, wrong.value.status) == (known, "WRONG_CODE", 403)
    assert len(server.sent) == 1


CHECK, SEND = f"GET /enrolment/{ID}/status", f"POST /enrolment/{ID}/confirm"


@pytest.mark.parametrize("lost", [LOST, BUSY, response(502, b"")])
def test_a_lost_response_is_looked_up_before_the_code_is_sent_once_more(lost: Outcome) -> None:
    """The server counts a wrong code each time: five blind retries would end the enrolment for one typing error."""
    server = Server(lost, ENROLLED)
    assert server.confirm().enrolled
    assert server.targets == [SEND, CHECK]
    server = Server(lost, CONFIRMING, ENROLLED)
    assert server.confirm().enrolled
    assert server.targets == [SEND, CHECK, SEND]
    server = Server(lost, LOST, CONFIRMING, WRONG)
    with pytest.raises(WrongCode):
        server.confirm()
    assert server.targets == [SEND, CHECK, CHECK, SEND]
    server = Server(lost, CONFIRMING, LOST)
    with pytest.raises(ConnectionFailed):
        server.confirm()
    assert server.targets == [SEND, CHECK, SEND]


def test_a_lost_response_of_an_enrolment_that_has_ended_is_the_servers_error() -> None:
    closed = response(409, error_body("ENROLMENT_CLOSED", status="failed"))
    with pytest.raises(Conflict) as ended:
        Server(LOST, response(200, status_body("failed", reason="wrong_code")), closed).confirm()
    assert ended.value.details["status"] == "failed"


def test_a_code_is_never_sent_again_to_a_server_that_is_not_trusted() -> None:
    server = Server(Failure(CertificateRefused, "not trusted"))
    with pytest.raises(CertificateRefused):
        server.confirm()
    assert len(server.sent) == 1


# The QR code

SVG = "{http://www.w3.org/2000/svg}"


def drawn(svg: str) -> list[list[bool]]:
    """The modules that an SVG draws, with the light ones around them."""
    root = ET.fromstring(svg)  # noqa: S314 - our own
    size = int(root.attrib["viewBox"].split()[2])
    modules = [[False] * size for _ in range(size)]
    ground, path = root.findall(f"{SVG}path")
    assert ground.attrib == {"fill": "#fff", "d": f"M0 0h{size}v{size}H0z"}
    runs = re.findall(r"M(\d+) (\d+)h(\d+)v1H\1z", path.attrib["d"])
    assert "".join(f"M{x} {y}h{length}v1H{x}z" for x, y, length in runs) == path.attrib["d"]
    for x, y, length in runs:
        for at in range(int(x), int(x) + int(length)):
            modules[int(y)][at] = True
    return modules


def test_the_svg_draws_the_modules_of_the_link_with_the_light_zone_around_them() -> None:
    modules = drawn(begun().qr())
    expected = [
        [module == 1 for module in row] for row in segno.make(URI, error="m", micro=False).matrix_iter(border=4)
    ]
    assert modules == expected
    assert len(modules) == 41 + 2 * 4, "version 6"


def test_the_svg_is_safe_in_a_page_and_has_a_name_for_screen_readers() -> None:
    svg = begun().qr(title='Scan "<script>alert(1)</script>" & go')
    root = ET.fromstring(svg)  # noqa: S314 - our own
    assert root.tag == f"{SVG}svg"
    assert set(root.attrib) == {"role", "viewBox", "shape-rendering"}, "its size is that of its container"
    assert root.attrib["role"] == "img"
    assert [child.tag for child in root] == [f"{SVG}title", f"{SVG}path", f"{SVG}path"]
    assert root[0].text == 'Scan "<script>alert(1)</script>" & go'
    for unsafe in ("<script", "style", " id=", " on", "href", "<!", "<?"):
        assert unsafe not in svg
    assert TOKEN not in svg, "an image in a log or a screenshot tool has no readable token"
    assert svg.isprintable()


def test_the_terminals_text_sets_both_colours_and_names_the_typed_token_under_the_code() -> None:
    text = begun().qr("terminal")
    *lines, typed = text.splitlines()
    assert typed == "Or type 7ZK3-M0QW-X4TD"
    shown_lines = []
    for line in lines:
        found = re.fullmatch(r"\x1b\[38;5;16;48;5;231m([ ▀▄█]+)\x1b\[0m", line)
        assert found, "black on white in every theme, and reset at the end of the line"
        shown_lines.append(found[1])
    rows = [[letter in pair for letter in line] for line in shown_lines for pair in ("▀█", "▄█")]
    expected = [
        [module == 1 for module in row] for row in segno.make(URI, error="l", micro=False).matrix_iter(border=2)
    ]
    assert rows[: len(expected)] == expected
    assert len(lines) + 1 <= 23, "an 80 x 24 terminal shows all of it, and the cursor"
    assert max(map(len, shown_lines)) <= 80


def test_the_code_draws_the_web_link_where_there_is_one() -> None:
    both = parse_result(response(201, begun_body(web_uri=WEB_URI)), 201, Enrolment)
    assert both.web_uri == WEB_URI
    expected = [
        [module == 1 for module in row] for row in segno.make(WEB_URI, error="m", micro=False).matrix_iter(border=4)
    ]
    assert drawn(both.qr()) == drawn(both.qr(form="web")) == expected
    assert both.qr(form="device") == begun().qr() == begun().qr(form="device")
    assert both.qr("terminal") != begun().qr("terminal")
    assert TOKEN not in repr(both)


def test_a_form_that_the_enrolment_does_not_have_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="SIGIL_PUBLIC_URL"):
        begun().qr(form="web")
    with pytest.raises(ConfigurationError, match="form must be"):
        begun().qr(form="app")  # type: ignore[arg-type]


@pytest.mark.parametrize("web", [f"{WEB_URI}x", WEB_URI.replace("https://", "http://"), "javascript:alert(1)", ""])
def test_a_web_link_of_another_form_than_the_servers_is_an_error(web: str) -> None:
    """A page puts it into an element as it is."""
    with pytest.raises(AnswerUnusable):
        parse_result(response(201, begun_body(web_uri=web)), 201, Enrolment)


def test_without_segno_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "segno", None)
    for form in ("svg", "terminal"):
        with pytest.raises(ConfigurationError, match=r"pip install '\.\[qr\]'") as missing:
            begun().qr(form)  # type: ignore[arg-type]
        assert missing.value.__context__ is None
        assert TOKEN not in shown(missing.value)


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ((messages.enrolment.EnrolmentStatus,), EnrolmentStatus),
        ((messages.enrolment.EnrolmentBegun,), Enrolment),
        ((messages.attestation.AttestationSummary,), Attestation),
        ((messages.approvals.MpaVote,), MpaVote),
        ((messages.challenges.ChallengeStatus,), ChallengeStatus),
        ((messages.webhooks.EventBody, messages.webhooks.EnrolmentEventBody), WebhookEvent),
    ],
)
def test_every_member_that_the_server_sends_is_one_of_the_result(sent: tuple[Any, ...], read: Any) -> None:
    members = {name for kind in sent for name in kind.__struct_fields__}
    assert members - {field.name for field in dataclasses.fields(read)} == set()


def test_another_format_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="svg"):
        begun().qr("png")  # type: ignore[arg-type]


@pytest.mark.parametrize(("status", "code"), [(409, "ENROLMENT_CLOSED"), (410, "ENROLMENT_EXPIRED")])
def test_a_code_that_comes_too_late_is_a_conflict_and_is_not_sent_again(status: int, code: str) -> None:
    """A backend that handles the one handles the other, which comes in the second before the server notices the end."""
    server = Server(response(status, error_body(code)))
    with pytest.raises(Conflict) as late:
        server.confirm()
    assert (late.value.status, late.value.code, isinstance(late.value, Expired)) == (status, code, status == 410)
    assert len(server.sent) == 1
