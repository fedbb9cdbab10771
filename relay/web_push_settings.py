"""What the relay needs for Web Push: its VAPID keys, its contact, and the hosts that it may send to. Pure values.

Every check of a subscription that can be made without a connection is here: `Settings.refusal` decides, at registration
and again before each push.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sigil.protocol.encoding.text import decode_base64url, encode_base64url
from sigil.protocol.web_push import NotAWebPushToken, WebPushToken, host_name
from sigil.serving.settings import Secret

KEY_BYTES = 32
MAX_KEYS = 2
MAX_HOSTS = 64
HTTPS_PORT = 443
# jmt17 is where Debian's Chromium subscribes.
DEFAULT_HOSTS = (
    "fcm.googleapis.com jmt17.google.com updates.push.services.mozilla.com web.push.apple.com *.notify.windows.com"
)
# RFC 2606 and 6761, and names of private networks. Apple answers 403 BadJwtToken to such a contact.
_RESERVED = frozenset({"test", "example", "invalid", "localhost", "local", "localdomain", "internal", "lan", "home"})
_RESERVED_NAMES = frozenset({"example.com", "example.net", "example.org", "home.arpa"})
_ADDRESS = re.compile(r"(\[[0-9a-f:.]+\]|[0-9.]+)(?::([0-9]{1,5}))?\Z", re.ASCII | re.IGNORECASE)
_MAIL = re.compile(r"mailto:[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@([A-Za-z0-9.-]+)\Z", re.ASCII)
# Without a user: each push service gets this text.
_PAGE = re.compile(r"https://([A-Za-z0-9.-]+)(?::[0-9]{1,5})?(?:/[!-~]*)?\Z", re.ASCII)
_MAX_CONTACT = 255


@dataclass(frozen=True)
class VapidKey:
    """A P-256 key (RFC 8292). `private` is base64url of its 32 bytes, `public` the uncompressed point."""

    private: Secret
    public: bytes

    @property
    def public_text(self) -> str:
        """As a browser and the `k` of a request take it."""
        return encode_base64url(self.public)

    def load(self) -> ec.EllipticCurvePrivateKey:
        data = decode_base64url(self.private.reveal()) or b""
        return ec.derive_private_key(int.from_bytes(data), ec.SECP256R1())


def new_key() -> str:
    """The text of a new key."""
    private = ec.generate_private_key(ec.SECP256R1()).private_numbers().private_value
    return encode_base64url(private.to_bytes(KEY_BYTES))


def vapid_key(text: str) -> VapidKey:
    """ValueError for anything but the text of `new_key`."""
    data = decode_base64url(text)
    if data is None or len(data) != KEY_BYTES:
        raise ValueError("must be a key of `sigil-relay webpush-key`, or new,old")
    try:
        key = ec.derive_private_key(int.from_bytes(data), ec.SECP256R1())
    except ValueError:
        raise ValueError("is no key of P-256: make one with `sigil-relay webpush-key`") from None
    return VapidKey(Secret(text), key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))


def contact(text: str) -> str:
    """The `sub` of the relay's tokens (RFC 8292, 2.1): a mailto: or https: URL that its operator reads; ValueError."""
    match = _MAIL.match(text) or _PAGE.match(text)
    if match is None or len(text) > _MAX_CONTACT:
        raise ValueError("must be mailto:you@your-domain, or an https URL, at which push services reach you")
    try:
        name = host_name("contact", match[1].lower())
    except NotAWebPushToken:
        raise ValueError("must have a public host name: Apple's push service refuses others") from None
    labels = name.split(".")
    if len(labels) < 2 or labels[-1] in _RESERVED or ".".join(labels[-2:]) in _RESERVED_NAMES:
        raise ValueError("must not have a reserved or private host name: Apple's push service refuses those")
    return text


class Host(NamedTuple):
    """One item of RELAY_WEBPUSH_HOSTS. `name`: a host, or with `wildcard` the end of one. `address`: connect there, and
    resolve nothing; it may be private, since the operator wrote it."""

    name: str
    wildcard: bool = False
    address: str | None = None
    port: int = HTTPS_PORT

    def __str__(self) -> str:
        return f"*.{self.name}" if self.wildcard else self.name


def hosts(text: str) -> tuple[Host, ...]:
    """ValueError. `name`, `*.name` (one or more labels before it), `name=address` or `name=address:port`."""
    items = [item for item in re.split(r"[\s,]+", text) if item]
    found = tuple(_host(item) for item in items)
    if not 0 < len(found) <= MAX_HOSTS:
        raise ValueError(f"must be a list of 1 to {MAX_HOSTS} hosts")
    if len({str(host) for host in found}) < len(found):
        raise ValueError("names a host twice")
    return found


def _host(item: str) -> Host:
    name, mapped, target = item.lower().partition("=")
    wildcard = name.startswith("*.")
    try:
        name = host_name("it", name.removeprefix("*."))
    except NotAWebPushToken:
        raise ValueError("must be a list of host names, such as push.example.com or *.push.example.com") from None
    if wildcard and (mapped or "." not in name):
        raise ValueError("has a wildcard with an address, or of a whole top-level domain: name the hosts")
    if not mapped:
        return Host(name, wildcard)
    match = _ADDRESS.match(target)
    port = int(match[2] or HTTPS_PORT) if match else 0
    try:
        address = str(ipaddress.ip_address(match[1].strip("[]") if match else ""))
    except ValueError:
        port = 0
    if not 0 < port < 65536:
        raise ValueError("must have an IP address after =, such as push.example.com=10.0.0.5:443")
    return Host(name, False, address, port)


Refusal = Literal["host_not_listed", "key_not_of_relay"]


@dataclass(frozen=True)
class Settings:
    """`keys`: the newest first, which new subscriptions use. A subscription accepts no other key than its own."""

    keys: tuple[VapidKey, ...]
    contact: str | None = None
    hosts: tuple[Host, ...] = hosts(DEFAULT_HOSTS)

    def host_of(self, name: str) -> Host | None:
        """The item that allows this host: one with its name before a wildcard, and the longest wildcard."""
        best: Host | None = None
        for host in self.hosts:
            if not host.wildcard and host.name == name:
                return host
            if host.wildcard and name.endswith(f".{host.name}") and (best is None or len(host.name) > len(best.name)):
                best = host
        return best

    def key_of(self, public: bytes) -> VapidKey | None:
        # Comparing needs no constant time: the key is public.
        return next((key for key in self.keys if key.public == public), None)

    def refusal(self, token: WebPushToken) -> Refusal | None:
        """Why the relay sends nothing to this subscription."""
        if self.host_of(token.host) is None:
            return "host_not_listed"
        return None if self.key_of(token.key) is not None else "key_not_of_relay"
