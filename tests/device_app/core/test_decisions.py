"""Inbox and decisions of the client, against a real server and with Chromium's virtual authenticator."""

from __future__ import annotations

from typing import Any

from .client_page import ClientPage


def test_a_challenge_is_fetched_checked_approved_and_verified(device: ClientPage) -> None:
    challenge = device.challenge(action={"params": {"10": 1, "9": {"to": ["Zoë", None, True]}}})
    item = device.fetch(challenge["challenge_id"])
    assert (item["action"], item["description"]) == ("payment.approve", "Pay 1,250.00 EUR to Northwind")
    assert [name for name, _ in item["params"]] == ["10", "9"]
    assert device.approve() == {"status": "verified"}
    assert device.server.get(f"/v1/auth/challenge/{challenge['challenge_id']}/status")["status"] == "verified"
    again = device.approve()
    assert (again["error"], again["code"]) == ("Problem", "CHALLENGE_ALREADY_USED")


def test_a_wrong_code_is_counted_and_the_right_one_approves(device: ClientPage) -> None:
    challenge = device.challenge(number_matching=True)
    assert device.fetch(challenge["challenge_id"])["numberMatching"] is True
    right = challenge["match_code"]
    wrong = f"{(int(right) + 1) % 100:02}"
    assert device.approve()["code"] == "MATCH_CODE_REQUIRED"
    for left in (2, 1):
        found = device.approve(matchCode=wrong)
        assert (found["code"], found["details"]) == ("MATCH_CODE_WRONG", {"triesLeft": left})
    assert device.approve(matchCode=right) == {"status": "verified"}


def test_a_rejection_needs_no_prompt_and_has_its_reason(device: ClientPage) -> None:
    challenge = device.challenge()
    device.fetch(challenge["challenge_id"])
    with device.removed_credentials():
        assert device.reject("cancelled") == {"status": "rejected"}
    assert device.server.get(f"/v1/auth/challenge/{challenge['challenge_id']}/status")["reason"] == "cancelled"


def test_an_approval_request_is_voted_on(device: ClientPage) -> None:
    created = device.approval_request(reject_policy="reject_on_first")
    item = device.fetch(created["mpa_id"])
    assert (item["type"], item["required"], item["rejectPolicy"]) == ("approval", 1, "reject_on_first")
    answer = device.approve()
    assert answer == {"status": "approved", "groupsSatisfied": 1, "groupsRequired": 1, "quorumReached": True}
    assert device.server.get(f"/mpa/status/{created['request_id']}")["status"] == "approved"


def test_a_lost_answer_is_sent_again_without_a_new_prompt(device: ClientPage) -> None:
    device.fetch(device.challenge()["challenge_id"])
    with device.answered("/respond", lambda route: route.abort()):
        lost = (
            "window.lost = await decisions.approve(server, record, item).catch((error) => error); return failed(lost)"
        )
        found = device.run(lost)
    assert (found["error"], found["reason"]) == ("Offline", "network")
    with device.removed_credentials():
        assert device.run("return lost.resend()") == {"status": "verified"}


def test_the_prompts_open_inside_the_click(device: ClientPage, undecided: str) -> None:
    """Safari has forgotten the click after an awaited fetch, so each call is made before the first `await`."""
    device.fetch(undecided)
    called = """
      const calls = [];
      const { create, get } = navigator.credentials;
      const refuse = (name) => () => (calls.push(name), Promise.reject(new DOMException("no", "NotAllowedError")));
      Object.assign(navigator.credentials, { create: refuse("create"), get: refuse("get") });
      const begun = [
        enrolment.makeKey(meeting), decisions.approve(server, record, item), enrolment.complete(server, meeting, key),
      ];
      const found = [...calls];
      Object.assign(navigator.credentials, { create, get });
      return [found, (await Promise.allSettled(begun)).map(({ reason }) => reason.name)];
    """
    assert device.run(called) == [["create", "get", "get"], ["AuthenticatorFailed"] * 3]


def test_an_authenticator_that_does_not_verify_its_user_signs_nothing(device: ClientPage, undecided: str) -> None:
    device.fetch(undecided)
    with device.unverified_user():
        found = device.approve()
    assert (found["error"], found["reason"] in {"cancelled", "removed"}) == ("AuthenticatorFailed", True)


def test_a_removed_credential_is_a_failure_of_the_authenticator(device: ClientPage, undecided: str) -> None:
    device.fetch(undecided)
    with device.removed_credentials():
        found = device.approve()
    assert (found["error"], found["reason"] in {"cancelled", "removed"}) == ("AuthenticatorFailed", True)


def test_the_errors_of_an_authenticator_are_distinguished(device: ClientPage, undecided: str) -> None:
    device.fetch(undecided)
    failing = """
      const { get } = navigator.credentials;
      const { now } = performance;
      const found = [];
      for (const [name, elapsed] of given) {
        let time = 0;
        performance.now = () => time;
        navigator.credentials.get = async () => { time = elapsed; throw new DOMException("no", name); };
        found.push((await decisions.approve(server, record, item).catch(failed)).reason);
      }
      Object.assign(navigator.credentials, { get });
      Object.assign(performance, { now });
      return found;
    """
    reasons = {
        ("NotAllowedError", 5000): "cancelled",
        ("NotAllowedError", 20): "removed",
        ("NotAllowedError", 120_000): "timeout",
        ("AbortError", 20): "cancelled",
        ("NotSupportedError", 20): "none",
        ("ConstraintError", 20): "none",
        ("SecurityError", 20): "failed",
    }
    assert device.run(failing, [list(case) for case in reasons]) == list(reasons.values())


def test_a_prompt_ends_with_its_screen(device: ClientPage, undecided: str) -> None:
    device.fetch(undecided)
    left = """
      const screen = new AbortController();
      const approved = decisions.approve(server, record, item, { signal: screen.signal }).catch(failed);
      screen.abort();
      return approved;
    """
    with device.absent_user():
        found = device.run(left)
    assert (found["error"], found["reason"]) == ("AuthenticatorFailed", "cancelled")


def test_an_answer_that_contradicts_the_decision_is_not_believed(device: ClientPage, undecided: str) -> None:
    device.fetch(undecided)
    counts = {"groups_satisfied": 1, "groups_required": 1, "quorum_reached": True}
    with device.answered("/mpa/respond", {"json": {"status": "rejected", **counts}}):
        assert device.approve()["code"] == "ANSWER_UNUSABLE"
    with device.answered("/mpa/respond", {"json": {"status": "approved", **counts}}):
        assert device.reject()["code"] == "ANSWER_UNUSABLE"
    respond = "return server.respond({ decision: given }).catch(failed)"
    for status in ("rejected", "verified"):
        with device.answered("/respond", {"json": {"status": status, "verified": False}}):
            assert device.run(respond, "approved")["code"] == "ANSWER_UNUSABLE"


def test_an_expired_request_is_not_signed(device: ClientPage, undecided: str) -> None:
    device.fetch(undecided)
    for decide in ("approve", "reject"):
        late = "const late = { now: () => item.expiresAt + 60_000 };"
        found = device.run(f"{late} return decisions.{decide}(late, record, item).catch(failed)")
        assert found["code"] == "CHALLENGE_EXPIRED"


def test_an_object_that_was_not_checked_is_not_signed(device: ClientPage, undecided: str) -> None:
    device.fetch(undecided)
    for decide in ("approve", "reject"):
        found = device.run(f"return decisions.{decide}(server, record, structuredClone(item)).catch(failed)")
        assert found["code"] == "NOT_CHECKED"


def test_a_payload_that_fails_a_check_is_reported_and_hides_no_other(device: ClientPage, undecided: str) -> None:
    other = device.approval_request()["mpa_id"]

    def tampered(route: Any) -> None:
        body = route.fetch().json()
        next(item for item in body["mpa"] if item["mpa_id"] == other)["expires_at"] = "2099-01-01T00:00:00Z"
        route.fulfill(json=body)

    with device.answered("/device/pending", tampered):
        found = device.run("return inbox.fetchPending(server, record)")
    assert found["rejected"] == [{"id": other, "why": "CONTEXT_MISMATCH"}]
    assert undecided in [item["id"] for item in found["items"]]


def test_two_requests_at_once_use_two_seconds(device: ClientPage) -> None:
    """As two tabs do: each (key, second) works once."""
    at_once = "return (await Promise.all([1, 2].map(() => inbox.fetchPending(server, record)))).length"
    assert device.run(at_once) == 2


def test_a_tab_that_holds_the_lock_for_too_long_is_no_reason_to_wait(device: ClientPage) -> None:
    held = """
      const { timeout } = AbortSignal;
      AbortSignal.timeout = () => AbortSignal.abort(new DOMException("late", "TimeoutError"));
      const found = await inbox.fetchPending(server, record).catch(failed);
      Object.assign(AbortSignal, { timeout });
      return found;
    """
    found = device.run(held)
    assert (found["error"], found["reason"]) == ("Offline", "timeout")


def test_a_second_is_used_once_and_after_a_401_the_next_one(device: ClientPage) -> None:
    """With a clock of the test, so that nothing waits."""
    use = """
      const used = [];
      // Later than every second that this page has used.
      let now = Date.now() + 600_000;
      const answers = [401, 401];
      const { Problem } = await at("client/errors");
      const pending = async ({ timestamp }) => {
        used.push(timestamp);
        if (answers.length) throw new Problem(answers.pop(), "INVALID_SIGNATURE");
        return { challenges: [], approvals: [] };
      };
      const clock = { now: () => (now += 400), pending };
      const first = await inbox.fetchPending(clock, record).catch(failed);
      await inbox.fetchPending(clock, record);
      return [first.code, used];
    """
    code, used = device.run(use)
    assert code == "INVALID_SIGNATURE"
    assert len(used) == len(set(used)) == 3


def test_a_local_key_cannot_be_exported(device: ClientPage) -> None:
    exported = """
      const attempt = (format) => crypto.subtle.exportKey(format, record.localKey).then(() => format, () => null);
      return Promise.all(["raw", "pkcs8", "jwk", "spki"].map(attempt));
    """
    assert device.run(exported) == [None] * 4
    assert device.run("return [record.localKey.extractable, record.localKey.usages]") == [False, ["sign"]]
