"""`sigil device enrol` against a real server: by link, typed, replaced, attacked, interrupted and killed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from click.testing import CliRunner, Result

from sigil.device import Device
from sigil.device.commands import device
from sigil.device.commands.context import CommandContext
from sigil.device.enrolment.client import EnrolmentClient
from sigil.device.enrolment.steps import completion_body, parse_offer
from sigil.device.enrolment.target import parse_target
from sigil.device.http.connection import ServerConnection
from sigil.device.http.tls import TlsTrust
from sigil.device.keyring import Keyring
from sigil.device.server_pin import ServerPin
from sigil.device.test_phone.roots import TestRoot
from sigil.protocol.enrolment.link import Link, link_uri, parse_uri, typed_token
from tests.device.enrolment.people import Enrolling, Service
from tests.device.fake_server import FakeServer
from tests.support.live import LiveServer

KILLED = -9


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("attestation") / "root"
    TestRoot.create(directory)
    return directory


@pytest.fixture(scope="module")
def live(root: Path) -> Iterator[LiveServer]:
    """It accepts attestations, and requires none."""
    settings = {"SIGIL_ATTESTATION_ROOTS": str(root / "roots.pem"), "SIGIL_ATTESTATION_KINDS": "yubikey-piv"}
    with LiveServer(workers=1, **settings) as server:
        yield server


@pytest.fixture(scope="module")
def service(live: LiveServer) -> Iterator[Service]:
    with live.authorised() as backend:
        yield Service(live, backend)


def pin(server: LiveServer) -> ServerPin:
    return ServerPin(
        base_url=server.url,
        server_id=server.identity.server_id,
        server_public_keys=server.identity.server_public_keys,
        server_name="Sigil",
        tls=TlsTrust(ca_pem=server.certificate.read_text()),
    )


def enrolled(service: Service, home: Path, begun: dict[str, Any], *options: str, target: str = "") -> dict[str, Any]:
    """The device's last line, after the person entered the code."""
    running = Enrolling(home, service.server, target or begun["uri"], *options)
    finish(service, running, begun)
    assert running.end() == 0, running.errors
    last = running.printed[-1]
    assert last["event"] == "enrolled"
    return last


def finish(service: Service, running: Enrolling, begun: dict[str, Any]) -> None:
    for line in running.lines():
        if line["event"] == "code":
            page = service.status(begun)
            if page["status"] == "confirming":
                assert page["session_pictogram"] == line["session_pictogram"]
                assert service.confirm(begun, line["code"]).status_code == 200


def no_wait(seconds: float) -> None:
    raise AssertionError(f"this command does not wait: it would sleep for {seconds} s")


def at_terminal(home: Path, *arguments: str, input: str = "", terminal: bool = True) -> Result:
    sleep = no_wait if arguments[0] == "enrol" else time.sleep
    context = CommandContext(sleep=sleep, interactive=lambda: terminal)
    return CliRunner().invoke(device, [*arguments, "--home", str(home)], obj=context, input=input)


def test_a_link_enrols_a_key_that_approves_and_the_same_command_prints_it_again(
    service: Service, home: Path, live: LiveServer
) -> None:
    begun = service.begin("alice@example.com")
    done = enrolled(service, home, begun)
    page = service.status(begun)
    assert (page["status"], page["device_public_key"]) == ("enrolled", done["device_public_key"])
    assert (done["account"], done["replaced"], done["server_id"]) == ("alice@example.com", "", live.identity.server_id)
    again = at_terminal(home, "enrol", begun["uri"], "--yes", "--json")
    assert (again.exit_code, json.loads(again.stdout)) == (0, done)
    assert [path.suffix for path in home.iterdir()] == [".json"]
    action = {"type": "login", "description": "Sign in"}
    body = {"device_public_key": done["device_public_key"], "action": action}
    challenge_id = service.backend.post("/challenge", json=body).json()["challenge_id"]
    approved = at_terminal(home, "approve", challenge_id)
    assert "the challenge is verified" in approved.output
    # Another device with the same link is refused, and makes no key.
    late = at_terminal(home.parent / "thief", "enrol", begun["uri"], "--yes", "--ca", str(live.certificate))
    assert (late.exit_code, "ENROLMENT_CLAIMED" in late.stderr) == (1, True)
    assert not list((home.parent / "thief").iterdir())


def test_a_typed_token_enrols_at_the_pinned_server(service: Service, home: Path, live: LiveServer) -> None:
    begun = service.begin()
    typed = typed_token(begun["token"]).lower()
    done = enrolled(service, home, begun, "--server", live.url, "--pin", live.identity.server_id, target=typed)
    assert service.status(begun)["device_public_key"] == done["device_public_key"]


def test_an_empty_argument_is_no_request_for_a_prompt(home: Path) -> None:
    # As an unset variable of a script gives it.
    result = at_terminal(home, "enrol", "", "--yes", "--json", input="x\n")
    assert (result.exit_code, "ENROLMENT_LINK_UNUSABLE" in result.stderr, "Link or token" in result.output) == (
        1, True, False,
    )  # fmt: skip


def test_a_typed_token_for_an_unknown_server_needs_a_person(service: Service, home: Path, live: LiveServer) -> None:
    begun = service.begin()
    options = ("enrol", begun["token"], "--server", live.url, "--ca", str(live.certificate))
    without = at_terminal(home, *options, "--yes", terminal=False)
    assert (without.exit_code, "NOT_CONFIRMED" in without.stderr, "--pin" in without.stderr) == (1, True, True)
    # The token may be typed at a prompt, too: other users of the machine can read a command line.
    prompted = (options[0], *options[2:])
    assert at_terminal(home, *prompted, "--yes", terminal=False).exit_code == 2
    declined = at_terminal(home, *prompted, input=f"{begun['token']}\nn\n")
    assert (declined.exit_code, "NOT_CONFIRMED" in declined.stderr) == (1, True)
    assert live.identity.server_id in declined.output
    assert live.identity.pictogram_speakable in declined.output
    assert service.status(begun)["status"] == "pending"


def test_an_enrolment_without_a_code_needs_the_link_also_with_a_pin(
    service: Service, home: Path, live: LiveServer
) -> None:
    old = Keyring(home).create(pin(live), "ES256")
    begun = service.begin(confirm="none", replaces=old.device.wire_key)
    typed = ("enrol", begun["token"], "--server", live.url, "--pin", live.identity.server_id, "--yes", "--json")
    refused = at_terminal(home, *typed)
    assert (refused.exit_code, "CODE_NOT_COMPARED" in refused.stderr) == (1, True)
    done = at_terminal(home, "enrol", begun["uri"], "--yes", "--json")
    assert [json.loads(line)["event"] for line in done.stdout.splitlines()] == ["offer", "enrolled"]
    assert service.status(begun)["replaced"] == old.device.fingerprint


def test_a_replaced_qr_code_is_refused_before_the_token_is_sent(service: Service, home: Path, live: LiveServer) -> None:
    begun = service.begin()
    forged = link_uri(parse_uri(begun["uri"])._replace(server_id="ab" * 32))
    refused = at_terminal(home, "enrol", forged, "--yes", "--ca", str(live.certificate))
    assert (refused.exit_code, "PIN_MISMATCH" in refused.stderr) == (1, True)
    # The device knows this server: a link with another identity for its address is refused, also with --force.
    Keyring(home).create(pin(live), "ES256")
    refused = at_terminal(home, "enrol", forged, "--yes", "--force")
    assert (refused.exit_code, "SERVER_IDENTITY_CHANGED" in refused.stderr) == (1, True)
    assert service.status(begun)["status"] == "pending"


def test_a_server_in_the_place_of_the_real_one_gets_no_token(home: Path, live: LiveServer, service: Service) -> None:
    begun = service.begin()
    with FakeServer(lambda: 0.0) as other:
        link = link_uri(Link(other.url, live.identity.server_id, begun["token"]))
        refused = at_terminal(home, "enrol", link, "--yes")
    assert "PIN_MISMATCH" in refused.stderr
    assert len(other.peers) == 1


def test_a_relaying_attacker_who_swaps_the_key_is_found_by_the_compared_code(
    service: Service, live: LiveServer
) -> None:
    """The proxy relays everything, and completes with a key of its own."""
    begun, victim, attacker = service.begin(), Device.generate(), Device.generate()
    target = parse_target(begun["uri"])

    def relayed(request: httpx.Request) -> httpx.Response:
        content = request.content
        if request.url.path == "/enrolment/complete":
            content = msgspec.json.encode(completion_body(attacker, offer))
        with live.client() as client:
            answer = client.request(request.method, request.url.path, content=content, headers=dict(request.headers))
        return httpx.Response(answer.status_code, stream=httpx.ByteStream(answer.content))

    with ServerConnection(live.url, pin(live).tls, transport=httpx.MockTransport(relayed)) as connection:
        client = EnrolmentClient(pin(live), connection)
        offer = client.claim(target, "0f" * 16)
        session, answer = client.complete(offer, completion_body(victim, offer))
    assert answer.status == "confirming"
    page = service.status(begun)
    assert page["fingerprint"] == attacker.fingerprint
    assert page["session_pictogram"] != session.pictogram
    refused = service.confirm(begun, session.code)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "WRONG_CODE")


def test_a_rotation_replaces_the_key_when_it_is_enrolled_and_not_before(
    service: Service, home: Path, live: LiveServer
) -> None:
    old = Keyring(home).create(pin(live), "Ed25519")
    begun = service.begin(replaces=old.device.wire_key)
    running = Enrolling(home, live, begun["uri"])
    assert (running.event("offer") or {})["replaces"] == old.device.fingerprint
    code = running.event("code") or {}
    assert Keyring(home).load(live.url).device.fingerprint == old.device.fingerprint
    service.confirm(begun, code["code"])
    assert running.end() == 0, running.errors
    page = service.status(begun)
    assert (page["replaced"], running.printed[-1]["replaced"]) == (old.device.fingerprint, old.device.fingerprint)
    assert Keyring(home).load(live.url).device.wire_key == page["device_public_key"]


def test_an_offer_that_replaces_another_key_is_refused(service: Service, home: Path, live: LiveServer) -> None:
    Keyring(home).create(pin(live), "ES256")
    begun = service.begin(replaces=Device.generate().wire_key)
    refused = at_terminal(home, "enrol", begun["uri"], "--yes")
    assert (refused.exit_code, "REPLACES_ANOTHER_KEY" in refused.stderr) == (1, True)
    assert service.status(begun)["status"] == "claimed"
    assert [path.suffix for path in home.iterdir()] == [".json"]


def test_a_key_that_is_there_is_discarded_only_when_a_person_or_force_agrees(
    service: Service, home: Path, live: LiveServer
) -> None:
    present = Keyring(home).create(pin(live), "ES256").device.fingerprint
    begun = service.begin()
    script = at_terminal(home, "enrol", begun["uri"], "--yes", "--json")
    assert (script.exit_code, "ALREADY_REGISTERED" in script.stderr, "--force" in script.stderr) == (1, True, True)
    declined = at_terminal(home, "enrol", begun["uri"], "--yes", input="n\n")
    assert (declined.exit_code, "ENROLMENT_DECLINED" in declined.stderr) == (1, True)
    assert Keyring(home).load(live.url).device.fingerprint == present
    # The claim is on disk: the same link goes on.
    assert enrolled(service, home, begun, "--force")["fingerprint"] != present


def test_a_key_that_appeared_meanwhile_is_not_discarded_either(service: Service, home: Path, live: LiveServer) -> None:
    begun, code = killed_after_the_key_was_sent(service, home, live)
    present = Keyring(home).create(pin(live), "ES256").device.fingerprint
    service.confirm(begun, code)
    refused = at_terminal(home, "enrol", begun["uri"], "--yes", "--json")
    assert "ALREADY_REGISTERED" in refused.stderr
    assert Keyring(home).load(live.url).device.fingerprint == present
    assert enrolled(service, home, begun, "--force")["device_public_key"] == service.status(begun)["device_public_key"]


def test_a_refused_completion_leaves_the_claim_for_another_key(service: Service, home: Path, live: LiveServer) -> None:
    begun = service.begin()
    keyring, server_key = Keyring(home), live.identity.server_public_keys["ES256"]
    forged = Enrolling(home, live, begun["uri"], kill_at=5)
    assert forged.end() == KILLED
    pending = keyring.pending_enrolment(live.url)
    assert pending is not None
    assert pending.prepared is not None
    # As a completion that the server refuses: here for a key of the server.
    body = pending.prepared.completion | {"device_public_key": server_key}
    keyring.remember_enrolment(
        msgspec.structs.replace(pending, prepared=msgspec.structs.replace(pending.prepared, completion=body))
    )
    refused = at_terminal(home, "enrol", begun["uri"], "--yes", "--json")
    assert refused.exit_code == 1
    assert enrolled(service, home, begun)["account"] == "alice"


def test_the_third_wrong_code_ends_the_enrolment_and_leaves_no_key(
    service: Service, home: Path, live: LiveServer
) -> None:
    begun = service.begin()
    running = Enrolling(home, live, begun["uri"])
    running.event("offer")
    code = (running.event("code") or {})["code"]
    for _ in range(3):
        service.confirm(begun, f"{(int(code) + 1) % 10**6:06}")
    assert running.end() == 1
    assert "A wrong code was entered three times" in running.errors
    assert list(home.iterdir()) == []


def test_a_clock_that_jumps_deletes_no_key_that_the_server_may_have_enrolled(
    service: Service, home: Path, live: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sigil.device.enrolment.client.WAIT_SECONDS", 0)
    begun = service.begin()
    now = time.time()

    def jumps_after_the_offer() -> float:
        # The network sets the clock while the person reads the code.
        return now + (3600 if service.status(begun)["status"] == "confirming" else 0)

    context = CommandContext(clock=jumps_after_the_offer, interactive=lambda: True)
    arguments = ["enrol", begun["uri"], "--ca", str(live.certificate), "--home", str(home), "--yes", "--json"]
    ended = CliRunner().invoke(device, arguments, obj=context)
    assert "ENROLMENT_END_UNKNOWN" in ended.stderr, ended.output
    code = json.loads(ended.stdout.splitlines()[-1])["code"]
    assert service.confirm(begun, code).status_code == 200
    again = at_terminal(home, "enrol", begun["uri"], "--yes", "--json")
    assert again.exit_code == 0, again.stderr
    assert Keyring(home).load(live.url).device.wire_key == service.status(begun)["device_public_key"]


def test_a_corrected_clock_goes_on_with_the_same_claim(service: Service, home: Path, live: LiveServer) -> None:
    begun = service.begin()
    fast = CommandContext(clock=lambda: time.time() + 3600, interactive=lambda: True)
    arguments = ["enrol", begun["uri"], "--ca", str(live.certificate), "--home", str(home), "--yes", "--json"]
    expired = CliRunner().invoke(device, arguments, obj=fast)
    assert "OFFER_EXPIRED" in expired.stderr, expired.output
    assert enrolled(service, home, begun)["account"] == "alice"


def test_a_second_enrolment_at_the_same_time_waits_for_the_first(
    service: Service, home: Path, live: LiveServer
) -> None:
    begun = service.begin()
    running = Enrolling(home, live, begun["uri"])
    running.event("offer")
    code = running.event("code") or {}
    second = at_terminal(home, "enrol", begun["uri"], "--yes", "--json")
    assert (second.exit_code, "ENROLMENT_BUSY" in second.stderr) == (1, True)
    service.confirm(begun, code["code"])
    assert running.end() == 0


def killed_after_the_key_was_sent(service: Service, home: Path, live: LiveServer) -> tuple[dict[str, Any], str]:
    """The enrolment, and its code."""
    begun = service.begin()
    running = Enrolling(home, live, begun["uri"])
    running.event("offer")
    code = (running.event("code") or {})["code"]
    running.kill()
    return begun, code


def test_a_new_link_finishes_or_forgets_an_earlier_enrolment(service: Service, home: Path, live: LiveServer) -> None:
    first, code = killed_after_the_key_was_sent(service, home, live)
    second = service.begin("bob")
    unfinished = at_terminal(home, "enrol", second["uri"], "--yes", "--json")
    assert (unfinished.exit_code, "ENROLMENT_UNFINISHED" in unfinished.stderr) == (1, True)
    assert service.status(second)["status"] == "pending"
    service.confirm(first, code)
    # The earlier one is finished, and then the new one finds its key.
    found = at_terminal(home, "enrol", second["uri"], "--yes", "--json")
    assert "ALREADY_REGISTERED" in found.stderr
    key = Keyring(home).load(live.url)
    assert (key.account, key.device.wire_key) == ("alice", service.status(first)["device_public_key"])
    third, _ = killed_after_the_key_was_sent_with_force(service, home, live)
    service.backend.delete(f"/enrolment/{third['enrolment_id']}")
    fourth = service.begin("carol")
    assert enrolled(service, home, fourth, "--force")["account"] == "carol"


def killed_after_the_key_was_sent_with_force(
    service: Service, home: Path, live: LiveServer
) -> tuple[dict[str, Any], str]:
    begun = service.begin()
    running = Enrolling(home, live, begun["uri"], "--force")
    running.event("offer")
    code = (running.event("code") or {})["code"]
    running.kill()
    return begun, code


def test_an_enrolment_that_the_server_no_longer_stores_is_kept_only_on_request(
    service: Service, home: Path, live: LiveServer
) -> None:
    begun, _ = killed_after_the_key_was_sent(service, home, live)
    keyring = Keyring(home)
    pending = keyring.pending_enrolment(live.url)
    assert pending is not None
    assert pending.prepared is not None
    offer = parse_offer(pending.prepared.offer.encode(), pending.server)
    assert offer.enrolment_id == begun["enrolment_id"]
    # As the server answers ten minutes after the end.
    body = pending.prepared.completion | {"enrolment_id": "00000000-0000-4000-8000-000000000000"}
    prepared = msgspec.structs.replace(pending.prepared, completion=body)
    keyring.remember_enrolment(msgspec.structs.replace(pending, prepared=prepared))
    unknown = at_terminal(home, "enrol", begun["uri"], "--yes", "--json")
    assert "ENROLMENT_OUTCOME_UNKNOWN" in unknown.stderr
    assert service.status(begun)["fingerprint"] in unknown.stderr
    kept = at_terminal(home, "enrol", begun["uri"], "--yes", "--json", "--keep")
    assert kept.exit_code == 0, kept.stderr
    assert keyring.load(live.url).device.fingerprint == service.status(begun)["fingerprint"]


def test_an_attested_key_has_a_credential_that_goes_with_its_approvals(
    service: Service, home: Path, live: LiveServer, root: Path
) -> None:
    begun = service.begin(min_level="secure_element")
    refused = at_terminal(home, "enrol", begun["uri"], "--yes", "--json", "--ca", str(live.certificate))
    assert (refused.exit_code, "ATTESTER_NEEDED" in refused.stderr) == (1, True)
    # The claim is on disk: a device that can attest goes on.
    attest_as = ("--test-root", str(root), "--attest-as", "yubikey")
    done = enrolled(service, home, begun, *attest_as)
    assert service.status(begun)["attestation"]["level"] == "secure_element"
    (file,) = home.glob("*.credential")
    assert file.stat().st_mode & 0o777 == 0o600
    body = {"device_public_key": done["device_public_key"], "action": {"type": "login", "description": "Sign in"}}
    first = file.read_text()
    for renewed in (False, True):
        if renewed:
            again = at_terminal(home, "attest", "--json")
            assert (again.exit_code, json.loads(again.stdout)["level"]) == (0, "secure_element")
            assert file.read_text() != first
        challenge_id = service.backend.post("/challenge", json=body).json()["challenge_id"]
        assert at_terminal(home, "approve", challenge_id).exit_code == 0
        status = service.backend.get(f"/v1/auth/challenge/{challenge_id}/status").json()
        assert status["attestation"]["kind"] == "yubikey-piv"
    other = at_terminal(home, "attest", "--test-root", str(root), "--as", "android")
    assert (other.exit_code, "this server does not accept this kind" in other.stderr) == (1, True)
    at_terminal(home, "forget", live.url, "--yes")
    assert list(home.iterdir()) == []


def test_a_device_without_attested_hardware_says_so(home: Path, live: LiveServer, tmp_path: Path) -> None:
    Keyring(home).create(pin(live), "ES256")
    assert "ATTESTER_NEEDED" in at_terminal(home, "attest").stderr
    assert at_terminal(home, "attest", "--as", "yubikey").exit_code == 2
    empty = at_terminal(home, "attest", "--test-root", str(tmp_path), "--as", "yubikey")
    assert (empty.exit_code, "ATTESTER_UNUSABLE" in empty.stderr) == (1, True)


@pytest.mark.parametrize(
    ("rotation", "attested"),
    [(False, False), (True, False), (True, True)],
    ids=["first key", "rotation", "attested rotation"],
)
def test_killed_anywhere_the_same_command_goes_on(
    service: Service, tmp_path: Path, root: Path, rotation: bool, attested: bool
) -> None:
    live, old, kill_at, code = service.server, Device.generate(), 0, KILLED
    options = ("--test-root", str(root), "--attest-as", "yubikey") if attested else ()
    while code == KILLED:
        home = tmp_path / str(kill_at)
        keyring = Keyring(home)
        if rotation:
            old = keyring.create(pin(live), "ES256").device
        begun = service.begin(**({"replaces": old.wire_key} if rotation else {}))
        running = Enrolling(home, live, begun["uri"], *options, kill_at=kill_at)
        finish(service, running, begun)
        code = running.end()
        # Until the new key is enrolled, the old one is there.
        page, known = service.status(begun), keyring.find(live.url)
        if rotation and page["status"] != "enrolled":
            assert known is not None
            assert known.device.fingerprint == old.fingerprint
        done = enrolled(service, home, begun, *options)
        page, known = service.status(begun), keyring.load(live.url)
        assert (page["status"], page["device_public_key"]) == ("enrolled", done["device_public_key"])
        assert known.device.wire_key == done["device_public_key"]
        assert {path.suffix for path in home.iterdir()} == {".json", *([".credential"] if attested else [])}
        assert (keyring.credential(live.url) is not None) == attested == ("attestation" in page)
        kill_at += 1
    assert (code, running.errors) == (0, "")
    # Before and after: two files of the enrolment, claim, completion, at least one poll, the key, and the deletion.
    assert kill_at > 2 * 7
