"""What a person sees of a request: everything that is signed, as text, and nothing that the server did not sign."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Route, expect

from .decider import Decider

ARABIC = "تسجيل الدخول"


def shown(decider: Decider) -> str:
    """The card of the request and the list of its parameters, as they are drawn."""
    return "\n".join(decider.page.locator(".request, .params").all_inner_texts())


def test_every_parameter_is_shown_with_its_kind(decider: Decider) -> None:
    params = {
        "amount": 9007199254740991,
        "empty": "",
        "flag": False,
        "nothing": None,
        "none of them": [],
        "no members": {},
        "yes": "yes",
        "targets": ["eu-1", {"host": "db-1", "ports": [80, 443], "drain": True}, ["nested"]],
    }
    decider.challenge(action={"params": params})
    decider.at_request()
    text = shown(decider)
    for value in ("9007199254740991", "empty text", "empty list", "no entries", "none", "eu-1", "db-1", "80", "nested"):
        assert value in text, value
    # The look distinguishes a value that is not text from the same letters as text.
    expect(decider.page.locator(".params .literal", has_text="yes")).to_have_count(1)
    expect(decider.page.locator(".params bdi", has_text="yes")).to_have_count(2)
    expect(decider.page.locator(".params .nested .nested > li")).to_have_text(["80", "443", "nested"])


def test_the_server_and_the_account_come_from_the_own_record(decider: Decider) -> None:
    decider.challenge()
    names = decider.server.get("/info")["server_pictogram_speakable"]
    decider.at_request().person.sees("Account: alice@example.com", names, "payment.approve")


def test_markup_is_text(decider: Decider) -> None:
    markup = "<img src=x onerror=alert(1)><b>Pay</b>"
    decider.challenge(action={"description": markup, "params": {markup: markup}})
    decider.at_request(markup)
    expect(decider.page.locator(".params dt")).to_have_text(markup)
    expect(decider.page.locator(".params dd")).to_have_text(markup)
    assert decider.page.locator("main b, main img[src=x]").count() == 0
    assert decider.person.dialogs == []


def test_long_values_are_shown_in_full_on_the_narrowest_phone(decider: Decider) -> None:
    deep: Any = "the deepest value"
    for _ in range(13):
        deep = {"m": deep}
    decider.page.set_viewport_size({"width": 320, "height": 640})
    decider.challenge(action={"description": "W" * 256, "params": {"N" * 60: "a" * 900, "deep": deep}})
    decider.at_request("W" * 256)
    assert decider.person.width_beyond_window() == 0
    assert ("a" * 900) in shown(decider)
    for box in decider.page.locator(".params bdi, .description").all():
        size = box.evaluate("(node) => [node.scrollWidth - node.clientWidth, node.scrollHeight - node.clientHeight]")
        assert max(size) <= 1 or box.evaluate("(node) => getComputedStyle(node).display") == "inline"
    decider.opened()


def test_the_direction_of_one_text_changes_no_other(decider: Decider) -> None:
    decider.challenge(action={"description": f"{ARABIC} 42", "params": {ARABIC: "100 EUR", "to": ARABIC}})
    decider.at_request(f"{ARABIC} 42")
    direction = "(node) => getComputedStyle(node).direction"
    assert decider.page.locator(".description").evaluate(direction) == "rtl"
    found = [node.evaluate(direction) for node in decider.page.locator(".params bdi").all()]
    assert found == ["ltr", "rtl", "rtl", "ltr"]


def _description(entry: dict[str, Any]) -> None:
    entry["action"]["description"] = "Pay 1.00 EUR to Northwind"


def _parameter(entry: dict[str, Any]) -> None:
    entry["action"]["params"]["iban"] = "DE00 0000"


def _extra_member(entry: dict[str, Any]) -> None:
    entry["action"]["note"] = "harmless"


def _number_matching(entry: dict[str, Any]) -> None:
    entry["number_matching"] = False


def _later(entry: dict[str, Any]) -> None:
    entry["expires_at"] = "2099-01-01T00:00:00Z"


def _answers_elsewhere(entry: dict[str, Any]) -> None:
    entry["respond_to"] = "https://evil.example/respond"


def _signature(entry: dict[str, Any]) -> None:
    entry["server_signature"] = ("B" if entry["server_signature"][0] == "A" else "A") + entry["server_signature"][1:]


TAMPERED: tuple[Callable[[dict[str, Any]], None], ...] = (
    _description,
    _parameter,
    _extra_member,
    _number_matching,
    _later,
    _answers_elsewhere,
    _signature,
)


class HostileProxy:
    """Between the page and the server: changes what is pending."""

    def __init__(self) -> None:
        self.change: Callable[[dict[str, Any]], None] = _description

    def __call__(self, route: Route) -> None:
        answer = route.fetch()
        body = answer.json()
        for entry in body.get("challenges", []):
            self.change(entry)
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
        route.fulfill(status=answer.status, headers={"Content-Type": "application/json"}, body=text)


def test_nothing_is_shown_that_the_server_did_not_sign_like_this(decider: Decider) -> None:
    proxy = HostileProxy()
    decider.intercept("/device/pending", proxy)
    decider.challenge(number_matching=True, action={"params": {"iban": "DE68 2105"}})
    seen = []
    for change in TAMPERED:
        proxy.change = change
        with decider.page.expect_response(lambda answer: answer.url.endswith("/device/pending") and answer.ok):
            decider.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        decider.person.sees("cannot be shown: it failed a check of this device")
        seen.append((change.__name__, decider.approve_button.count(), decider.page.get_by_text("Northwind").count()))
    assert seen == [(change.__name__, 0, 0) for change in TAMPERED]
    # The same list without a change is shown: it was the change that was rejected.
    proxy.change = dict
    decider.at_request()


def test_a_list_that_is_changed_later_changes_neither_what_is_shown_nor_what_is_signed(decider: Decider) -> None:
    created = decider.challenge()
    decider.at_request()
    decider.intercept("/device/pending", HostileProxy())
    with decider.page.expect_response("**/device/pending"):
        pass
    decider.at_request().approve()
    decider.at("Approved")
    assert decider.status(created)["action"]["description"] == "Pay 1,250.00 EUR to Northwind"


def test_an_unsigned_request_that_a_notification_named_is_explained(decider: Decider) -> None:
    decider.challenge()
    decider.at_request().go(
        '{ screen: "trouble", error: { code: "CHECK_FAILED", details: { why: "SERVER_SIGNATURE_INVALID" } } }'
    )
    decider.at("Do not trust what was received").person.sees("SERVER_SIGNATURE_INVALID")
