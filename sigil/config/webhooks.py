"""The settings of webhooks: the URL, the signing secrets, and the schedule of retries."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from sigil.protocol.webhook import standard_signature
from sigil.serving.addresses.private_networks import is_private
from sigil.serving.settings import MIN_SECRET_LENGTH, EnvReader, Secret, count

_DEFAULT_SCHEDULE: tuple[int, ...] = (1, 5, 30, 120, 600, 1800)
_MAX_RETRIES = 20
# A name or an address; characters on which URL parsers disagree are rejected.
_HOST = re.compile(r"[a-z0-9._-]+\Z|[0-9a-f:.]+(?:%[a-z0-9]+)?\Z", re.ASCII)
_PLAIN = re.compile(r"[\x21-\x5b\x5d-\x7e]+\Z")


@dataclass(frozen=True)
class WebhookTarget:
    """`secrets` holds one secret, or the new and the old one; `schedule` the seconds from one attempt to the next.

    The URL is secret too: its path or query may contain a token.
    """

    url: Secret
    secrets: tuple[Secret, ...]
    schedule: tuple[int, ...] = _DEFAULT_SCHEDULE


def target(r: EnvReader) -> WebhookTarget | None:
    """None without WEBHOOK_URL. A URL without a secret is a fault."""
    destination, keys = url(r), secrets(r)
    schedule = r.value("SIGIL_WEBHOOK_SCHEDULE", _DEFAULT_SCHEDULE, _schedule)
    if destination is None:
        return None
    if not keys and not any("WEBHOOK_SECRET" in fault for fault in r.faults):
        r.faults.append(
            f"WEBHOOK_URL needs WEBHOOK_SECRET, {MIN_SECRET_LENGTH} characters or more (`openssl rand -hex 32`)"
        )
    return WebhookTarget(destination, keys, schedule)


def url(r: EnvReader) -> Secret | None:
    given = r.secret("WEBHOOK_URL")
    try:
        return given and Secret(webhook_url(given.reveal()))
    except ValueError as error:
        r.faults.append(f"WEBHOOK_URL: {error}")
        return None


def secrets(r: EnvReader) -> tuple[Secret, ...]:
    parts = r.secrets("WEBHOOK_SECRET")
    if any(len(part) < MIN_SECRET_LENGTH for part in parts) or len(parts) > 2:
        r.faults.append(
            f"WEBHOOK_SECRET: {MIN_SECRET_LENGTH} characters or more (`openssl rand -hex 32`), or two as new,old"
        )
    elif not all(_is_usable(part) for part in parts):
        r.faults.append("WEBHOOK_SECRET: after whsec_ the secret must be base64")
    return tuple(Secret(part) for part in parts)


def _is_usable(secret: str) -> bool:
    """False when the text after `whsec_` is not a key."""
    try:
        standard_signature(secret, "", "", b"")
    except ValueError:
        return False
    return True


def webhook_url(text: str) -> str:
    """A URL that events may go to, else ValueError. Its path and query are not changed: they belong to the receiver."""
    parts = urlsplit(text)
    host = parts.hostname or ""
    if not _PLAIN.match(text) or not _HOST.match(host) or parts.fragment:
        raise ValueError("must be a URL such as https://example.com/webhooks/sigil, in ASCII and without a fragment")
    if "@" in parts.netloc:
        raise ValueError("must have no user and password: the receiver verifies the signature instead")
    if parts.scheme not in {"http", "https"}:
        raise ValueError("must be an https URL, or an http URL of loopback or a private network")
    if parts.scheme == "http" and _is_public(host):
        raise ValueError("plain http is for loopback and private addresses only: use https")
    _ = parts.port
    return text


def _is_public(host: str) -> bool:
    """For an IP address. The address of a host name is checked at each connection."""
    try:
        return not is_private(host)
    except ValueError:
        return False


def _schedule(text: str) -> tuple[int, ...]:
    delays = text.split(",")
    try:
        if len(delays) > _MAX_RETRIES:
            raise ValueError
        return tuple(count(1, 86_400)(delay.strip()) for delay in delays)
    except ValueError:
        raise ValueError(
            f"must be 1 to {_MAX_RETRIES} delays in seconds, each from 1 to 86400, such as 1,5,30"
        ) from None
