"""The first screen of the README: `make dev` ends with a link, and its browser approves a first challenge."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx

from tests.support.checkout import DEV, Checkout, sessions, shown
from tests.support.live import DEADLINE, wait_until

from .person import Person


def test_the_link_of_make_dev_enrols_the_browser_and_one_command_sends_it_a_challenge(
    tmp_path: Path, new_person: Callable[..., Person]
) -> None:
    checkout = Checkout(tmp_path)
    [session] = [text for text in sessions() if "browser_key" in text]
    with checkout.running(*DEV) as dev:
        link = shown(checkout, dev, r"Open this link in a browser[^\n]+\n\n +(\S+)\n")
        # Without its path the link begins nothing.
        assert httpx.get(link.rpartition("/")[0] + "/", trust_env=False).status_code == 404
        at: Any = SimpleNamespace(url=f"http://localhost:{checkout.port}")
        # The relay and the link are other origins, on purpose.
        person = new_person(at=at, other_origins=(f"http://localhost:{checkout.relay_port}", link))
        person.page.goto(link)
        person.at("Is this what you expect?").sees("developer", "Sigil development")
        person.click("Continue")
        person.at("Make a key on this device").click("Create the key")
        person.at("Approve once, to try it").click("Approve")
        # The command that `make dev` prints is that of the README.
        printed = shown(checkout, dev, r"(\. \.dev/env && sigil ask --device [^\n]+)")
        assert printed.split(" && ") == session.splitlines()
        with checkout.running("sh", "-ec", session) as asking:
            person.open()
            person.at("Do you approve this?").sees("Sign in to Example")
            person.click("Approve")
            assert asking.wait(DEADLINE) == 0, checkout.output
        wait_until(lambda: re.search(r"^Approved$", checkout.output, re.MULTILINE), "the answer")
        dev.send_signal(signal.SIGTERM)
        assert dev.wait(DEADLINE) == 0
