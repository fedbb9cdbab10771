"""Decisions on a challenge: approve and reject, the two digits, the prompt, and what ends an open request."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from .decider import NOT_MINE, REASON, Decider

CLOSED_PROMPT = """() => void (navigator.credentials.get = () => new Promise((_, refuse) => {
  window.closePrompt = () => refuse(new DOMException("", "NotAllowedError"));
}))"""


def test_an_approval_reaches_the_server_and_the_list_of_this_browser(decider: Decider) -> None:
    created = decider.challenge()
    decider.at_request()
    # The list has announced that it waits.
    expect(decider.page.locator("#announcement")).to_be_empty()
    decider.approve()
    decider.at("Approved")
    assert decider.status(created)["status"] == "verified"
    kept = decider.kept()[0]
    assert (kept["id"], kept["outcome"]) == (created["challenge_id"], "approved")
    assert (kept["type"], kept["description"]) == ("payment.approve", "Pay 1,250.00 EUR to Northwind")
    decider.person.click("Done")
    decider.at("Nothing to decide")


@pytest.mark.parametrize(
    ("choice", "reason"), [("Not now", "cancelled"), ("Reject without a reason", None), (NOT_MINE, "unknown_trigger")]
)
def test_each_rejection_has_its_reason(
    new_decider: Callable[..., Decider], decider: Decider, choice: str, reason: str | None
) -> None:
    # The pause that follows "I did not ask for this" would end the tests after it.
    person = new_decider() if reason == "unknown_trigger" else decider
    created = person.challenge()
    person.at_request().reject(choice)
    person.at("Rejected")
    status = person.status(created)
    assert (status["status"], status.get("reason")) == ("rejected", reason)
    assert person.kept()[0]["outcome"] == ("unknown_trigger" if reason == "unknown_trigger" else "rejected")
    paused = person.page.get_by_text("paused for a while")
    expect(paused).to_have_count(1 if reason == "unknown_trigger" else 0)


def test_back_from_the_reasons_sends_nothing(decider: Decider) -> None:
    created = decider.challenge()
    decider.at_request().person.click("Reject")
    decider.at(REASON).person.click("Back to the request")
    decider.at_request()
    assert decider.status(created)["status"] == "pending"


def test_the_two_digits_open_approve_and_are_signed(decider: Decider) -> None:
    created = decider.challenge(number_matching=True)
    decider.at_request()
    field = decider.person.field("Two-digit number")
    expect(field).to_have_attribute("inputmode", "numeric")
    decider.page.evaluate("window.scrollTo(0, document.documentElement.scrollHeight)")
    decider.person.sees("Type the two digits, then you can approve.")
    expect(decider.approve_button).to_have_attribute("aria-disabled", "true")
    field.press_sequentially(f"x{created['match_code']}")
    decider.approve()
    decider.at("Approved")
    assert decider.status(created)["status"] == "verified"


def test_a_wrong_number_says_how_many_attempts_are_left_and_the_third_rejects(decider: Decider) -> None:
    created = decider.challenge(number_matching=True)
    decider.at_request()
    field = decider.person.field("Two-digit number")
    wrong = f"{(int(created['match_code']) + 1) % 100:02d}"
    for left in ("2 attempts", "1 attempt"):
        field.fill(wrong)
        decider.approve()
        decider.person.sees(f"That is not the number on the page. You have {left} left.")
        expect(field).to_be_focused()
        expect(field).to_have_value("")
        assert decider.status(created)["status"] == "pending"
    field.press_sequentially(wrong)
    decider.opened()
    field.press("Enter")
    decider.at("Rejected: three wrong numbers")
    assert decider.status(created)["reason"] == "wrong_code"
    assert decider.kept()[0]["outcome"] == "rejected"


def test_a_prompt_that_is_closed_sends_nothing_and_can_be_repeated(decider: Decider) -> None:
    created = decider.challenge()
    decider.at_request().opened()
    decider.page.evaluate(CLOSED_PROMPT)
    decider.approve_button.click()
    decider.page.wait_for_function("() => window.closePrompt")
    # Longer than a browser takes to refuse by itself.
    decider.page.evaluate(
        "() => { const now = performance.now() + 60_000; performance.now = () => now; closePrompt(); }"
    )
    decider.person.sees("You did not confirm, so nothing was sent. You can try again or reject.")
    assert decider.status(created)["status"] == "pending"
    decider.page.evaluate("() => void delete navigator.credentials.get")
    decider.approve()
    decider.at("Approved")


def test_a_refused_user_verification_sends_nothing_and_can_be_repeated(decider: Decider) -> None:
    created = decider.challenge()
    decider.at_request().verify_user(False)
    decider.approve()
    decider.person.sees(re.compile("nothing was sent", re.IGNORECASE))
    assert decider.status(created)["status"] == "pending"
    decider.verify_user(True)
    decider.approve()
    decider.at("Approved")


def test_while_the_prompt_is_open_the_page_explains_it_and_both_buttons_are_closed(decider: Decider) -> None:
    decider.challenge()
    decider.at_request().opened()
    decider.page.evaluate("() => void (navigator.credentials.get = () => new Promise(() => {}))")
    decider.approve_button.click()
    decider.person.sees("Confirm with your fingerprint, your face or the screen lock.")
    for name in ("Approve", "Reject"):
        expect(decider.page.get_by_role("button", name=name)).to_have_attribute("aria-disabled", "true")


def test_leaving_the_screen_closes_the_prompt(decider: Decider) -> None:
    decider.challenge()
    decider.at_request().opened()
    decider.page.evaluate(
        "() => void (navigator.credentials.get = ({ signal }) => new Promise((_, no) => { signal.onabort = () => {"
        " window.closed_ = true; no(new DOMException('', 'AbortError')); }; }))"
    )
    decider.approve_button.click()
    decider.page.go_back()
    decider.page.wait_for_function("() => window.closed_")


def test_a_request_that_another_tab_answers_closes_by_itself(decider: Decider) -> None:
    decider.challenge()
    decider.at_request()
    other = decider.person.context.new_page()
    other.goto(f"{decider.person.origin}/device/")
    other.get_by_role("button", name="Reject").click()
    other.get_by_role("button", name="Not now").click()
    expect(other.get_by_role("heading", level=1)).to_have_text("Rejected")
    other.close()
    decider.page.bring_to_front()
    decider.at("The request is no longer open").person.click("Back to the overview")
    decider.at("Nothing to decide")


def test_a_request_that_is_withdrawn_while_the_reasons_are_open_closes_too(decider: Decider) -> None:
    created = decider.challenge()
    decider.at_request().person.click("Reject")
    decider.at(REASON).withdraw(created)
    decider.at("The request is no longer open")


def test_several_requests_are_decided_one_at_a_time(decider: Decider) -> None:
    for payee in ("Northwind", "Contoso"):
        decider.challenge(action={"description": f"Pay {payee}"})
    decider.page.reload()
    decider.at("2 requests wait for you").page.get_by_role("button", name="Pay Northwind").click()
    decider.at_request("Pay Northwind").person.sees("1 more request is waiting after this one.")
    decider.approve()
    decider.at("Approved").person.click("Done")
    decider.at_request("Pay Contoso")
    expect(decider.page.get_by_text("waiting after this one")).to_be_hidden()


def test_a_browser_that_keeps_nothing_still_shows_the_outcome(decider: Decider) -> None:
    decider.challenge()
    decider.at_request().opened()
    decider.page.evaluate(
        "async () => { (await import('/assets/device/app.js')).app.store.addDecision = async () => {"
        " throw new Error('full'); }; }"
    )
    decider.approve()
    decider.at("Approved")
    assert [text for text in decider.person.offences if "did not keep" in text]
    decider.person.offences.clear()


def test_the_list_returns_by_itself_unless_the_page_is_used(decider: Decider) -> None:
    decider.challenge()
    decider.at_request().stop_timers()
    decider.go('{ screen: "done", decision: "approved", item, answer: { status: "verified" } }')
    decider.at("Approved").run_timers(9_900)
    decider.at("Approved").run_timers(200)
    decider.person.opened()
    expect(decider.page.get_by_role("heading", level=1)).not_to_have_text("Approved")


@pytest.mark.parametrize("why", ["keydown", "pointerdown", "reduced motion"])
def test_reading_the_outcome_has_no_time_limit(decider: Decider, why: str) -> None:
    decider.challenge()
    decider.at_request()
    if why == "reduced motion":
        decider.page.emulate_media(reduced_motion="reduce")
    decider.stop_timers()
    decider.go('{ screen: "done", decision: "approved", item, answer: { status: "verified" } }')
    decider.at("Approved")
    if why != "reduced motion":
        decider.page.evaluate("(name) => window.dispatchEvent(new Event(name))", why)
    decider.run_timers(600_000)
    decider.at("Approved")
