"""Approve opens after all of the request was in view, and the page then was visible and focused for 600 ms."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect

from .decider import Decider

LONG = {"params": {f"line {number}": "a value" for number in range(40)}}
_BLUR = """() => {
  document.hasFocus = () => false;
  window.dispatchEvent(new Event("blur"));
}"""
_FOCUS = """() => {
  delete document.hasFocus;
  window.dispatchEvent(new Event("focus"));
}"""
_HIDE = """() => {
  Object.defineProperty(document, "visibilityState", { value: "hidden", configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""
_SHOW = """() => {
  delete document.visibilityState;
  document.dispatchEvent(new Event("visibilitychange"));
}"""


_COUNT_PROMPTS = """() => {
  window.prompts = 0;
  navigator.credentials.get = () => new Promise(() => window.prompts++);
}"""
_END_BEHIND_THE_BUTTONS = """() => new Promise((done) => {
  const { top } = document.querySelector(".request-end").getBoundingClientRect();
  window.scrollBy({ top: top - window.innerHeight + 40, behavior: "instant" });
  requestAnimationFrame(() => requestAnimationFrame(done));
})"""


def is_open(decider: Decider) -> bool:
    return decider.approve_button.get_attribute("aria-disabled") == "false"


def seen(decider: Decider) -> None:
    """The observer of the browser has reported that the end is in view; its time has not run yet."""
    expect(decider.page.get_by_role("button", name="Read on")).to_be_hidden()


def stopped(decider: Decider, **challenge: Any) -> Decider:
    """A request that has just opened, in a page whose timers stand still."""
    decider.challenge(**challenge)
    decider.at_request()
    decider.stop_timers()
    decider.go('{ screen: "ask", item }')
    decider.at_request()
    return decider


def test_it_opens_after_600_milliseconds_and_not_before(decider: Decider) -> None:
    seen(stopped(decider))
    decider.page.evaluate(_COUNT_PROMPTS)
    decider.run_timers(599)
    assert not is_open(decider)
    decider.approve_button.click(force=True)
    assert decider.page.evaluate("window.prompts") == 0
    decider.run_timers(1)
    assert is_open(decider)


@pytest.mark.parametrize(("lose", "regain"), [(_BLUR, _FOCUS), (_HIDE, _SHOW)], ids=["focus", "visibility"])
def test_it_closes_when_the_window_loses_its_focus_and_begins_again(decider: Decider, lose: str, regain: str) -> None:
    seen(stopped(decider))
    decider.run_timers(599)
    decider.page.evaluate(lose)
    decider.person.sees("Select this window to continue.")
    decider.run_timers(2000)
    assert not is_open(decider)
    decider.page.evaluate(regain)
    decider.run_timers(599)
    assert not is_open(decider)
    decider.run_timers(1)
    assert is_open(decider)
    decider.page.evaluate(lose)
    assert not is_open(decider)


def test_a_click_is_dropped_when_the_focus_was_lost_without_an_event(decider: Decider) -> None:
    seen(stopped(decider))
    decider.run_timers(600)
    decider.page.evaluate(_COUNT_PROMPTS)
    decider.page.evaluate("() => void (document.hasFocus = () => false)")
    decider.approve_button.click()
    assert decider.page.evaluate("window.prompts") == 0


def test_what_is_below_must_have_been_in_view(decider: Decider) -> None:
    """Also for what the fixed buttons cover; the button "Read on" is enough, with the keyboard too."""
    stopped(decider, action=LONG)
    decider.run_timers(5000)
    decider.person.sees("Read to the end, then you can approve.")
    assert not is_open(decider)
    decider.page.emulate_media(reduced_motion="reduce")
    read = decider.page.get_by_role("button", name="Read on")
    decider.page.evaluate(_END_BEHIND_THE_BUTTONS)
    decider.run_timers(600)
    expect(read).to_be_visible()
    assert not is_open(decider)
    decider.page.evaluate("window.scrollTo(0, 0)")
    read.focus()
    covered = """() => document.querySelector(".request-end").getBoundingClientRect().bottom
      > document.querySelector(".actions").getBoundingClientRect().top"""
    while read.is_visible():
        assert not is_open(decider)
        decider.page.keyboard.press("Enter")
    assert not decider.page.evaluate(covered)
    decider.run_timers(600)
    assert is_open(decider)


def test_another_content_for_the_same_request_begins_again(decider: Decider) -> None:
    """A poll lists the id with other content, all of it signed: it is shown from its beginning, Approve closed."""
    seen(stopped(decider))
    decider.run_timers(600)
    assert is_open(decider)
    decider.page.evaluate(_OTHER_CONTENT)
    decider.at_request("Pay 9,999.00 EUR to Northwind")
    assert not is_open(decider)


_OTHER_CONTENT = """async () => {
  const { app } = await import("/assets/device/app.js");
  const { sameOrOther } = await import("/assets/device/screens/ask/watch.js");
  const { item } = app.state;
  app.go(sameOrOther(item, { ...item, description: "Pay 9,999.00 EUR to Northwind" }, 0));
}"""


def test_read_on_returns_to_the_last_line_where_a_jump_has_skipped_it(decider: Decider) -> None:
    decider.challenge(number_matching=True, action=LONG)
    decider.at_request()
    decider.page.set_viewport_size({"width": 844, "height": 300})
    decider.page.emulate_media(reduced_motion="reduce")
    decider.page.evaluate("window.scrollTo({ top: document.documentElement.scrollHeight, behavior: 'instant' })")
    decider.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    read = decider.page.get_by_role("button", name="Read on")
    expect(read).to_be_visible()
    read.click()
    expect(read).to_be_hidden()
