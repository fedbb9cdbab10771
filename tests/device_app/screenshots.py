"""`make screenshots`: one sheet of docs/images/device for each state of the web app, of a real server.

A sheet shows the state on a phone and on a desktop, light and dark. The states are those that the tests examine.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from playwright.sync_api import Browser

from tests.browser.screenshots import IMAGES, compress

from .ask.decider import Decider
from .ask.states import states as deciding_states
from .enrol.steps import states as enrolment_states
from .person import PHONE, DeviceServer, Person
from .shell.states import states as shell_states

FOLDER = IMAGES / "device"
DESKTOP = {"width": 1280, "height": 800}
VIEWS = (("phone", "light"), ("phone", "dark"), ("desktop", "light"), ("desktop", "dark"))
SHEET = {"width": 1060, "height": 624}
# The phones are 584 px high, as are the two desktops with their gap.
_SHEET = """([phoneLight, phoneDark, light, dark]) => {
  const put = (source, left, top, width, height) => {
    const image = document.createElement("img");
    image.src = `data:image/png;base64,${source}`;
    image.style = `position: absolute; left: ${left}px; top: ${top}px; width: ${width}px; height: ${height}px;
      border-radius: 12px; box-shadow: 0 0 0 1px #8884;`;
    document.body.append(image);
    return image.decode();
  };
  document.body.style = "margin: 0; background: #e9e9ee;";
  return Promise.all([
    put(phoneLight, 20, 20, 270, 584),
    put(phoneDark, 310, 20, 270, 584),
    put(light, 600, 20, 440, 275),
    put(dark, 600, 329, 440, 275),
  ]);
}"""


def take(browser: Browser) -> None:
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.png"):
        old.unlink()
    relay = "http://127.0.0.1:9"
    names = {"SIGIL_SERVER_NAME": "Northwind sign-in"}
    with DeviceServer(**names) as server, DeviceServer(RELAY_URL=relay, RELAY_PUBLIC_URL=relay, **names) as relayed:
        made: list[Person] = []

        def person(at: DeviceServer = server, **looks: Any) -> Person:
            made.append(Person(browser, at, reduced_motion="reduce", **{"device_scale_factor": 2, **looks}))
            return made[-1]

        for name, at in _states(person, relayed):
            _sheet(browser, at, name)
        for one in made:
            one.context.close()


def _states(person: Any, relayed: DeviceServer) -> Iterator[tuple[str, Person]]:
    yield from shell_states(person, relayed)
    someone = person()
    for name in enrolment_states(someone):
        yield f"enrol-{name}", someone
    voter = person()
    decider = Decider(voter, voter.server)
    for name in deciding_states(decider):
        yield f"ask-{name}", decider.person


def _sheet(browser: Browser, person: Person, name: str) -> None:
    pictures = [_picture(person, *view) for view in VIEWS]
    page = browser.new_page(viewport=SHEET, device_scale_factor=1.5)
    page.evaluate(_SHEET, pictures)
    path = FOLDER / f"{name}.png"
    page.screenshot(path=path)
    page.close()
    compress(path)


def _picture(person: Person, form: str, scheme: Any) -> str:
    person.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    person.page.set_viewport_size(PHONE["viewport"] if form == "phone" else DESKTOP)
    person.page.mouse.move(0, 0)
    # The next frame after the change of size.
    person.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    picture = base64.b64encode(person.page.screenshot()).decode()
    person.page.set_viewport_size(PHONE["viewport"])
    return picture
