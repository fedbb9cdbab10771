"""The page /status: the token, the figures, and what happens when the server does not answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Route, expect

from sigil.device import Device
from tests.flows.backend import ACTION, Backend
from tests.support.live import LiveServer

from .init_server import InitServer
from .test_accessible import NARROW, RULES, WIDE
from .window import Window

TOKEN = "a-metrics-token-of-these-tests"
VECTORS = json.loads((Path(__file__).parents[1] / "status" / "vectors.json").read_text(encoding="utf-8"))
_READINGS = """async ({ windows, cases, texts }) => {
  const { History } = await import("/assets/status/history.js");
  const { textOf } = await import("/assets/status/units.js");
  const readings = cases.map(({ figures, scrapes }) => {
    const history = new History({ windows, kept: 5, header: [], groups: [{ title: "All", figures }] });
    for (const { at, now, text } of scrapes) history.add(text.join("\\n"), at, now);
    return figures.map((figure) => {
      const reading = history.readings.get(figure.id);
      return [figure.id, { ...reading, text: textOf(figure, reading) }];
    });
  });
  const shown = texts.map(({ unit, value }) => textOf({ kind: "gauge", unit }, { value, also: null }));
  return { readings, shown };
}"""


@pytest.fixture(scope="module")
def server(browser: Browser) -> Iterator[LiveServer]:
    # Nothing listens at this relay.
    with LiveServer(
        workers=1, METRICS_TOKEN=TOKEN, SIGIL_SERVER_NAME="Example", RELAY_URL="http://127.0.0.1:9"
    ) as made:
        made.url = f"https://localhost:{made.port}"
        yield made


@pytest.fixture
def window(server: LiveServer, new_window: Callable[..., Window]) -> Window:
    return new_window(server, reduced_motion="reduce")


def show_figures(window: Window, token: str = TOKEN) -> None:
    window.field("Metrics token").fill(token)
    window.click("Show the figures")


def value(window: Window, label: str) -> str:
    row = window.page.locator(".row", has=window.page.get_by_text(label, exact=True)).first
    return row.locator(".value").inner_text()


def in_memory(window: Window, text: str) -> bool:
    """Whether the heap of the page's scripts holds the text, after a garbage collection."""
    session = window.context.new_cdp_session(window.page)
    parts: list[str] = []
    session.on("HeapProfiler.addHeapSnapshotChunk", lambda event: parts.append(event["chunk"]))
    session.send("HeapProfiler.collectGarbage")
    session.send("HeapProfiler.takeHeapSnapshot", {"reportProgress": False})
    session.detach()
    return text in "".join(parts)


def connection(window: Window) -> Any:
    return expect(window.page.locator("#connection"))


def test_the_page_computes_the_readings_of_the_vectors(window: Window) -> None:
    window.open("/status")
    found = window.page.evaluate(_READINGS, VECTORS)
    for case, readings in zip(VECTORS["cases"], found["readings"], strict=True):
        wanted = {
            name: {**reading, **{key: _near(reading[key]) for key in ("value", "also")}}
            for name, reading in case["readings"].items()
        }
        assert dict(readings) == wanted, case["name"]
    assert found["shown"] == [case["text"] for case in VECTORS["texts"]]


def _near(number: Any) -> Any:
    return pytest.approx(number) if isinstance(number, float | int) else number


def test_the_figures_are_those_of_the_server_and_are_refreshed(server: LiveServer, window: Window) -> None:
    window.open("/status")
    show_figures(window)
    window.sees("operational", "Session store")
    expect(window.page.get_by_role("heading", level=1)).to_be_focused()
    assert value(window, "Pending") == "0"
    with Backend(server) as backend:
        for _ in range(3):
            body = {"device_public_key": Device.generate().wire_key, "action": ACTION}
            assert backend.http.post("/challenge", json=body).status_code == 201
    expect(window.page.locator(".row .value").first).to_have_text("3")
    window.sees("Created")
    assert window.page.locator("svg[role=img]").count() > 5


def test_the_token_is_nowhere_but_in_the_requests(window: Window) -> None:
    window.open("/status")
    assert window.field("Metrics token").get_attribute("type") == "password"
    show_figures(window)
    window.sees("operational")
    assert in_memory(window, TOKEN), "the heap shows what the page holds"
    markup = window.page.content()
    assert TOKEN not in window.traces() + window.document() + markup
    sent = [request for request in window.requests if request.headers.get("authorization")]
    assert {request.url.partition("localhost")[2].partition("/")[2] for request in sent} == {"metrics"}
    window.click("Forget the token")
    window.sees("Enter the metrics token")
    expect(window.field("Metrics token")).to_be_focused()
    assert not window.page.locator("#board").is_visible()
    before = len(window.requests)
    window.page.wait_for_timeout(3000)
    assert len(window.requests) == before, "nothing is fetched without the token"
    assert not in_memory(window, TOKEN)


def test_leaving_the_page_forgets_the_token_also_in_the_cache_of_the_browser(window: Window) -> None:
    window.open("/status")
    show_figures(window)
    window.sees("operational")
    window.page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))")
    assert not window.page.locator("#board").is_visible()
    window.page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    window.sees("Enter the metrics token")


def test_wrong_tokens_are_explained_and_the_limit_too(new_window: Callable[..., Window], browser: Browser) -> None:
    with LiveServer(workers=1, METRICS_TOKEN=TOKEN) as server:
        window = new_window(server).open("/status")
        window.click("Show the figures")
        window.sees("Enter the token first.")
        show_figures(window, "short")
        window.sees("at least 16")
        assert not [request for request in window.requests if request.headers.get("authorization")]
        show_figures(window, "wrong-wrong-wrong-wrong")
        window.sees("The server does not accept this token.")
        assert window.field("Metrics token").get_attribute("aria-invalid") == "true"
        expect(window.field("Metrics token")).to_be_focused()
        # They go on, since the address may guess again after six seconds.
        window.page.evaluate(
            """() => {
              const headers = {Authorization: "Bearer wrong-wrong-wrong-wrong"};
              window.sent = [];
              window.guess = () => window.sent.push(fetch("/metrics", {headers}));
              window.guesses = setInterval(window.guess, 100);
              for (let count = 0; count < 12; count += 1) window.guess();
              return Promise.all(window.sent).then(() => null);
            }"""
        )
        show_figures(window)
        window.sees("Too many wrong tokens came from this address.", "then enter the token again")
        # Chromium reports a request that the end of the server interrupts.
        window.page.evaluate("() => (clearInterval(window.guesses), Promise.all(window.sent).then(() => null))")


def test_an_unreachable_server_leaves_the_last_figures_marked_as_old(window: Window) -> None:
    window.open("/status")
    show_figures(window)
    window.sees("operational")
    window.page.route("**/metrics", lambda route: route.abort())
    connection(window).to_contain_text("The server did not answer. The figures are of")
    assert window.page.locator("#board").get_attribute("data-old") == "true"
    assert value(window, "Session store") != "-"
    window.page.unroute("**/metrics")
    connection(window).to_contain_text("Updated at")
    assert window.page.locator("#board").get_attribute("data-old") == "false"
    # Chromium reports a request that the test aborted.
    window.offences[:] = [offence for offence in window.offences if "ERR_FAILED" not in offence]


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_left_alone_for_as_long_as_it_says(window: Window, status: int) -> None:
    window.open("/status")
    show_figures(window)
    window.sees("operational")

    def busy(route: Route) -> None:
        route.fulfill(status=status, headers={"Retry-After": "40"}, body="{}")

    window.page.route("**/metrics", busy)
    connection(window).to_contain_text("Next attempt in 40 seconds.")
    before = len(window.requests)
    window.page.wait_for_timeout(5000)
    assert len(window.requests) == before


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("<html>no metrics</html>", "The answer has no metrics"),
        ("sigil_x 1\n" * 500_000, "The answer is too large"),
        ('sigil_build_info{version="<img src=x onerror=alert(1)>"} 1\n', "Updated at"),
    ],
)
def test_an_answer_that_is_not_ours_is_text_or_a_fault(window: Window, body: str, text: str) -> None:
    window.page.route("**/metrics", lambda route: route.fulfill(content_type="text/plain", body=body))
    window.open("/status")
    show_figures(window)
    connection(window).to_contain_text(text)
    assert window.page.locator("#header img").count() == 0
    assert window.dialogs == []


def test_pause_stops_the_requests_and_a_hidden_page_makes_none(window: Window) -> None:
    window.open("/status")
    show_figures(window)
    window.sees("operational")
    window.click("Pause")
    connection(window).to_have_text("Paused.")
    before = len(window.requests)
    window.page.wait_for_timeout(4500)
    assert len(window.requests) == before
    window.click("Resume")
    connection(window).to_contain_text("Updated at")
    window.page.evaluate(
        "Object.defineProperty(document, 'hidden', {get: () => true, configurable: true});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    before = len(window.requests)
    window.page.wait_for_timeout(4500)
    assert len(window.requests) == before
    window.page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
    with window.page.expect_request("**/metrics"):
        pass


def test_a_page_in_the_background_forgets_the_token(window: Window) -> None:
    window.page.clock.install()
    window.open("/status")
    show_figures(window)
    window.sees("operational")
    window.page.evaluate(
        "Object.defineProperty(document, 'hidden', {get: () => true, configurable: true});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    window.page.clock.fast_forward(14 * 60 * 1000)
    assert window.page.locator("#board").is_visible()
    window.page.clock.fast_forward(2 * 60 * 1000)
    window.sees("Enter the metrics token")


def test_without_a_token_the_page_works_on_the_host_and_explains_itself_elsewhere(
    browser: Browser, new_window: Callable[..., Window]
) -> None:
    with LiveServer(workers=1) as server:
        window = new_window(server).open("/status").sees("operational", "Session store")
        assert not window.page.get_by_role("button", name="Forget the token").is_visible()
        elsewhere = new_window(server)
        elsewhere.page.route("**/metrics", lambda route: route.fulfill(status=401, body="{}"))
        elsewhere.open("/status").sees(
            "only programs on the server's own host", "ssh -L 8443:localhost:8443 you@server"
        )
        elsewhere.page.unroute("**/metrics")
        elsewhere.click("Try again")
        elsewhere.sees("operational")
        for shown in (window, elsewhere):
            shown.click("Pause")


def test_init_mode_and_a_server_without_metrics(browser: Browser, new_window: Callable[..., Window]) -> None:
    with InitServer(METRICS_TOKEN=TOKEN) as setup:
        window = new_window(setup).open("/status")
        show_figures(window)
        window.sees("init", "Warning: Mode init", "The server waits for its setup")
        # Before the server ends: Chromium reports a request that fails.
        window.click("Pause")
    with LiveServer(workers=1, SIGIL_TELEMETRY="none") as silent:
        new_window(silent).open("/status").sees("This server has no metrics")


def test_without_javascript_the_page_names_the_command(server: LiveServer, new_window: Callable[..., Window]) -> None:
    new_window(server, java_script_enabled=False).open("/status").sees("This page needs JavaScript.", "sigil top")


@pytest.mark.parametrize(("status", "body"), [(503, "{}"), (200, "<html>")])
def test_a_page_that_is_not_complete_says_so(window: Window, status: int, body: str) -> None:
    window.page.route("**/figures.json", lambda route: route.fulfill(status=status, body=body))
    window.open("/status")
    window.sees("A part of this page was not loaded")


def test_no_word_of_a_label_is_broken_in_the_narrowest_window(window: Window) -> None:
    window.open("/status")
    show_figures(window)
    window.page.set_viewport_size({"width": NARROW["width"], "height": NARROW["height"]})
    broken = window.page.evaluate(
        """() => [...document.querySelectorAll(".row dt")].flatMap((label) =>
          [...label.textContent.matchAll(/\\S+/g)].filter((word) => {
            const range = document.createRange();
            range.setStart(label.firstChild, word.index);
            range.setEnd(label.firstChild, word.index + word[0].length);
            return new Set([...range.getClientRects()].map(({ top }) => top)).size > 1;
          }).map(([text]) => text))"""
    )
    assert broken == []


def test_every_state_passes_axe_and_fits_the_narrowest_window_with_large_text(window: Window) -> None:
    axe, found = Axe(), []

    def look(state: str) -> None:
        for scheme, size, text in (("light", WIDE, 100), ("dark", NARROW, 100), ("light", NARROW, 200)):
            window.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light", reduced_motion="reduce")
            window.page.set_viewport_size({"width": size["width"], "height": size["height"]})
            window.page.evaluate("(size) => (document.documentElement.style.fontSize = `${size}%`)", text)
            results = axe.run(window.page, options={"resultTypes": ["violations"], "runOnly": RULES})
            if results.violations_count:
                found.append(f"{state}, {scheme}, {text} %: {results.generate_report()}")
            if beyond := window.width_beyond_window():
                found.append(f"{state}, {text} %: {beyond} px wider than its window")

    window.open("/status")
    window.sees("Enter the metrics token")
    look("form")
    show_figures(window, "wrong-wrong-wrong-wrong")
    window.sees("does not accept")
    look("rejected")
    names = ("relay_up 0", "store_bytes 80", "store_size_bytes 100", "store_free_bytes 10", "mpa_pending 5")
    text = "".join(f"sigil_{name}\n" for name in names)
    window.page.route("**/metrics", lambda route: route.fulfill(content_type="text/plain", body=text))
    show_figures(window)
    window.sees("Critical: Relay down", "Warning: Free for more 10 %")
    look("beyond limits")
    window.page.unroute("**/metrics")
    window.page.route("**/metrics", lambda route: route.fulfill(status=503, body="{}"))
    connection(window).to_contain_text("overloaded")
    look("old figures")


def test_news_are_announced_once(window: Window) -> None:
    text = {"body": "sigil_relay_up 1\nsigil_mpa_pending 1\n"}
    window.page.route("**/metrics", lambda route: route.fulfill(content_type="text/plain", body=text["body"]))
    window.open("/status")
    window.page.evaluate(
        "window.heard = []; const node = document.getElementById('announcement');"
        "const hear = () => { if (node.textContent) heard.push(node.textContent); };"
        "new MutationObserver(hear).observe(node, { childList: true })"
    )
    show_figures(window)
    window.sees("All figures are within their limits.")
    text["body"] = "sigil_relay_up 0\nsigil_mpa_pending 2\n"
    window.sees("Critical: Relay down")
    window.page.wait_for_timeout(5000)
    heard = window.page.evaluate("heard")
    assert [sentence.partition(".")[0] for sentence in heard] == ["The figures are shown", "Critical: Relay down"]


def test_the_keyboard_is_enough(window: Window) -> None:
    window.open("/status")
    window.tab_to("Metrics token")
    window.page.keyboard.type(TOKEN)
    window.page.keyboard.press("Enter")
    window.sees("operational")
    window.tab_to("Pause")
    window.page.keyboard.press("Enter")
    connection(window).to_have_text("Paused.")
    window.tab_to("Forget the token")
    window.page.keyboard.press("Enter")
    window.sees("Enter the metrics token")
