"""The QR code is read by the camera: Chromium's fake one, which shows a film that the test makes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect

from tests.browser import chromium
from tests.device_app.person import DeviceServer, Person
from tests.device_app.shell.test_states import AXE, small_targets

from .fake_camera import FLAGS, film
from .steps import ACCOUNT, CAMERA, CODE, MEET, link_of

_KEEP_TRACKS = "() => { window.tracks = document.querySelector('video').srcObject.getTracks(); }"
_STATES = "() => window.tracks.map((track) => track.readyState)"


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("camera") / "film.y4m"
    film(path, "https://example.com/")
    return path


@pytest.fixture(scope="module")
def camera_browser(browser: Browser, shown: Path) -> Iterator[Browser]:
    with chromium.launched(browser.browser_type, *(flag.format(shown) for flag in FLAGS)) as launched:
        yield launched


@pytest.fixture
def photographer(camera_browser: Browser, server: DeviceServer) -> Iterator[Person]:
    """A person who permits the camera."""
    person = Person(camera_browser, server, permissions=["camera"])
    yield person
    person.close()


def test_the_camera_reads_the_code_and_stops(server: DeviceServer, photographer: Person, shown: Path) -> None:
    film(shown, "https://example.com/menu")
    photographer.open().at(CODE).click("Scan the QR code")
    # Another QR code is named as such, and the camera goes on.
    photographer.at(CAMERA).sees("This QR code is not an enrolment.")
    photographer.page.evaluate(_KEEP_TRACKS)
    photographer.click("Type the code instead")
    photographer.at(CODE)
    photographer.page.wait_for_function("() => window.tracks.every((track) => track.readyState === 'ended')")
    begun = server.begin_enrolment(ACCOUNT)
    film(shown, server.url + link_of(begun))
    photographer.click("Scan the QR code")
    photographer.at(MEET).sees(ACCOUNT)
    assert begun["token"] not in photographer.traces()


def test_it_reads_the_link_for_apps_too(server: DeviceServer, photographer: Person, shown: Path) -> None:
    film(shown, server.begin_enrolment(ACCOUNT)["uri"])
    photographer.open().at(CODE).click("Scan the QR code")
    photographer.at(MEET).sees(ACCOUNT)


def test_the_code_of_another_server_is_named(photographer: Person, shown: Path, server: DeviceServer) -> None:
    film(shown, link_of(server.begin_enrolment(ACCOUNT)).replace("/device/", "https://auth.example.com/device/"))
    photographer.open().at(CODE).click("Scan the QR code")
    photographer.at(CAMERA).sees("This code belongs to another service.")


def test_leaving_the_screen_stops_the_camera(photographer: Person) -> None:
    photographer.open().at(CODE).click("Scan the QR code")
    photographer.at(CAMERA).sees("QR code")
    results = Axe().run(photographer.page, options=AXE)
    assert results.violations_count == 0, results.generate_report()
    assert small_targets(photographer) == []
    photographer.page.wait_for_function("() => document.querySelector('video').srcObject")
    photographer.page.evaluate(_KEEP_TRACKS)
    assert photographer.page.evaluate(_STATES) == ["live"]
    photographer.page.get_by_role("button", name="Settings").click()
    photographer.page.wait_for_function("() => window.tracks.every((track) => track.readyState === 'ended')")


def test_without_a_permission_the_person_types_the_code(camera_browser: Browser, server: DeviceServer) -> None:
    person = Person(camera_browser, server)
    person.open().at(CODE).click("Scan the QR code")
    person.at(CODE).sees("This page may not use the camera.")
    expect(person.page.get_by_role("button", name="Scan the QR code")).to_be_visible()
    person.close()


def test_without_a_camera_the_person_types_the_code(new_person: Callable[..., Person]) -> None:
    person = new_person(permissions=["camera"])
    person.open().at(CODE).click("Scan the QR code")
    person.at(CODE).sees("No camera was found. Type the code instead.")


def test_the_decoder_is_loaded_only_with_the_camera(photographer: Person) -> None:
    photographer.open().at(CODE)
    assert not [request.url for request in photographer.requests if "/vendor/" in request.url]
    photographer.click("Scan the QR code")
    photographer.page.wait_for_function("() => 'jsQR' in window")
