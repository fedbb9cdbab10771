"""A push wakes the browser, a click on its notification opens the page, and the decision there reaches the backend."""

from __future__ import annotations

import os
import signal

from sigil.device import Device
from sigil.sdk import verify_votes
from tests.support.live import wait_until
from tests.support.live_relay import LiveRelay
from tests.support.providers import Providers

from .person import Person


def test_a_notification_leads_to_the_page_and_its_approval_is_verified(person: Person) -> None:
    created = person.challenged()
    person.opens_the_notification()
    person.sees("Do you approve this?")
    person.approves()
    person.sees("Approved")
    status = person.status(created)
    assert (status["status"], status["user_verification"]) == ("verified", True)


def test_a_rejection_needs_no_prompt_and_reaches_the_backend_with_its_reason(person: Person) -> None:
    created = person.challenged()
    person.opens_the_notification()
    person.sees("Do you approve this?")
    person.presses("Reject")
    person.sees("Why do you reject this?")
    person.chooses("Not now")
    person.sees("Rejected")
    status = person.status(created)
    assert (status["status"], status["reason"]) == ("rejected", "cancelled")


def test_the_number_of_the_backends_page_must_be_typed(person: Person) -> None:
    created = person.challenged(number_matching=True)
    number = created["match_code"]
    person.opens_the_notification()
    person.sees("Do you approve this?")
    person.types("#ask-code", f"{(int(number) + 1) % 100:02}")
    person.approves()
    person.browser.wait_for("//*[@id='ask-code-error' and contains(., 'You have 2 attempts left')]")
    person.types("#ask-code", number)
    person.approves()
    person.sees("Approved")
    assert person.status(created)["status"] == "verified"


def test_a_worker_that_is_killed_in_between_costs_nothing(person: Person) -> None:
    created = person.challenged()
    person.opens_the_notification()
    person.sees("Do you approve this?")
    killed = person.server.workers()
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(set(person.server.workers()) - set(killed)) == 2, "two new workers")
    person.approves()
    person.sees("Approved")
    assert person.status(created)["status"] == "verified"


def test_an_approval_request_of_one_browser_and_one_software_device(person: Person) -> None:
    device = Device.generate()
    created = person.requests_with(device.wire_key)
    path = f"/mpa/status/{created['request_id']}"
    person.opens_the_notification()
    person.sees("Do you approve this?")
    person.approves()
    person.sees("Your approval is recorded")
    context = person.server.get(path)["action_context"]
    vote = device.vote_body(created["mpa_id"], "approved", device.sign_vote(context, "approved"))
    person.server.post("/mpa/respond", vote)
    with person.server.authorised() as backend:
        content = backend.get(path).content
    verified = verify_votes(content, server_id=person.server.identity.server_id, required=2)
    assert verified.approved
    (proof,) = verified.user_verifications.values()
    assert proof is not None
    assert proof.origin == person.server.url


def test_a_subscription_that_died_is_evicted_and_the_page_registers_the_next_one(
    person: Person, push_relay: LiveRelay, providers: Providers
) -> None:
    person.opens()
    person.sees("Nothing to decide")
    before = person.registered_endpoint()
    person.unsubscribes()
    evicted = len(push_relay.events("token_evicted"))
    token = before.rpartition("/")[2]
    wait_until(lambda: token not in providers.subscriptions(), "the push service to learn of it")
    lost = person.challenged()
    wait_until(lambda: len(push_relay.events("token_evicted")) > evicted, "the eviction")
    assert person.browser.notifications() == []
    person.opens()
    person.sees("Do you approve this?")
    person.approves()
    person.sees("Approved")
    assert person.status(lost)["status"] == "verified"
    person.opens()
    person.sees("Nothing to decide")
    wait_until(lambda: person.registered_endpoint() != before, "the next registration")
    person.warms_up()


def test_the_time_of_a_challenge_ends_while_its_page_is_open(person: Person) -> None:
    created = person.challenged(expires_in_seconds=30)
    person.opens_the_notification()
    person.sees("Do you approve this?")
    person.sees("The request has expired")
    assert person.status(created)["status"] == "expired"
