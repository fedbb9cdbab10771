"""One exchange of the client with a server that answers anything."""

from __future__ import annotations

from typing import Any

from .client_page import ClientPage

UNUSABLE = ("AnswerUnusable", "ANSWER_UNUSABLE")
LIMITED = '{"error":{"code":"RATE_LIMITED","message":"m","details":{"a":1}}}'
ANSWERS: dict[str, tuple[dict[str, Any], tuple[str, str]]] = {
    "larger than any answer": ({"body": '{"a":"' + "x" * (1 << 20) + '"}'}, UNUSABLE),
    "no JSON": ({"body": "<html>"}, UNUSABLE),
    "a list": ({"body": "[]"}, UNUSABLE),
    "a member twice": ({"body": '{"mode":"init","mode":"operational"}'}, UNUSABLE),
    "a byte order mark": ({"body": "\ufeff{}"}, UNUSABLE),
    "no UTF-8": ({"body": b'{"a":"\xff"}'}, UNUSABLE),
    "a page of a proxy": ({"status": 502, "body": "<html>"}, ("Problem", "HTTP_502")),
    "an error of the protocol": (
        {"status": 429, "body": LIMITED, "headers": {"Retry-After": "7"}},
        ("Problem", "RATE_LIMITED"),
    ),
    "an error with another code": ({"status": 400, "body": '{"error":{"code":"<b>"}}'}, ("Problem", "HTTP_400")),
    "a redirect": ({"status": 302, "headers": {"Location": "/health"}}, ("Offline", "OFFLINE")),
    "no content": ({"status": 204}, ("Problem", "HTTP_204")),
}


def test_an_answer_of_another_form_is_an_error_of_its_kind(device: ClientPage) -> None:
    info = "return server.info().then(() => ({}), (error) => ({ ...failed(error), retryAfter: error.retryAfter }))"
    for name, (fields, wanted) in ANSWERS.items():
        with device.answered("/info", fields):
            found = device.run(info)
        assert (found["error"], found["code"]) == wanted, name
        if wanted[1] == "RATE_LIMITED":
            assert (found["details"], found["retryAfter"]) == ({"a": 1}, 7)


def test_a_request_ends_with_its_screen_and_without_an_answer(device: ClientPage) -> None:
    """The time-out is that of a clock of the test."""
    silent = """
      const { timeout } = AbortSignal;
      let seconds = 0;
      AbortSignal.timeout = (milliseconds) => {
        const clock = new AbortController();
        seconds = milliseconds / 1000;
        setTimeout(() => clock.abort());
        return clock.signal;
      };
      const found = [await server.info().catch(failed), seconds];
      Object.assign(AbortSignal, { timeout });
      const screen = new AbortController();
      const waited = server.wait("a", "b", 25, screen.signal).catch((error) => error.name);
      screen.abort();
      return [...found, await waited];
    """
    with device.answered("/info", lambda _: None):
        found, seconds, name = device.run(silent)
    assert (found["error"], found["reason"], seconds, name) == ("Offline", "timeout", 10, "AbortError")


def test_a_request_carries_no_cookie_and_no_referrer_and_is_not_stored(device: ClientPage) -> None:
    device.page.evaluate("() => { document.cookie = 'a=b; path=/'; }")
    # The page's own headers forbid a referrer too: a page without them must send none either.
    sent = """
      const { fetch: send } = window;
      let request;
      window.fetch = (url, options) => ((request = new Request(url, options)), send(url, options));
      await server.info();
      window.fetch = send;
      return ["credentials", "redirect", "referrerPolicy", "cache"].map((name) => request[name]);
    """
    assert device.run(sent) == ["omit", "error", "no-referrer", "no-store"]
    request = next(request for request in reversed(device.requests) if request.url.endswith("/info"))
    assert {"cookie", "referer"} & set(request.all_headers()) == set()


def test_the_clock_is_that_of_the_server(device: ClientPage) -> None:
    now = "const other = new Server(location.origin); await other.info(); return other.now() - Date.now()"
    # A test may take a minute, and the browser's clock is the machine's.
    dated = "new Date(Date.now() + 86_400_000).toUTCString()"
    date = device.page.evaluate(f"() => {dated}")
    with device.answered("/info", {"json": {}, "headers": {"Date": date}}):
        assert 86_000_000 < device.run(now) < 86_500_000
    assert device.run(now) == 0
