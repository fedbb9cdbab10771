"""A real Firefox for tests, driven over Marionette: `[0, id, command, parameters]` as JSON with its length in front,
over TCP. Firefox's source describes it in `remote/doc/marionette/`; commands are those of W3C WebDriver."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support.live import DEADLINE, wait_until

_ALERTS = "[...Services.wm.getEnumerator('alert:alert')].filter((one) => one.document.readyState === 'complete')"
_TEXT_OF = """
  const labels = ["alertTitleLabel", "alertTextLabel"];
  const textOf = ({ document }) =>
    labels.map((id) => document.getElementById(id).value || document.getElementById(id).textContent).join("\\n");
"""
_CLICK = """
  alert?.document.getElementById("alertBox").click();
  return alert !== undefined;
"""
_NOT_YET = {"stale element reference", "element click intercepted", "element not interactable"}
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
# Nothing but our own servers is contacted: no updates, no telemetry, no remote settings, no captive portal.
_PREFERENCES: dict[str, bool | int | str] = {
    # Firefox shows notifications itself: through the desktop it needs libnotify and a session bus.
    "alerts.useSystemBackend": False,
    "app.normandy.enabled": False,
    "app.update.disabledForTesting": True,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.systemAddon.update.enabled": False,
    "marionette.port": 0,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.proxy.type": 0,
    # Web pages may use push and show notifications without a question.
    "permissions.default.desktop-notification": 1,
    # Milliseconds until it connects again to a push service that it lost; the default is 5000.
    "dom.push.retryBaseInterval": 200,
    # The virtual authenticator is this soft token; it is tried only where no USB token is.
    "security.webauth.webauthn_enable_softtoken": True,
    "security.webauth.webauthn_enable_usbtoken": False,
    "services.settings.server": "http://127.0.0.1:1/v1",
    "toolkit.telemetry.server": "http://127.0.0.1:1",
}


def executable() -> str | None:
    """The path of the system's Firefox, None without one."""
    return shutil.which("firefox-esr") or shutil.which("firefox")


class MarionetteError(Exception):
    """An error of WebDriver; `code` is its name, such as `no such element`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class Firefox:
    """`with Firefox(providers.firefox_preferences) as firefox:`, with a profile and a HOME of its own. Its methods are
    those of PushChromium."""

    name = "firefox"

    def __init__(self, preferences: dict[str, Any]) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="firefox-"))
        self._profile = self._home / "profile"
        self.log_path = self._home / "log"
        self._preferences = {**_PREFERENCES, **preferences}
        self._process: subprocess.Popen[bytes] | None = None
        self._marionette: _Marionette | None = None

    def __enter__(self) -> Firefox:
        try:
            return self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def _start(self) -> Firefox:
        program = executable()
        assert program is not None, "there is no Firefox: `make test-deps` installs it"
        self._profile.mkdir()
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in self._preferences.items()]
        (self._profile / "user.js").write_text("\n".join(lines))
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self._home),
            "XDG_RUNTIME_DIR": str(self._home),
            "MOZ_HEADLESS": "1",
            "MOZ_CRASHREPORTER_DISABLE": "1",
        }
        # Its windows include the notifications, which only scripts of Firefox itself reach.
        command = [program, "--headless", "--marionette", "--remote-allow-system-access", "--no-remote"]
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "--profile", str(self._profile)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        port = int(wait_until(self._port, "Firefox's Marionette port"))
        self._marionette = _Marionette(port)
        self.command("WebDriver:NewSession", capabilities={"alwaysMatch": {"acceptInsecureCerts": True}})
        self.command("WebDriver:SetTimeouts", pageLoad=int(DEADLINE * 1000), script=int(DEADLINE * 1000), implicit=0)
        return self

    def _port(self) -> str:
        assert self._process is not None
        assert self._process.poll() is None, f"Firefox ended: {self.log_path.read_text()[-2000:]}"
        with contextlib.suppress(FileNotFoundError):
            return (self._profile / "MarionetteActivePort").read_text().strip()
        return ""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._marionette is not None:
            self._marionette.close()
        if self._process is not None:
            # Firefox's content processes are in its process group.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(DEADLINE)
        shutil.rmtree(self._home, ignore_errors=True)

    def command(self, name: str, **parameters: Any) -> Any:
        """The value of a command's result; MarionetteError for an error."""
        assert self._marionette is not None
        result = self._marionette.command(name, parameters)
        return result["value"] if isinstance(result, dict) and set(result) == {"value"} else result

    # Pages

    def navigate(self, url: str) -> None:
        self.command("WebDriver:Navigate", url=url)

    @property
    def url(self) -> str:
        return str(self.command("WebDriver:GetCurrentURL"))

    def evaluate(self, body: str, *arguments: Any) -> Any:
        """The value of a function's body, which may use `await` and `arguments`."""
        script = f"return (async function () {{ {body} }}).apply(null, arguments);"
        return self.command("WebDriver:ExecuteScript", script=script, args=list(arguments))

    def find(self, selector: str) -> str | None:
        """The id of the first element for a CSS selector, or for an XPath, which begins with `//`."""
        using = "xpath" if selector.startswith("//") else "css selector"
        try:
            found = self.command("WebDriver:FindElement", using=using, value=selector)
        except MarionetteError as error:
            if error.code == "no such element":
                return None
            raise
        return str(found[_ELEMENT])

    def wait_for(self, selector: str) -> str:
        return str(wait_until(lambda: self.find(selector), f"the element {selector}"))

    def click(self, selector: str) -> None:
        """A click as a person makes it: the element is scrolled into view, and the page gets user activation."""
        wait_until(lambda: self._click(selector), f"a click on {selector}")

    def _click(self, selector: str) -> bool:
        """Whether the element is there, and nothing lies over it."""
        try:
            self.command("WebDriver:ElementClick", id=self.wait_for(selector))
        except MarionetteError as error:
            if error.code in _NOT_YET:
                return False
            raise
        return True

    def type(self, selector: str, text: str) -> None:
        self.command("WebDriver:ElementSendKeys", id=self.wait_for(selector), text=text)

    def text(self, selector: str) -> str:
        return str(self.command("WebDriver:GetElementText", id=self.wait_for(selector)))

    def screenshot(self) -> str:
        """PNG in base64."""
        return str(self.command("WebDriver:TakeScreenshot", full=True))

    def pages(self) -> list[str]:
        """The addresses of all open pages."""
        current = self.command("WebDriver:GetWindowHandle")
        addresses = [self._switch(handle) for handle in self._handles()]
        self._switch(current)
        return addresses

    def switch_to(self, part: str) -> None:
        """Wait for a page whose address contains `part`, and use it from now on."""
        wait_until(lambda: self._switch_to(part), f"a page at {part}")

    def close_page(self) -> None:
        """Close the page, and use the first of the other pages."""
        self.command("WebDriver:CloseWindow")
        self._switch(self._handles()[0])

    def new_page(self) -> None:
        self._switch(self.command("WebDriver:NewWindow", type="tab", focus=True)["handle"])

    def _handles(self) -> list[str]:
        return [str(handle) for handle in self.command("WebDriver:GetWindowHandles")]

    def _switch(self, handle: str) -> str:
        self.command("WebDriver:SwitchToWindow", handle=handle, focus=True)
        return self.url

    def _switch_to(self, part: str) -> bool:
        return any(part in self._switch(handle) for handle in self._handles())

    # Notifications

    def allow_notifications(self, origin: str) -> None:
        """All pages may show them: see the preferences."""

    def notifications(self) -> list[str]:
        """Title and body of each notification on the screen. Firefox shows each in a window of its own."""
        return [str(text) for text in self._chrome(f"return {_ALERTS}.map(textOf)")]

    def click_notification(self, part: str) -> None:
        """Click on the notification that contains `part`, as soon as it is shown."""
        script = f"const alert = {_ALERTS}.find((one) => textOf(one).includes(arguments[0]));" + _CLICK
        wait_until(lambda: self._chrome(script, part), f"a notification with {part!r}")

    def _chrome(self, body: str, *arguments: Any) -> Any:
        self.command("Marionette:SetContext", value="chrome")
        try:
            return self.evaluate(_TEXT_OF + body, *arguments)
        finally:
            self.command("Marionette:SetContext", value="content")

    # WebAuthn

    def add_authenticator(self, **options: Any) -> str:
        """A virtual security key that verifies its user (W3C WebAuthn, section 11). Firefox on Linux refuses every
        platform authenticator, virtual ones too."""
        defaults = {
            "protocol": "ctap2", "transport": "usb", "hasResidentKey": True, "hasUserVerification": True,
            "isUserConsenting": True, "isUserVerified": True,
        }  # fmt: skip
        return str(self.command("WebAuthn:AddVirtualAuthenticator", **{**defaults, **options}))

    def verify_user(self, authenticator: str, verified: bool) -> None:
        self.command("WebAuthn:SetUserVerified", authenticatorId=authenticator, isUserVerified=verified)


class _Marionette:
    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=2 * DEADLINE)
        self._stream = self._socket.makefile("rb")
        self._last = 0
        self._read()

    def close(self) -> None:
        self._stream.close()
        self._socket.close()

    def command(self, name: str, parameters: dict[str, Any]) -> Any:
        self._last += 1
        raw = json.dumps([0, self._last, name, parameters]).encode()
        self._socket.sendall(b"%d:%s" % (len(raw), raw))
        _, number, error, result = self._read()
        assert number == self._last, "responses come in the order of the commands"
        if error is not None:
            raise MarionetteError(error["error"], error["message"])
        return result

    def _read(self) -> Any:
        digits = b""
        while (byte := self._stream.read(1)) != b":":
            assert byte, "Firefox closed Marionette"
            digits += byte
        return json.loads(self._stream.read(int(digits)))
