"""Keys, contact and hosts of Web Push: what the relay accepts, and what it refuses with the mend."""

from __future__ import annotations

import pytest

from relay.config import load, load_renewed
from relay.web_push_settings import Host, Settings, contact, hosts, new_key, vapid_key
from sigil.protocol import web_push
from sigil.protocol.encoding.text import encode_base64url
from sigil.serving.settings import ConfigError
from tests.support.web_push import Subscription

# The private key of RFC 8291, appendix A, and its public key there.
RFC_KEY = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"
RFC_PUBLIC = "BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A8"


def faults(**environ: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        load(environ)
    return raised.value.lines


def test_a_key_gives_its_public_key() -> None:
    assert vapid_key(RFC_KEY).public_text == RFC_PUBLIC
    assert vapid_key(new_key()).public != vapid_key(new_key()).public


@pytest.mark.parametrize(
    "text",
    ["x", RFC_KEY + "=", RFC_KEY[:-1], RFC_PUBLIC, encode_base64url(bytes(32)), encode_base64url(b"\xff" * 32)],
)
def test_a_text_that_is_no_key_is_refused_without_a_word_of_it(text: str) -> None:
    (line,) = faults(RELAY_WEBPUSH_KEY=text)
    assert line.startswith("RELAY_WEBPUSH_KEY: ")
    assert "sigil-relay webpush-key" in line
    assert text not in line.replace("webpush-key", "")


def test_the_first_key_is_for_new_subscriptions_and_the_second_still_counts() -> None:
    new, old = new_key(), new_key()
    settings = load({"RELAY_WEBPUSH_KEY": f"{new}, {old}"}).webpush
    assert settings is not None
    for key in (new, old):
        subscription = Subscription(vapid_key(key).public_text)
        assert settings.refusal(web_push.parse(subscription.token())) is None
    stranger = web_push.parse(Subscription(vapid_key(new_key()).public_text).token())
    assert settings.refusal(stranger) == "key_not_of_relay"
    assert settings.keys[0] == vapid_key(new)
    assert faults(RELAY_WEBPUSH_KEY=f"{new},{new}")
    assert faults(RELAY_WEBPUSH_KEY=f"{new},{old},{new_key()}")


def test_without_a_key_web_push_is_off_and_a_reload_reads_keys_again() -> None:
    assert load({}).webpush is None
    assert load({}).providers == []
    environ = {"RELAY_WEBPUSH_KEY": new_key(), "RELAY_WEBPUSH_CONTACT": "mailto:ops@sigil-relay.net"}
    assert load(environ).providers == ["webpush"]
    assert load_renewed(environ).webpush == load(environ).webpush
    assert RFC_KEY not in repr(load({"RELAY_WEBPUSH_KEY": RFC_KEY}))


def test_a_relay_without_a_contact_warns_of_apple() -> None:
    (warning,) = load({"RELAY_WEBPUSH_KEY": new_key()}).warnings
    assert "Apple" in warning
    assert not load({"RELAY_WEBPUSH_KEY": new_key(), "RELAY_WEBPUSH_CONTACT": "https://sigil-relay.net/x"}).warnings


@pytest.mark.parametrize(
    "text", ["mailto:ops@sigil-relay.net", "mailto:a.b+c@x.de", "https://sigil-relay.net", "https://x.de/contact?a=b"]
)
def test_a_contact_at_a_public_name_is_accepted(text: str) -> None:
    assert contact(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "ops@sigil-relay.net", "http://sigil-relay.net", "mailto:ops", "mailto:@x.de", "mailto:a@b@x.de",
        "mailto:ops@localhost", "mailto:ops@relay.local", "mailto:ops@relay.test", "mailto:ops@example.com",
        "mailto:ops@mail.example.org", "mailto:ops@relay.invalid", "mailto:ops@relay.example", "mailto:ops@x.internal",
        "mailto:ops@10.0.0.1", "https://10.0.0.1/", "https://[::1]/", "https://localhost/", "https://user",
        "mailto:ops@x.de\tb", "mailto:ö@x.de", "mailto:ops@x.de?subject=x", "mailto:ops@x.de.", "https://",
        "https://[", "https://u:password@x.de/",
        "https://x.de/ü", "https://x.de\\@y.de", "https://x.de /", "https://x.de:",
    ],
)  # fmt: skip
def test_a_contact_that_apple_refuses_ends_the_start(text: str) -> None:
    with pytest.raises(ValueError, match="must"):
        contact(text)


def test_hosts_are_names_wildcards_and_names_with_an_address() -> None:
    found = hosts("push.example.com, *.Push.example.net\nlocal.example=127.0.0.1:8443 six.example=[::1]:1 a.b=10.0.0.5")
    assert found == (
        Host("push.example.com"),
        Host("push.example.net", wildcard=True),
        Host("local.example", address="127.0.0.1", port=8443),
        Host("six.example", address="::1", port=1),
        Host("a.b", address="10.0.0.5", port=443),
    )
    assert [str(host) for host in found[:3]] == ["push.example.com", "*.push.example.net", "local.example"]


@pytest.mark.parametrize(
    "text",
    [
        "https://push.example.com", "push.example.com:8443", "push.example.com/x", "10.0.0.1", "*", "*.com",
        "*.*.x.com",
        "a.*.com", "*.x.com=10.0.0.1", "x.com=y.com", "x.com=", "x.com=10.0.0.1:0", "x.com=10.0.0.1:70000", "x.com=::1",
        "x.com x.com", "x.com.", "=10.0.0.1", ",", " ".join(f"h{number}.com" for number in range(65)),
    ],
)  # fmt: skip
def test_a_list_that_is_none_ends_the_start(text: str) -> None:
    (line,) = faults(RELAY_WEBPUSH_KEY=RFC_KEY, RELAY_WEBPUSH_HOSTS=text)
    assert line.startswith("RELAY_WEBPUSH_HOSTS: ")


@pytest.mark.parametrize(
    ("name", "item"),
    [
        ("fcm.googleapis.com", "fcm.googleapis.com"),
        ("jmt17.google.com", "jmt17.google.com"),
        ("updates.push.services.mozilla.com", "updates.push.services.mozilla.com"),
        ("web.push.apple.com", "web.push.apple.com"),
        ("wns2-par02p.notify.windows.com", "*.notify.windows.com"),
        ("a.b.notify.windows.com", "*.notify.windows.com"),
        ("notify.windows.com", None),
        ("evilnotify.windows.com", None),
        ("x.fcm.googleapis.com", None),
        ("googleapis.com", None),
        ("notify.windows.com.example.net", None),
        ("localhost", None),
    ],
)
def test_the_list_allows_these_hosts_and_no_other(name: str, item: str | None) -> None:
    found = Settings((vapid_key(RFC_KEY),)).host_of(name)
    assert (None if found is None else str(found)) == item


def test_a_name_is_preferred_to_a_wildcard_and_a_long_wildcard_to_a_short_one() -> None:
    settings = Settings((), hosts=hosts("*.push.net *.b.push.net a.push.net=10.0.0.1"))
    assert [str(settings.host_of(f"{name}.push.net")) for name in ("a", "c.b", "c")] == [
        "a.push.net", "*.b.push.net", "*.push.net",
    ]  # fmt: skip
