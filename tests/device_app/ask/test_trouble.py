"""Every error that a decision can meet: its words, and its one next step."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Route, expect

import sigil
from sigil.protocol import errors

from .decider import REASON, Decider

TROUBLE = Path(sigil.__file__).parent / "pages/device/screens/ask/trouble.js"
AGAIN, LIST, ENROL = "Try again", "Back to the overview", "Add it again"

# (HTTP status, code, headers, heading, next step)
ANSWERS = (
    (409, "CHALLENGE_ALREADY_USED", "This request has an answer already", LIST),
    (410, "CHALLENGE_EXPIRED", "The request has expired", LIST),
    (404, "CHALLENGE_NOT_FOUND", "The request has ended", LIST),
    (409, "MPA_CLOSED", "The request has ended", LIST),
    (403, "NOT_ELIGIBLE", "This device may not approve it", LIST),
    (403, "ATTESTATION_REQUIRED", "This server needs another device", LIST),
    (401, "INVALID_SIGNATURE", "The server did not accept the signature", ENROL),
    (503, "OVERLOADED", "The server cannot answer now", AGAIN),
    (500, "INTERNAL", "The server cannot answer now", AGAIN),
    (400, "INVALID_REQUEST", "That did not work", AGAIN),
)


def test_each_error_of_the_server_has_its_words_and_one_step(decider: Decider) -> None:
    created = decider.challenge()
    decider.at_request()
    seen = []
    for status, code, _, _ in ANSWERS:
        decider.answer("/respond", status, code)
        decider.reject("Not now")
        decider.person.opened()
        expect(decider.page.locator(".mark")).to_be_visible()
        actions = decider.page.locator(".actions button").all_inner_texts()
        seen.append((status, code, decider.page.get_by_role("heading", level=1).inner_text(), *actions))
        decider.go('{ screen: "ask", item: app.state.retry.item }')
        decider.at_request()
    assert seen == [*ANSWERS]
    assert decider.status(created)["status"] == "pending"


def test_the_outcome_of_an_answered_request_is_shown(decider: Decider) -> None:
    decider.challenge()
    decider.answer("/respond", 409, "CHALLENGE_ALREADY_USED", status="verified", decision="approved")
    decider.at_request().reject("Not now")
    decider.at("This request has an answer already").person.sees("It was approved.")


def test_a_rate_limit_says_how_long_to_wait_and_the_same_request_opens_again(decider: Decider) -> None:
    created = decider.challenge()
    decider.answer("/respond", 429, "RATE_LIMITED", {"Retry-After": "7"})
    decider.at_request().approve()
    decider.at("Too many attempts").person.sees("Wait 7 seconds, then try again.")
    decider.page.unroute_all()
    decider.person.click(AGAIN)
    decider.at_request().approve()
    decider.at("Approved")
    assert decider.status(created)["status"] == "verified"


def test_a_lost_answer_is_sent_again_without_a_second_prompt(decider: Decider) -> None:
    created = decider.challenge()
    decider.intercept("/respond", lambda route: route.abort())
    decider.at_request().approve()
    decider.at("No answer from the server")
    decider.person.click(AGAIN)
    decider.at("No answer from the server")
    decider.page.unroute_all()
    decider.verify_user(False)
    decider.person.click(AGAIN)
    decider.at("Approved")
    assert decider.status(created)["status"] == "verified"
    decider.person.offences.clear()


def test_an_answer_that_was_lost_on_its_way_back_is_not_given_twice(decider: Decider) -> None:
    decider.challenge()

    def lose(route: Route) -> None:
        route.fetch()
        route.abort()

    decider.intercept("/respond", lose)
    decider.at_request().approve()
    decider.at("No answer from the server")
    decider.page.unroute_all()
    decider.person.click(AGAIN)
    decider.at("This request has an answer already").person.sees("It was approved.")
    decider.person.offences.clear()


def test_expiry_while_it_is_open_closes_the_buttons_at_once(decider: Decider) -> None:
    decider.challenge()
    decider.at_request().opened()
    decider.page.evaluate(_PASS_TIME, 301_000)
    decider.at("The request has expired")
    expect(decider.approve_button).to_have_count(0)
    expect(decider.page.get_by_role("button", name=LIST)).to_be_visible()


def test_expiry_while_the_reasons_are_open_closes_them(decider: Decider) -> None:
    decider.challenge()
    decider.at_request().person.click("Reject")
    decider.page.evaluate(_PASS_TIME, 301_000)
    decider.at("The request has expired")


def test_the_time_left_is_drawn_each_second_and_announced_at_steps(decider: Decider) -> None:
    decider.challenge(expires_in_seconds=300)
    decider.at_request()
    decider.page.evaluate(_PASS_TIME, 240_000)
    timer = decider.page.get_by_role("timer")
    expect(timer).to_have_text(re.compile(r"Time left 0:[0-5]\d"))
    expect(timer).to_have_attribute("aria-live", "off")
    decider.page.evaluate(_PASS_TIME, 25_000)
    expect(decider.page.locator("#announcement")).to_have_text(re.compile("(30|10) seconds left"))
    expect(timer).to_have_class(re.compile("soon"))
    # On the next screen it would be wrong.
    decider.person.click("Reject")
    decider.at(REASON)
    expect(decider.page.locator("#announcement")).to_be_empty()


_PASS_TIME = """async (milliseconds) => {
  const { app } = await import("/assets/device/app.js");
  const now = app.now.bind(app);
  app.now = () => now() + milliseconds;
  document.dispatchEvent(new Event("visibilitychange"));
}"""


def test_a_removed_key_leads_to_a_new_enrolment_after_a_second_attempt(new_decider: Callable[..., Decider]) -> None:
    decider = new_decider()
    decider.challenge()
    decider.at_request().opened()
    decider.page.evaluate(
        "() => void (navigator.credentials.get = async () => { throw new DOMException('', 'NotAllowedError'); })"
    )
    decider.approve()
    decider.person.sees("Your device did not open its prompt.")
    decider.approve()
    decider.at("The key of this device is gone").person.click(ENROL)
    decider.at("This device must be added again")


def test_a_worker_that_was_killed_in_between_takes_no_decision_along(decider: Decider) -> None:
    created = decider.challenge()
    decider.at_request().opened()
    decider.page.wait_for_function("() => navigator.serviceWorker.ready.then(() => true)")
    decider.person.cdp.send("ServiceWorker.enable")
    decider.person.cdp.send("ServiceWorker.stopAllWorkers")
    decider.approve()
    decider.at("Approved")
    assert decider.status(created)["status"] == "verified"


@pytest.mark.parametrize("name", ["en", "de", "fr"])
def test_each_meaning_has_a_title_and_a_text(name: str) -> None:
    texts = (TROUBLE.parents[2] / f"texts/{name}/ask.js").read_text()
    script = TROUBLE.read_text()
    table = script[script.index("const MEANINGS") : script.index("const STEPS")]
    meanings = {*re.findall(r': "([a-z_]+)"', table), "server", "unexpected"}
    assert len(meanings) > 12
    for meaning in meanings:
        assert f'"trouble.{meaning}"' in texts
        assert f'"trouble.{meaning}_text"' in texts


def test_the_codes_of_the_table_are_those_of_the_protocol() -> None:
    script = TROUBLE.read_text()
    ours = {"NO_LONGER_PENDING", "CHECK_FAILED", "MATCH_CODE_WRONG", "OFFLINE"}
    known = {one.code for one in vars(errors).values() if isinstance(one, type) and hasattr(one, "code")}
    table = script[script.index("const MEANINGS") : script.index("const OF_THE_KEY")]
    assert {*re.findall(r"^  ([A-Z_]+):", table, re.MULTILINE)} - ours <= known
