"""`sigil doctor push`: follows one device, from this server's store to the relay and to what became of its pushes."""

from __future__ import annotations

import asyncio
import datetime
import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec

from sigil import __version__
from sigil.app.identity import identity_of
from sigil.app.services import relay_client
from sigil.config.settings import Config
from sigil.console.findings.report import Report
from sigil.console.findings.result import Result, failed, ok, still_open
from sigil.core.device_ledger import Limits
from sigil.doctor.device_sessions import DeviceSessions, KeyLimits, PendingItem, read_sessions
from sigil.doctor.push_outcomes import push_results, registration_result
from sigil.protocol.encoding.display_text import printable
from sigil.protocol.encoding.pictogram import speakable
from sigil.protocol.messages.relay import PushHistory
from sigil.pushes.service import NoHistory, NoHistoryReason, RelayRejected, RelayUnavailable
from sigil.serving.probes import steps
from sigil.serving.startup_error import StartupError

_SECONDS = 14.0
"""For each of the two steps: the relay's client gives up after 12."""
_WHOLE = re.compile(r"[0-9a-f]{64}\Z")
_MAX_TEXT, _MAX_PUSHES, _MAX_LISTED = 200, 10, 5
_DOCTOR = "run `sigil doctor`: its findings relay, relay_trust and clock have the cause"
_NO_HISTORY: Mapping[NoHistoryReason, tuple[str, str]] = {
    "unknown": (
        "the relay remembers no push of this server to a device whose fingerprint begins so: it may not be registered",
        "give its public key, as your backend has it, or all 64 characters; push_failed in the log has the error",
    ),
    "ambiguous": ("several devices of this server have fingerprints that begin so", "give more characters"),
    "untrusted": ("the relay does not accept this server's signature", _DOCTOR),
    "older": (
        "the relay is older than this command, and has no history of pushes",
        f"upgrade the relay to the version of this server ({__version__})",
    ),
}


@dataclass
class _Followed:
    fingerprint: str
    history: PushHistory | None = None
    sessions: DeviceSessions | None = None
    registration: list[Result] = field(default_factory=list)


def follow(config: Config, fingerprint: str) -> Report:
    """`fingerprint` as `parse_beginning` returns it."""
    now = datetime.datetime.now(datetime.UTC)
    followed = _Followed(fingerprint)
    # First the store, which may know the whole fingerprint: for that the relay needs no push that it remembers.
    results = steps.run({"pending": lambda: _of_store(config, followed)}, _SECONDS)
    results += steps.run({"registration": lambda: _of_relay(config, followed)}, _SECONDS)
    found = followed.fingerprint
    name = f"{found}  {speakable(found)}" if _WHOLE.match(found) else f"{found}…"
    groups = {
        f"Device {name}": ("device", "registration"),
        "Pushes of this server, the newest first": ("push",),
        "This server now": ("pending", "limits"),
    }
    at = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return Report("sigil", __version__, at, groups, results, _as_json(followed))


def _of_store(config: Config, followed: _Followed) -> Iterator[Result]:
    limits = Limits(config.max_pending_per_device, config.device_rate)
    try:
        sessions = read_sessions(config.state_dir, followed.fingerprint, limits)
    except StartupError as error:
        yield still_open("pending", f"the store cannot be read: {error}", "`sigil doctor` examines the server")
        return
    if len(sessions.fingerprints) > 1:
        listed = ", ".join(f"{name}…" for name in sessions.fingerprints[:_MAX_LISTED])
        yield failed("device", f"several devices of this server begin so: {listed}", "give more characters")
        return
    followed.sessions = sessions
    if sessions.fingerprints and _WHOLE.match(sessions.fingerprints[0]):
        followed.fingerprint = sessions.fingerprints[0]
    for item in sessions.pending:
        yield _pending_result(item)
    if not sessions.pending:
        yield ok("pending", "nothing is pending for the device at this server")
    yield from _limit_results(sessions.limits, limits)


def _of_relay(config: Config, followed: _Followed) -> Iterator[Result]:
    name, url = "registration", config.relay_url
    if not url:
        yield still_open(name, "RELAY_URL is empty: this server sends no pushes", "set it, unless devices poll")
        return
    try:
        identity = identity_of(config)
        if identity is None:
            yield still_open(name, "the server has no identity yet: it waits for its first boot", "complete it")
            return
        client = relay_client(config, identity)

        async def read() -> PushHistory:
            try:
                return await client.history(followed.fingerprint)
            finally:
                await client.close()

        history = _checked(asyncio.run(read()), followed.fingerprint)
    except StartupError as error:
        yield failed(name, str(error), _DOCTOR)
    except ssl.SSLError:
        yield failed(name, "the certificate authorities of this host cannot be read", "check SSL_CERT_FILE")
    except NoHistory as none:
        text, step = _NO_HISTORY[none.reason]
        yield (still_open if none.reason == "older" else failed)(name, text, step)
    except (RelayUnavailable, RelayRejected) as error:
        yield failed(name, f"the relay {url} gave no usable answer: {error}", _DOCTOR)
    else:
        followed.history, followed.fingerprint = history, history.fingerprint
        yield registration_result(history.registration, url)
        yield from push_results(history)


def _checked(history: PushHistory, requested: str) -> PushHistory:
    """With its texts cleaned; RelayUnavailable for a response that is about another device."""
    if not _WHOLE.match(history.fingerprint) or not history.fingerprint.startswith(requested):
        raise RelayUnavailable("an answer of another form")
    pushes = msgspec.to_builtins(history.pushes[:_MAX_PUSHES])
    return msgspec.convert(_cleaned(msgspec.to_builtins(history) | {"pushes": pushes}), PushHistory)


def _pending_result(item: PendingItem) -> Result:
    kind = "challenge" if item.type == "challenge" else "approval request"
    text = f"{kind} {item.id} of API key {item.key_id}, expires in {_time(item.expires_in)}: {_push_words(item)}"
    if item.push in {"delivered", "sent"}:
        return ok("pending", text)
    if item.error in {"not_registered", "token_evicted"}:
        return failed("pending", text, "see the finding registration; the person may open the app, which lists it")
    step = _DOCTOR if item.error == "relay_unreachable" else "the server tries again by itself"
    if item.push == "failed" and item.step is None:
        return failed("pending", text, "see the pushes above; the person may open the app, which lists it")
    return still_open("pending", text, step if item.push != "disabled" else "set RELAY_URL, unless devices poll")


def _push_words(item: PendingItem) -> str:
    words = {
        "delivered": "its push was delivered",
        "sent": "its push has a result",
        "queued": "its push is on its way",
        "disabled": "no relay was set when it was created",
    }.get(item.push, f"its push failed ({item.error})")
    if item.step is None:
        return words
    step = {"send": "send it", "poll": "query its outcome", "clear": "clear it"}[item.step]
    when = f"a worker does so now ({step})" if item.sending else f"next attempt to {step} in {item.attempt_in} s"
    tries = f" after {item.attempts}" if item.attempts else ""
    return f"{words}; {when}{tries}"


def _limit_results(found: list[KeyLimits], limits: Limits) -> Iterator[Result]:
    fine = True
    for one in found:
        key = f"API key {one.key_id}"
        if one.muted_for:
            fine = False
            yield failed(
                "limits", f"muted for {_time(one.muted_for)} for {key}: the person answered that they did not ask",
                "find out who started that sign-in; the mute ends by itself",
            )  # fmt: skip
        if one.pending >= limits.max_pending:
            fine = False
            yield failed(
                "limits", f"{one.pending} of {limits.max_pending} challenges of {key} are pending: it gets 429",
                "wait until one ends, or cancel one",
            )  # fmt: skip
        if one.limited_for:
            fine = False
            yield still_open(
                "limits", f"{key} is over SIGIL_DEVICE_RATE for the next {_time(one.limited_for)}: it gets 429",
                "create challenges more slowly",
            )  # fmt: skip
    if fine:
        yield ok("limits", f"not muted; each API key may have {limits.max_pending} pending")


def _time(seconds: int) -> str:
    return f"{seconds} s" if seconds < 120 else f"{round(seconds / 60)} min"


def _as_json(followed: _Followed) -> dict[str, Any]:
    whole = _WHOLE.match(followed.fingerprint)
    sessions = followed.sessions
    return {
        "fingerprint": followed.fingerprint if whole else None,
        "pictogram_speakable": speakable(followed.fingerprint) if whole else None,
        "relay": msgspec.to_builtins(followed.history) if followed.history else None,
        "server": {
            "pending": [asdict(item) for item in sessions.pending],
            "limits": [asdict(one) for one in sessions.limits],
        }
        if sessions
        else None,
    }


def _cleaned(value: Any) -> Any:
    """Without control characters, and with no text longer than a person reads."""
    if isinstance(value, dict):
        return {name: _cleaned(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    return printable(value[:_MAX_TEXT]) if isinstance(value, str) else value
