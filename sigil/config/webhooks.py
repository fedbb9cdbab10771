"""The settings of webhooks: where events go, what they are signed with, and when they are tried again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from sigil.protocol.webhook import standard_signature
from sigil.serving.private_networks import is_private
from sigil.serving.settings import MIN_SECRET_LENGTH, EnvReader, Secret, count

_DEFAULT_SCHEDULE: tuple[int, ...] = (1, 5, 30, 120, 600, 1800)
_MOST_TRIES_AGAIN = 20
# A name or an address; what readers of URLs disagree about is not let in.
_HOST = re.compile(r"[a-z0-9._-]+\Z|[0-9a-f:.]+(?:%[a-z0-9]+)?\Z", re.ASCII)
_PLAIN = re.compile(r"[\x21-\x5b\x5d-\x7e]+\Z")


@dataclass(frozen=True)
class WebhookTarget:
    """`secrets` are one, or the new and the old; `schedule` holds the seconds from one try to the next.

    The URL is shown to nobody: its path or query may be a token.
    """

    url: Secret
    secrets: tuple[Secret, ...]
    schedule: tuple[int, ...] = _DEFAULT_SCHEDULE


def target(r: EnvReader) -> WebhookTarget | None:
    """None without WEBHOOK_URL. A fault is noted when there is no secret for it."""
    where, known, waits = url(r), secrets(r), r.value("SIGIL_WEBHOOK_SCHEDULE", _DEFAULT_SCHEDULE, _schedule)
    if where is None:
        return None
    if not known and not any("WEBHOOK_SECRET" in fault for fault in r.faults):
        r.faults.append(
            f"WEBHOOK_URL needs WEBHOOK_SECRET, {MIN_SECRET_LENGTH} characters or more: receivers know events by it"
        )
    return WebhookTarget(where, known, waits)


def url(r: EnvReader) -> Secret | None:
    given = r.secret("WEBHOOK_URL")
    try:
        return given and Secret(webhook_url(given.reveal()))
    except ValueError as error:
        r.faults.append(f"WEBHOOK_URL: {error}")
        return None


def secrets(r: EnvReader) -> tuple[Secret, ...]:
    given = r.secret("WEBHOOK_SECRET")
    parts = [part.strip() for part in given.reveal().split(",")] if given else []
    if any(len(part) < MIN_SECRET_LENGTH for part in parts) or len(parts) > 2:
        r.faults.append(
            f"WEBHOOK_SECRET: is a secret of {MIN_SECRET_LENGTH} characters or more, or two of them as new,old"
        )
    elif not all(_signs(part) for part in parts):
        r.faults.append("WEBHOOK_SECRET: a secret that begins with whsec_ goes on in base64")
    return tuple(Secret(part) for part in parts)


def _signs(secret: str) -> bool:
    """False when what follows `whsec_` is no key."""
    try:
        standard_signature(secret, "", "", b"")
    except ValueError:
        return False
    return True


def webhook_url(text: str) -> str:
    """A URL that events may go to, else ValueError. Path and query are the receiver's."""
    parts = urlsplit(text)
    host = parts.hostname or ""
    if not _PLAIN.match(text) or not _HOST.match(host) or parts.fragment:
        raise ValueError("is a URL such as https://example.com/webhooks/sigil, in ASCII and without a fragment")
    if "@" in parts.netloc:
        raise ValueError("holds no user and password: a receiver knows Sigil by its signature")
    if parts.scheme not in {"http", "https"}:
        raise ValueError("is an https URL, or an http one of loopback or a private network")
    if parts.scheme == "http" and _is_public(host):
        raise ValueError("plain http goes to loopback and private addresses only; use https")
    _ = parts.port
    return text


def _is_public(host: str) -> bool:
    """Of an address. Where a name leads is seen at each connection."""
    try:
        return not is_private(host)
    except ValueError:
        return False


def _schedule(text: str) -> tuple[int, ...]:
    waits = text.split(",")
    try:
        if len(waits) > _MOST_TRIES_AGAIN:
            raise ValueError
        return tuple(count(1, 86_400)(wait.strip()) for wait in waits)
    except ValueError:
        raise ValueError(
            f"is 1 to {_MOST_TRIES_AGAIN} waits in seconds, each from 1 to 86400, such as 1,5,30"
        ) from None
