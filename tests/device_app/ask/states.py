"""The deciding screens in each state: the tests examine them, and the sheets of docs/images show them."""

from __future__ import annotations

from collections.abc import Iterator

from .decider import Decider

PARAMS = {"to": "Northwind", "targets": ["eu-1", {"host": "db-1", "drain": True}], "note": ""}
_MANY = """{ screen: "ask_many", more: 2, item: { ...item, type: "approval", required: 2,
  rejectPolicy: "reject_on_first", params: [["requested_by", app.device.fingerprint]], numberMatching: false } }"""
_REJECTED = '{ status: "rejected" }'
_VOTE = '{ status: "recorded", groupsSatisfied: 1, groupsRequired: 2 }'
# JavaScript, in which `item` is the request of the open screen.
STATES = {
    "ask": '{ screen: "ask", item, more: 1 }',
    "ask_many": _MANY,
    "reason": '{ screen: "reason", item }',
    "approved": '{ screen: "done", decision: "approved", item, answer: { status: "verified" } }',
    "not mine": f'{{ screen: "done", decision: "rejected", reason: "unknown_trigger", item, answer: {_REJECTED} }}',
    "recorded": f'{{ screen: "done", decision: "approved", item: {{ ...item, type: "approval" }}, answer: {_VOTE} }}',
    "expired": '{ screen: "trouble", error: { code: "CHALLENGE_EXPIRED" } }',
    "unsigned": '{ screen: "trouble", error: { code: "CHECK_FAILED", details: { why: "SERVER_SIGNATURE_INVALID" } } }',
    "busy": '{ screen: "trouble", error: { code: "RATE_LIMITED", retryAfter: 9 }, retry: { screen: "ask", item } }',
}


def states(decider: Decider) -> Iterator[str]:
    """Opens one state after another; yields the name of each."""
    decider.challenge(action={"params": {"to": "Northwind Traders", "reference": "INV-2026-0417"}})
    decider.at_request()
    decider.opened()
    yield "request"
    decider.begin()
    decider.challenge(number_matching=True, action={"params": PARAMS})
    decider.at_request()
    decider.hold_item()
    for name, opened in STATES.items():
        decider.go(opened)
        yield {"ask": "number"}.get(name, name.replace(" ", "-").replace("ask_", ""))
