"""The worker: each push shows one notification with a reference alone, and the app opens without a connection."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Browser, Route, expect

from tests.device_app.person import DeviceServer, Person
from tests.support.live import wait_until

from .background import Background, push_of

FIRST, SECOND = "11111111-2222-4333-8444-555555555555", "66666666-7777-4888-9999-aaaaaaaaaaaa"
RELAY = "http://127.0.0.1:9"
BODY = "A request waits for your answer"
CACHED = """async () => {
  const found = {};
  for (const name of await caches.keys()) {
    found[name] = (await (await caches.open(name)).keys()).map((request) => new URL(request.url).pathname);
  }
  return found;
}"""
REPLACED = """async () => {
  const { Store } = await import("/assets/device/storage/store.js");
  return (await (await Store.open()).get("replaced")) ?? 0;
}"""
REGISTERED = """async (pushes) => {
  const { Store } = await import("/assets/device/storage/store.js");
  const store = await Store.open();
  const { fingerprint } = await store.device();
  const registration = { endpoint: "https://push.example/1", token: "", at: Date.now() };
  await store.changeDevice(fingerprint, { registration });
  await store.set("pushes", pushes);
}"""


NO_CACHE = """() => {
  const refuse = async () => { throw new DOMException("full", "QuotaExceededError"); };
  Cache.prototype.put = refuse;
}"""
CLOSED_CACHE = "() => { CacheStorage.prototype.open = async () => { throw new DOMException('', 'SecurityError'); }; }"
SLOW = """() => {
  AbortSignal.timeout = (milliseconds) => {
    const stop = new AbortController();
    if (milliseconds <= 5000) stop.abort();
    return stop.signal;
  };
}"""
FORGET = "async () => Promise.all((await caches.keys()).map((name) => caches.delete(name)))"


@pytest.fixture
def background(person: Person) -> Background:
    person.enrol_by_api()
    # The list closes notifications of requests that are not pending: these tests look at the worker alone.
    person.click("Settings")
    person.at("Settings")
    return Background(person)


def test_a_push_shows_the_server_and_never_what_it_carries(background: Background) -> None:
    background.push(push_of(FIRST, title="Pay 1,250.00 EUR", body="to Mallory"))
    assert background.shows(FIRST) == [{"title": "Sigil", "body": BODY, "tag": FIRST}]
    background.push(push_of(FIRST))
    background.push(push_of(SECOND))
    assert len(background.shows(FIRST, SECOND)) == 2, "one notification for each id"


def test_a_request_without_its_push_replaces_the_subscription(
    new_person: Callable[..., Person], relayed: DeviceServer
) -> None:
    """A dead subscription, which only the push service and the relay know of."""
    for pushed in (True, False):
        person = new_person(at=relayed, other_origins=(RELAY,))
        # The relay is overloaded.
        person.context.route(f"{RELAY}/**", lambda route: route.fulfill(status=503))
        key = person.enrol_by_api()
        background = Background(person)
        challenge_id = relayed.challenge(key)["challenge_id"]
        person.page.evaluate(REGISTERED, [])
        person.page.clock.install()
        person.open()
        expect(person.page.get_by_role("button", name="Approve")).to_be_visible()
        if pushed:
            background.push(push_of(challenge_id))
            background.shows(challenge_id)
            remembered = "async () => (await import('/assets/device/app.js')).app.store.get('pushes')"
            wait_until(lambda: person.page.evaluate(remembered) == [challenge_id], "the push to be remembered")  # noqa: B023
        person.page.clock.fast_forward(25_000)
        if pushed:
            # Nothing follows, so a later store has nothing either.
            assert person.page.evaluate(REPLACED) == 0
        else:
            wait_until(lambda: person.page.evaluate(REPLACED) > 0, "a new subscription")  # noqa: B023


def test_notifications_that_were_turned_off_stay_off_while_the_relay_is_unreachable(
    new_person: Callable[..., Person], relayed: DeviceServer
) -> None:
    person = new_person(at=relayed, other_origins=(RELAY,))
    person.context.route(f"{RELAY}/**", lambda route: route.fulfill(status=503))
    key = person.enrol_by_api()
    Background(person)
    person.page.evaluate(REGISTERED, [])
    person.open().opened()
    person.click("Settings")
    person.click("Turn off")
    stored = "async () => (await import('/assets/device/app.js')).app.store.device()"
    wait_until(lambda: person.page.evaluate(stored)["registration"] is None, "the end of the registration")
    # One that a worker stores at the same moment.
    person.page.evaluate(REGISTERED, [])
    relayed.challenge(key)
    person.page.clock.install()
    person.open()
    expect(person.page.get_by_role("button", name="Approve")).to_be_visible()
    person.page.clock.fast_forward(25_000)
    assert [person.page.evaluate(REPLACED) for _ in range(5)] == [0] * 5


def test_the_key_that_a_new_enrolment_replaces_gets_no_more_pushes(
    new_person: Callable[..., Person], relayed: DeviceServer
) -> None:
    person = new_person(at=relayed, other_origins=(RELAY,))
    unregistered: list[str] = []

    def relay(route: Route) -> None:
        if route.request.method == "POST":
            unregistered.append(route.request.post_data_json["device_public_key"])
        challenge = {"challenge_id": "00" * 32, "nonce": base64.b64encode(bytes(32)).decode()}
        headers = {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Headers": "content-type"}
        route.fulfill(json=challenge, headers=headers)

    key = person.enrol_by_api()
    person.page.evaluate(REGISTERED, [])
    person.open().at("Nothing to decide")
    person.context.route(f"{RELAY}/devices/**", relay)
    person.page.evaluate(
        """async () => {
          const { app } = await import("/assets/device/app.js");
          await app.adopt({ ...app.device, fingerprint: "0".repeat(64) });
        }"""
    )
    wait_until(lambda: person.page.evaluate("1") and unregistered, "the former key to be unregistered")
    assert unregistered == [key]


def test_an_app_that_stays_open_follows_the_relay_and_registers_again(
    new_person: Callable[..., Person], relayed: DeviceServer
) -> None:
    person = new_person(at=relayed, other_origins=(RELAY,))
    requested: list[str] = []
    person.context.route(f"{RELAY}/**", lambda route: (requested.append(route.request.url), route.fulfill(status=503)))
    person.enrol_by_api()
    Background(person)
    # The relay had another address when this device was enrolled.
    person.page.evaluate(
        """async () => {
          const { app } = await import("/assets/device/app.js");
          await app.change({ relayUrl: "https://former.example" });
        }"""
    )
    requested.clear()
    person.page.clock.install()
    person.open().at("Nothing to decide")
    wait_until(lambda: person.page.evaluate("0") == 0 and requested, "a request to the relay of now")
    requested.clear()
    person.page.clock.fast_forward(3_700_000)
    wait_until(lambda: person.page.evaluate("0") == 0 and requested, "a registration an hour later")


def test_the_list_pauses_as_long_as_the_server_demands(person: Person) -> None:
    person.enrol_by_api()
    person.at("Nothing to decide")
    requested: list[str] = []
    person.context.route(
        "**/device/pending",
        lambda route: (requested.append(route.request.url), route.fulfill(status=429, headers={"retry-after": "40"})),
    )
    person.page.clock.install()
    person.open()
    wait_until(lambda: person.page.evaluate("0") == 0 and requested, "the first request")
    person.sees("busy")
    # By seconds: between them the page has the time to send what is due.
    for _ in range(35):
        person.page.clock.run_for(1_000)
    assert len(requested) == 1
    person.page.clock.run_for(10_000)
    wait_until(lambda: person.page.evaluate("0") == 0 and len(requested) == 2, "the next request")


def test_each_push_shows_a_notification_since_browsers_revoke_silent_ones(background: Background) -> None:
    for data in ("", "no JSON", "null", "[]", '{"notification":{"data":{"id":"<b>","until":"x"}}}'):
        background.push(data)
        assert background.shows("request")[0]["body"] == BODY, data
        background.close_all()
        background.shows()


def test_the_next_push_closes_notifications_of_requests_that_have_ended(background: Background) -> None:
    background.push(push_of(FIRST, until=1_700_000_000))
    background.shows(FIRST)
    background.push(push_of(SECOND))
    background.shows(SECOND)


def test_a_stopped_worker_wakes_for_a_push_and_uses_the_language_of_the_settings(
    person: Person, background: Background
) -> None:
    person.page.get_by_label("Language").select_option("de")
    person.at("Einstellungen")
    background.stop()
    background.push(push_of(FIRST))
    assert background.shows(FIRST)[0]["body"] == "Eine Anfrage wartet auf Ihre Antwort"


def test_a_click_opens_the_request_in_the_open_window(
    person: Person, background: Background, server: DeviceServer
) -> None:
    challenge_id = server.challenge(person.public_key())["challenge_id"]
    server.challenge(person.public_key())
    background.push(push_of(challenge_id))
    background.shows(challenge_id)
    assert background.click(challenge_id) == ["focus"]
    # There are two, so neither opens by itself: this is the one of the notification.
    expect(person.page.get_by_role("button", name="Approve")).to_be_visible()
    background.shows()


def test_a_click_without_a_window_opens_one_at_the_request(person: Person, background: Background) -> None:
    background.push(push_of(FIRST))
    background.shows(FIRST)
    worker = person.context.service_workers[-1]
    worker.evaluate("() => { Clients.prototype.matchAll = async () => []; }")
    assert background.click(FIRST) == [f"/device/#{FIRST}"]


def test_the_address_of_a_notification_opens_its_request_or_reports_its_end(
    person: Person, background: Background, server: DeviceServer
) -> None:
    made = [server.challenge(person.public_key())["challenge_id"] for _ in range(2)]
    person.open("/").open(f"/device/#{made[1]}")
    expect(person.page.get_by_role("button", name="Approve")).to_be_visible()
    person.open("/").open(f"/device/#{FIRST}").sees("That request has ended.")
    assert person.page.evaluate("location.href") == f"{person.origin}/device/"


def test_the_list_closes_notifications_of_requests_that_are_not_pending(
    person: Person, background: Background, server: DeviceServer
) -> None:
    pending = server.challenge(person.public_key())["challenge_id"]
    for tag in (FIRST, pending):
        background.push(push_of(tag))
    background.shows(FIRST, pending)
    person.click("Back")
    background.shows(pending)


def test_the_app_opens_without_a_connection_and_keeps_no_answer_of_an_api(
    browser: Browser, new_person: Callable[..., Person]
) -> None:
    with DeviceServer() as server:
        person = new_person(at=server)
        person.open("/")
        person.page.evaluate(
            "async () => (await caches.open('sigil-device-0.0.0')).put('/device/', new Response('old'))"
        )
        person.page.evaluate("async () => (await caches.open('another')).put('/x', new Response(''))")
        person.enrol_by_api()
        person.at("Nothing to decide")

        def kept() -> dict[str, list[str]]:
            found: dict[str, Any] = person.page.evaluate(CACHED)
            return found

        wait_until(lambda: "/assets/device/screens/ask/ask.js" in str(kept()), "the worker to keep the screens")
        wait_until(lambda: "sigil-device-0.0.0" not in kept(), "the cache of an earlier release to be removed")
        assert "another" in kept()
        (name,) = [name for name in kept() if name.startswith("sigil-device-")]
        page = {"/device/", "/device/manifest.webmanifest", "/device/icon-192.png"}
        assert {path for path in kept()[name] if not path.startswith("/assets/")} == page
        server.stop()
        person.page.reload()
        person.at("No connection")
        person.sees("Requests appear again")
        person.click("Settings")
        person.at("Settings")
        server.start()
        person.click("Back")
        person.at("Nothing to decide")
    # Each request without a connection is on the console of a browser; the app's own errors would be, too.
    person.offences[:] = [offence for offence in person.offences if "Failed to load resource" not in offence]


@pytest.mark.parametrize("hindrance", [NO_CACHE, CLOSED_CACHE, SLOW], ids=["full", "closed", "slow network"])
def test_the_app_opens_where_the_worker_can_keep_nothing(
    person: Person, background: Background, hindrance: str
) -> None:
    person.page.evaluate(FORGET)
    person.context.service_workers[-1].evaluate(hindrance)
    person.page.reload()
    person.at("Nothing to decide")
