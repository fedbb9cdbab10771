"""From an application server through the stand-in to a notification of a real browser, and back to a page."""

from __future__ import annotations

import pytest

from tests.support.live import wait_until
from tests.support.providers import Providers
from tests.support.push_browsers import PushBrowser

from .page import Sender, Site, Subscribed, send_until_shown, subscribe, unsubscribe

HOSTS = {
    "chromium": ("https://jmt17.google.com/fcm/send/", "https://fcm.googleapis.com/fcm/send/"),
    "firefox": ("https://updates.push.services.mozilla.com/wpush/v2/",),
}


def token(subscribed: Subscribed) -> str:
    return subscribed.endpoint.rpartition("/")[2]


def test_an_encrypted_push_becomes_a_notification_and_a_click_on_it_opens_a_page(
    push_browser: PushBrowser, sender: Sender, subscribed: Subscribed, providers: Providers
) -> None:
    assert subscribed.endpoint.startswith(HOSTS[push_browser.name])
    send_until_shown(push_browser, sender, subscribed, "Grüße-1")
    push_browser.click_notification("Grüße-1")
    push_browser.switch_to("/clicked#")
    push_browser.close_page()
    (seen, *_) = providers.seen("webpush", token=token(subscribed))
    assert seen["headers"]["urgency"] == "high"
    assert "authorization" not in seen["headers"]


def test_the_same_page_keeps_its_subscription(
    push_browser: PushBrowser, sender: Sender, subscribed: Subscribed, site: Site
) -> None:
    assert subscribe(push_browser, site, sender) == subscribed


# Chromium waits 20 s before it connects again.
@pytest.mark.parametrize("push_browser", ["firefox"], indirect=True)
def test_a_push_for_a_browser_that_was_cut_off_arrives_when_it_is_connected_again(
    push_browser: PushBrowser, sender: Sender, subscribed: Subscribed, providers: Providers
) -> None:
    send_until_shown(push_browser, sender, subscribed, "before")
    connected = providers.counters("webpush")["browsers"]
    providers.kill("mozilla")
    wait_until(lambda: providers.counters("webpush")["browsers"] < connected, "the browser to be cut off")
    assert sender.post(subscribed.endpoint, subscribed.encrypt("after")).status_code == 201
    assert providers.counters("webpush")["kept"] == 1
    providers.start("mozilla")
    wait_until(lambda: any("after" in one for one in push_browser.notifications()), "the push that was kept")


def test_a_subscription_that_the_page_ended_is_gone(
    push_browser: PushBrowser, sender: Sender, subscribed: Subscribed, site: Site
) -> None:
    assert unsubscribe(push_browser)
    wait_until(
        lambda: sender.post(subscribed.endpoint, subscribed.encrypt("too late")).status_code == 410,
        "the stand-in to learn that the subscription ended",
    )
    renewed = subscribe(push_browser, site, sender)
    assert renewed.endpoint != subscribed.endpoint
    send_until_shown(push_browser, sender, renewed, "renewed")


def test_only_the_key_of_the_subscription_may_send(sender: Sender, subscribed: Subscribed, running: Providers) -> None:
    answer = Sender(running).post(subscribed.endpoint, subscribed.encrypt("another sender"))
    assert answer.status_code == 403
    assert "another VAPID key" in answer.text
