"""`sigil device` against a fake server over HTTP: its output, requests, errors and exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest

from sigil.device.commands import device
from sigil.device.commands.context import one_line
from sigil.device.commands.output import answer_text
from sigil.device.errors import CertificateUntrusted, Peer
from sigil.protocol import signed_bytes
from sigil.protocol.encoding.canonical import canonical
from sigil.protocol.encoding.text import decode_base64
from sigil.protocol.keys import SUITES, PublicKey
from sigil.protocol.messages.base import Decision
from tests.device.clock import MovingClock, Run
from tests.device.fake_server import ACTION, NOW, FakeServer, identity, jcs, problem
from tests.device.tls import Tls

ESCAPES = "\x1b\x9b\x07\x08\r\x7f\u202e\u200b"


@pytest.fixture
def enrolled(run: Run, server: FakeServer) -> dict[str, Any]:
    """An enrolled device, as `whoami --json` prints it."""
    assert run("init", "--server", server.url, "--pin", server.identity.server_id).exit_code == 0
    printed: dict[str, Any] = json.loads(run("whoami", "--json").stdout)
    return printed


def signed(server: FakeServer, enrolled: dict[str, Any], message: bytes) -> bool:
    key = PublicKey.parse(decode_base64(enrolled["device_public_key"], "$"))
    return key.verify(message, decode_base64(server.answers[-1]["signature"], "$"))


@pytest.mark.parametrize("suite", SUITES)
def test_init_makes_a_key_that_whoami_prints(run: Run, server: FakeServer, suite: str) -> None:
    made = run("init", "--server", server.url + "/", "--pin", server.identity.server_id, "--suite", suite)
    enrolled = json.loads(run("whoami", "--json").stdout)
    assert (made.exit_code, enrolled["suite"], enrolled["server"]) == (0, suite, server.url)
    assert enrolled["server_id"] == server.identity.server_id
    assert enrolled["device_public_key"] in made.stdout
    assert enrolled["fingerprint"] in run("whoami").stdout
    assert run("whoami", "--key").stdout == enrolled["device_public_key"] + "\n"


def test_init_refuses_another_server_than_the_pinned_one_and_makes_no_key(
    run: Run, server: FakeServer, home: Path
) -> None:
    refused = run("init", "--server", server.url, "--pin", "ab" * 32)
    assert (refused.exit_code, refused.stdout, home.exists()) == (1, "", False)
    assert refused.stderr.startswith("sigil: PIN_MISMATCH")
    assert refused.stderr.endswith(" Check --pin and the address. If both are right, do not continue.\n")


def test_init_without_pin_or_terminal_refuses_with_a_reason(run: Run, server: FakeServer) -> None:
    refused = run("init", "--server", server.url)
    assert refused.exit_code == 1
    assert "--pin" in refused.stderr
    assert run("init", "--server", server.url, "--yes").exit_code == 0


def test_init_prompts_on_a_terminal_and_shows_the_full_server_id(run: Run, server: FakeServer, home: Path) -> None:
    refused = run("init", "--server", server.url, terminal=True, input="n\n")
    assert (refused.exit_code, home.exists()) == (1, False)
    assert server.identity.server_id in refused.stderr
    assert server.identity.pictogram_speakable in refused.stderr
    assert run("init", "--server", server.url, terminal=True, input="y\n").exit_code == 0


def test_init_for_the_same_server_and_pin_may_be_repeated(run: Run, server: FakeServer, home: Path) -> None:
    first = run("init", "--server", server.url, "--pin", server.identity.server_id)
    files = {path: path.read_bytes() for path in home.iterdir()}
    for again in (
        run("init", "--server", server.url, "--pin", server.identity.server_id),
        run("init", "--server", server.url),
    ):
        assert (again.exit_code, again.stdout) == (0, first.stdout)
        assert again.stderr == (
            "This device already has a key for this server; continue with 'sigil device register'.\n"
        )
    assert {path: path.read_bytes() for path in home.iterdir()} == files
    other_pin = run("init", "--server", server.url, "--pin", "ab" * 32)
    assert (other_pin.exit_code, other_pin.stdout) == (1, "")
    assert other_pin.stderr.startswith("sigil: PIN_MISMATCH")


def test_init_does_not_replace_a_key_unless_forced(run: Run, server: FakeServer, enrolled: dict[str, Any]) -> None:
    pinned = ("init", "--server", server.url, "--pin", server.identity.server_id)
    refused = run(*pinned, "--suite", "Ed25519")
    assert (refused.exit_code, "ALREADY_REGISTERED" in refused.stderr) == (1, True)
    assert json.loads(run("whoami", "--json").stdout) == enrolled
    assert run(*pinned, "--force").exit_code == 0
    assert json.loads(run("whoami", "--json").stdout)["fingerprint"] != enrolled["fingerprint"]


def test_a_changed_identity_is_refused_even_when_forced(run: Run, server: FakeServer, enrolled: dict[str, Any]) -> None:
    server.identity = identity(50)
    refused = run("init", "--server", server.url, "--yes", "--force")
    assert (refused.exit_code, "SERVER_IDENTITY_CHANGED" in refused.stderr) == (1, True)
    assert json.loads(run("whoami", "--json").stdout) == enrolled


def test_a_server_in_init_mode_is_not_pinned(run: Run, server: FakeServer) -> None:
    server.info_changes = {"mode": "init"}
    assert "NOT_INITIALIZED" in run("init", "--server", server.url, "--yes").stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("init",),
        ("init", "--server", "http://auth.example.com"),
        ("init", "--server", "https://auth.example.com/path"),
        ("init", "--server", "https://a.example", "--pin", "abcd"),
        ("init", "--server", "https://a.example", "--suite", "RS256"),
        ("init", "--server", "https://a.example", "--tls-pin", "zz"),
        ("init", "--server", "https://a.example", "--tls-pin", "ab" * 32, "--ca", __file__),
        ("init", "--server", "http://localhost", "--tls-pin", "AB:" * 31 + "AB"),
        ("init", "--server", "https://a.example", "--insecure"),
        ("approve",),
        ("approve", "x", "--match-code", "1"),
        ("approve", "x", "--match-code", "٤٢"),
        ("reject", "x", "--reason", "wrong_code"),
        ("watch",),
        ("watch", "--auto-approve", "--interval", "0"),
        ("dance",),
    ],
)
def test_wrong_usage_ends_with_2(run: Run, arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


def test_every_documented_command_exists() -> None:
    polled = {"init", "whoami", "servers", "forget", "pending", "approve", "reject", "watch"}
    assert set(device.commands) == polled | {"enrol", "attest", "register", "unregister", "listen"}


def test_a_device_without_a_server_gets_an_error(run: Run) -> None:
    refused = run("whoami")
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
    assert "NOT_REGISTERED" in refused.stderr


def test_servers_are_listed_selected_and_forgotten(
    run: Run, server: FakeServer, clock: MovingClock, enrolled: dict[str, Any]
) -> None:
    with FakeServer(clock) as second:
        run("init", "--server", second.url, "--yes")
        listed = json.loads(run("servers", "--json").stdout)
        assert sorted(item["server"] for item in listed) == sorted([server.url, second.url])
        assert run("whoami").exit_code == 2
        assert json.loads(run("whoami", "--json", "--server", server.url).stdout) == enrolled
        assert run("forget", second.url, terminal=True, input="n\n").exit_code == 1
        assert run("forget", second.url).exit_code == 0
    assert run("forget", second.url).exit_code == 1
    assert json.loads(run("whoami", "--json").stdout) == enrolled


def test_the_key_is_never_printed(run: Run, home: Path, enrolled: dict[str, Any]) -> None:
    (file,) = home.glob("*.json")
    private = json.loads(file.read_text())["private_key"]
    file.write_text(file.read_text().replace('"suite":"ES256"', '"suite":"Ed25518"'))
    for result in (run("whoami"), run("pending"), run("servers")):
        assert (result.exit_code, private in result.output + repr(result.exception)) == (1, False)


def test_an_exposed_key_file_is_one_clear_line(run: Run, home: Path, enrolled: dict[str, Any]) -> None:
    next(home.glob("*.json")).chmod(0o644)
    refused = run("whoami")
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
    assert "KEY_FILE_EXPOSED" in refused.stderr


def test_pending_shows_every_member_of_a_challenge(run: Run, server: FakeServer, enrolled: dict[str, Any]) -> None:
    payload = server.add_challenge(enrolled["device_public_key"])
    shown = run("pending").stdout
    for part in (payload["challenge_id"], "payment", "Pay the invoice", '"amount": 12', '"to": ["alice", null, true]'):
        assert part in shown
    for part in ("Fake", server.url, server.identity.pictogram_speakable, "299 s"):
        assert part in shown


def test_pending_as_json(run: Run, server: FakeServer, enrolled: dict[str, Any]) -> None:
    request = server.add_mpa(enrolled["device_public_key"])
    payload = server.add_challenge(enrolled["device_public_key"], match_code="42")
    printed = json.loads(run("pending", "--json").stdout)
    assert printed["challenges"] == [
        {
            "challenge_id": payload["challenge_id"],
            "server": server.url,
            "server_id": server.identity.server_id,
            "action": ACTION,
            "expires_at": int(NOW) + 300,
            "seconds_left": 299,
            "number_matching": True,
        }
    ]
    assert printed["mpa"] == [
        {
            "mpa_id": request["mpa_id"],
            "request_id": "order-7",
            "server": server.url,
            "server_id": server.identity.server_id,
            "action": ACTION,
            "groups_required": 2,
            "reject_policy": "continue",
            "expires_at": int(NOW) + 300,
            "seconds_left": 299,
        }
    ]
    assert printed["refused"] == []


def test_nothing_pending_is_no_error(run: Run, enrolled: dict[str, Any]) -> None:
    assert "Nothing is pending" in run("pending").stdout


def test_a_bad_payload_is_reported_and_hides_no_good_one(
    run: Run, server: FakeServer, enrolled: dict[str, Any]
) -> None:
    good, bad = server.add_challenge(enrolled["device_public_key"]), server.add_challenge(enrolled["device_public_key"])
    bad["respond_to"] = "https://evil.example"
    server.listed.append({"type": "challenge", "challenge_id": ESCAPES})
    result = run("pending")
    assert (result.exit_code, good["challenge_id"] in result.stdout) == (1, True)
    assert bad["challenge_id"] not in result.stdout
    assert f"REFUSED {bad['challenge_id']} CHALLENGE_BYTES_MISMATCH" in result.stderr
    assert "PAYLOAD_MALFORMED" in result.stderr
    assert not set(ESCAPES) & set(result.output)


def test_an_approval_is_shown_signed_and_sent(run: Run, server: FakeServer, enrolled: dict[str, Any]) -> None:
    payload = server.add_challenge(enrolled["device_public_key"])
    done = run("approve", payload["challenge_id"])
    assert (done.exit_code, "Pay the invoice" in done.stdout, "verified" in done.stdout) == (0, True, True)
    challenge = decode_base64(payload["challenge_bytes"], "$")
    assert signed(server, enrolled, signed_bytes.approval(challenge, jcs(ACTION)))


@pytest.mark.parametrize("reason", [None, "cancelled", "unknown_trigger"])
def test_a_rejection_is_signed_and_sent_with_its_reason(
    run: Run, server: FakeServer, enrolled: dict[str, Any], reason: str | None
) -> None:
    payload = server.add_challenge(enrolled["device_public_key"], match_code="42")
    done = run("reject", payload["challenge_id"], *(("--reason", reason) if reason else ()))
    assert (done.exit_code, "Rejected" in done.stdout) == (0, True)
    assert server.answers[-1].get("reason") == reason
    challenge = decode_base64(payload["challenge_bytes"], "$")
    assert signed(server, enrolled, signed_bytes.rejection(challenge, jcs(ACTION)))


@pytest.mark.parametrize(
    ("command", "author"),
    [
        (("approve",), signed_bytes.mpa_approval),
        (("reject", "--reason", "unknown_trigger"), signed_bytes.mpa_rejection),
    ],
)
def test_a_vote_is_shown_signed_and_sent(
    run: Run, server: FakeServer, enrolled: dict[str, Any], command: tuple[str, ...], author: Any
) -> None:
    payload = server.add_mpa(enrolled["device_public_key"])
    done = run(*command, payload["mpa_id"])
    assert done.exit_code == 0, done.output
    for part in ("Pay the invoice", "2 groups must approve", "order-7", '"amount": 12', "recorded"):
        assert part in done.stdout
    answer = server.answers[-1]
    assert (answer["mpa_id"], answer["decision"].startswith(command[0])) == (payload["mpa_id"], True)
    assert answer.get("reason") == (command[-1] if "--reason" in command else None)
    assert signed(server, enrolled, author(msgspec.json.decode(payload["action_context"])))


def test_a_tampered_request_is_not_voted_on(run: Run, server: FakeServer, enrolled: dict[str, Any]) -> None:
    payload = server.add_mpa(enrolled["device_public_key"])
    payload["respond_to"] = "https://evil.example"
    for command in ("approve", "reject"):
        refused = run(command, payload["mpa_id"])
        assert (refused.exit_code, refused.stdout) == (1, "")
        assert "CONTEXT_MISMATCH" in refused.stderr
    assert server.answers == []


def test_watch_votes_too(run: Run, server: FakeServer, enrolled: dict[str, Any]) -> None:
    server.add_mpa(enrolled["device_public_key"])
    server.add_challenge(enrolled["device_public_key"])
    assert run("watch", "--auto-approve", "--once").exit_code == 0
    assert [answer["decision"] for answer in server.answers] == ["approved", "approved"]


def test_a_match_code_is_rejected_for_a_vote(run: Run, server: FakeServer, enrolled: dict[str, Any]) -> None:
    mpa_id = server.add_mpa(enrolled["device_public_key"])["mpa_id"]
    assert "MATCH_CODE_UNEXPECTED" in run("approve", mpa_id, "--match-code", "08").stderr


def test_a_tampered_challenge_is_not_answered(run: Run, server: FakeServer, enrolled: dict[str, Any]) -> None:
    payload = server.add_challenge(enrolled["device_public_key"])
    payload["action"] = ACTION | {"description": "Another"}
    for command in ("approve", "reject"):
        refused = run(command, payload["challenge_id"])
        assert (refused.exit_code, refused.stdout) == (1, "")
        assert "ACTION_REFUSED" in refused.stderr
    assert server.answers == []


def test_a_certificate_file_without_an_end_is_one_line(run: Run) -> None:
    refused = run("init", "--server", "https://a.example", "--ca", "/dev/zero", "--yes")
    assert (refused.exit_code, "/dev/zero is larger than 1 MiB" in refused.stderr) == (1, True)


def test_an_id_is_found_in_either_case(run: Run, server: FakeServer, enrolled: dict[str, Any]) -> None:
    challenge_id = server.add_challenge(enrolled["device_public_key"])["challenge_id"]
    assert run("approve", challenge_id.upper()).exit_code == 0
    assert server.answers.pop()["challenge_id"] == challenge_id


def test_a_challenge_that_is_not_pending_is_not_found(run: Run, enrolled: dict[str, Any]) -> None:
    refused = run("approve", "nothing")
    assert (refused.exit_code, "CHALLENGE_NOT_FOUND" in refused.stderr) == (1, True)
    assert "It may have ended; run 'sigil device pending'." in refused.stderr


def test_number_matching_takes_the_code_from_the_option_or_a_prompt(
    run: Run, server: FakeServer, enrolled: dict[str, Any]
) -> None:
    challenge_id = server.add_challenge(enrolled["device_public_key"], match_code="07")["challenge_id"]
    refused = run("approve", challenge_id)
    assert (refused.exit_code, "MATCH_CODE_REQUIRED" in refused.stderr, server.answers) == (1, True, [])
    assert run("approve", challenge_id, terminal=True, input="7\n07\n").exit_code == 0
    assert server.answers.pop()["match_code"] == "07"
    assert run("approve", challenge_id, "--match-code", "07").exit_code == 0


def test_a_wrong_code_gives_the_servers_error(run: Run, server: FakeServer, enrolled: dict[str, Any]) -> None:
    challenge_id = server.add_challenge(enrolled["device_public_key"], match_code="07")["challenge_id"]
    text = "sigil: MATCH_CODE_WRONG: This is not the number that the service shows: "
    for left in ("2 tries are", "1 try is"):
        server.answers.clear()
        refused = run("approve", challenge_id, "--match-code", "08")
        assert (refused.exit_code, refused.stderr) == (1, f"{text}{left} left, then the challenge is rejected.\n")
    server.answers.clear()
    refused = run("approve", challenge_id, "--match-code", "08")
    assert refused.stderr == ("sigil: MATCH_CODE_WRONG: The number was wrong three times: the challenge is rejected.\n")


def test_a_wrong_number_is_named_and_only_the_number_is_prompted_again(
    run: Run, server: FakeServer, enrolled: dict[str, Any]
) -> None:
    for command in (("approve", server.add_challenge(enrolled["device_public_key"], match_code="07")["challenge_id"]),):
        done = run(*command, terminal=True, input="08\n09\n07\n")
        assert (done.exit_code, "2 tries are left" in done.stderr, "1 try is left" in done.stderr) == (0, True, True)
    server.add_challenge(enrolled["device_public_key"], match_code="07")
    done = run("watch", "--count", "1", terminal=True, input="y\n08\n07\n")
    assert (done.exit_code, done.stderr.count("Approve?"), done.stderr.count("The number that")) == (0, 1, 2)
    server.add_challenge(enrolled["device_public_key"], match_code="07")
    ended = run("watch", "--once", terminal=True, input="y\n08\n09\n10\n")
    assert (ended.exit_code, ended.stderr.count("Approve?")) == (0, 1)
    assert "wrong three times: the challenge is rejected" in ended.stderr


def test_a_code_without_number_matching_is_rejected(run: Run, server: FakeServer, enrolled: dict[str, Any]) -> None:
    challenge_id = server.add_challenge(enrolled["device_public_key"])["challenge_id"]
    assert "MATCH_CODE_UNEXPECTED" in run("approve", challenge_id, "--match-code", "08").stderr


def test_a_timestamp_used_elsewhere_costs_one_wait(
    run: Run, server: FakeServer, clock: MovingClock, enrolled: dict[str, Any]
) -> None:
    server.failures.append(problem(401, "INVALID_SIGNATURE"))
    assert run("pending").exit_code == 0
    assert clock.slept == [0.5]


def test_a_second_401_is_reported_with_a_hint(run: Run, server: FakeServer, enrolled: dict[str, Any]) -> None:
    server.failures = [problem(401, "INVALID_SIGNATURE")] * 3
    refused = run("pending")
    assert (refused.exit_code, len(server.failures)) == (1, 1)
    assert "clock" in refused.stderr


def test_no_timestamp_is_used_twice_between_commands(
    run: Run, server: FakeServer, clock: MovingClock, enrolled: dict[str, Any]
) -> None:
    assert [run("pending").exit_code for _ in range(3)] == [0, 0, 0]
    assert clock.slept == [0.5, 1.0]
    assert len(server.used_seconds) == 3


def test_control_characters_never_reach_the_terminal(run: Run, server: FakeServer, enrolled: dict[str, Any]) -> None:
    action = {"type": "t", "description": "d", "params": {f"n{ESCAPES}": f"v{ESCAPES}", "deep": [{ESCAPES: 1}]}}
    server.add_challenge(enrolled["device_public_key"], action=canonical(action))
    output = run("pending").output + run("pending", "--json").output
    server.failures.append(problem(400, "INVALID_REQUEST", f"no{ESCAPES}\nsigil: forged line"))
    failed = run("pending")
    assert not set(ESCAPES) & set(output + failed.output)
    assert failed.stderr.count("\n") == 1
    assert "REFUSED" in output
    assert "\\u{1b}" in failed.stderr
    assert "\\u{202e}" in failed.stderr


def test_a_servers_name_cannot_control_the_terminal(run: Run, server: FakeServer) -> None:
    server.info_changes = {"server_name": f"Bank{ESCAPES}\n"}
    made = run("init", "--server", server.url, terminal=True, input="y\n")
    output = made.output + run("whoami").output + run("servers").output + run("servers", "--json").output
    assert "Bank\\u{1b}" in output
    assert not set(ESCAPES) & set(output)


def test_watch_approves_until_the_count_is_reached(
    run: Run, server: FakeServer, clock: MovingClock, enrolled: dict[str, Any]
) -> None:
    for _ in range(3):
        server.add_challenge(enrolled["device_public_key"])
    done = run("watch", "--auto-approve", "--count", "2")
    assert (done.exit_code, len(server.answers), done.stdout.count("Approved")) == (0, 2, 2)
    assert done.stderr.startswith("Watching http")


def test_watch_once_polls_once_and_leaves_number_matching_to_a_person(
    run: Run, server: FakeServer, enrolled: dict[str, Any]
) -> None:
    server.add_challenge(enrolled["device_public_key"], match_code="42")
    server.add_challenge(enrolled["device_public_key"])
    done = run("watch", "--auto-approve", "--once")
    assert (done.exit_code, len(server.answers), len(server.used_seconds)) == (0, 1, 1)
    assert "--match-code" in done.stderr


def test_watch_survives_an_overloaded_server_and_reports_a_bad_payload_once(
    run: Run, server: FakeServer, clock: MovingClock, enrolled: dict[str, Any]
) -> None:
    server.add_challenge(enrolled["device_public_key"])["nonce"] = "x"
    server.add_challenge(enrolled["device_public_key"])
    server.failures = [problem(503, "OVERLOADED"), problem(429, "RATE_LIMITED")]
    answered_after = server.clock() + 10
    server.handle = _late(server, answered_after)  # type: ignore[method-assign]
    done = run("watch", "--auto-approve", "--count", "1", "--interval", "3")
    assert (done.exit_code, len(server.answers)) == (0, 1)
    assert [done.stderr.count(code) for code in ("OVERLOADED", "RATE_LIMITED", "PAYLOAD_MALFORMED")] == [1, 1, 1]
    assert "INTERNAL" in done.stderr


def _late(server: FakeServer, at: float) -> Any:
    """A handler whose /respond fails before `at`."""
    handle = server.handle

    def late(method: str, path: str, body: bytes) -> tuple[int, bytes]:
        early = path == "/respond" and server.clock() < at
        return problem(500, "INTERNAL") if early else handle(method, path, body)

    return late


@pytest.mark.parametrize(
    ("status", "code"), [(404, "CHALLENGE_NOT_FOUND"), (409, "CHALLENGE_ALREADY_USED"), (410, "CHALLENGE_EXPIRED")]
)
def test_watch_continues_when_a_challenge_ended_meanwhile(
    run: Run, server: FakeServer, enrolled: dict[str, Any], status: int, code: str
) -> None:
    server.add_challenge(enrolled["device_public_key"])
    server.add_challenge(enrolled["device_public_key"])
    handle, refusals = server.handle, [problem(status, code)]

    def once_too_late(method: str, path: str, body: bytes) -> tuple[int, bytes]:
        return refusals.pop() if refusals and path == "/respond" else handle(method, path, body)

    server.handle = once_too_late  # type: ignore[method-assign]
    done = run("watch", "--auto-approve", "--count", "1")
    assert (done.exit_code, len(server.answers), done.stderr.count(code)) == (0, 1, 1)


def test_watch_prompts_on_a_terminal_and_no_rejects(run: Run, server: FakeServer, enrolled: dict[str, Any]) -> None:
    server.add_challenge(enrolled["device_public_key"], match_code="42")
    server.add_challenge(enrolled["device_public_key"])
    done = run("watch", "--count", "2", terminal=True, input="y\n42\nn\n")
    assert done.exit_code == 0
    assert [(item["decision"], item.get("reason")) for item in server.answers] == [
        ("approved", None),
        ("rejected", "cancelled"),
    ]


def test_watch_ends_on_a_permanent_error(run: Run, server: FakeServer, enrolled: dict[str, Any]) -> None:
    server.failures = [problem(401, "INVALID_SIGNATURE")] * 2
    assert run("watch", "--auto-approve").exit_code == 1


def test_keys_are_in_the_xdg_directory_by_default(
    run: Run, server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SIGIL_DEVICE_HOME")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    run("init", "--server", server.url, "--yes")
    assert len(list((tmp_path / "xdg/sigil/device").glob("*.json"))) == 1


def test_a_server_that_does_not_run_is_one_plain_line(run: Run, server: FakeServer) -> None:
    with FakeServer(server.clock) as gone:
        url = gone.url
    refused = run("init", "--server", url, "--yes")
    assert (refused.exit_code, refused.stderr) == (
        1,
        f"sigil: SERVER_UNREACHABLE: Nothing listens at {url}. Check the address and the port, and that the server "
        "runs.\n",
    )


def test_an_untrusted_certificate_names_the_options_for_it(run: Run, tls: Tls) -> None:
    refused = run("init", "--server", tls.url, "--yes")
    assert (refused.exit_code, refused.stderr) == (
        1,
        f"sigil: SERVER_UNREACHABLE: The certificate of {tls.url} is not trusted. Pass --ca FILE with the server's own "
        "certificate: its file is TLS_CERT_PATH on the server's host, by default /var/lib/sigil/tls/cert.pem (`make "
        "dev`: .dev/tls/cert.pem). Or pass --tls-pin SHA256.\n",
    )


def test_http_in_place_of_https_and_the_reverse_are_named(run: Run, tls: Tls, server: FakeServer) -> None:
    port = tls.url.rpartition(":")[2]
    plain = run("init", "--server", f"http://localhost:{port}", "--yes")
    assert (plain.exit_code, plain.stderr) == (
        1,
        f"sigil: SERVER_UNREACHABLE: http://localhost:{port} did not answer over plain http. If the server uses TLS, "
        "write https:// in place of http://.\n",
    )
    port = server.url.rpartition(":")[2]
    secure = run("init", "--server", f"https://localhost:{port}", "--yes")
    assert (secure.exit_code, secure.stderr) == (
        1,
        f"sigil: SERVER_UNREACHABLE: https://localhost:{port} does not speak TLS. Check the address and port, and "
        "that the server serves https there.\n",
    )


@pytest.mark.parametrize(
    ("decision", "status", "text"),
    [
        ("approved", "verified", "Approved: the challenge is verified."),
        ("approved", "recorded", "Approved: recorded, more groups are needed."),
        ("rejected", "rejected", "Rejected."),
        ("approved", "later", "Approved: later."),
    ],
)
def test_the_text_of_an_answer(decision: Decision, status: str, text: str) -> None:
    assert answer_text(decision, status) == text


@pytest.mark.parametrize(
    ("command", "peer", "hint"),
    [
        ("init", "server", "Pass --ca FILE"),
        ("register", "relay", "Pass --ca FILE"),
        ("register", "server", "This device trusts what 'sigil device init' was given."),
        ("pending", "server", "This device trusts what 'sigil device init' was given."),
    ],
)
def test_the_hint_for_a_certificate_names_options_of_the_command(command: str, peer: Peer, hint: str) -> None:
    error = CertificateUntrusted("The certificate of https://x.example is not trusted.", peer)
    with click.Context(click.Command(command), info_name=command):
        assert one_line(error).startswith(f"SERVER_UNREACHABLE: {error.fault} {hint}")
