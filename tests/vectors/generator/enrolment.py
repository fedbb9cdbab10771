"""Enrolment: tokens, links, offers, and the session of a whole enrolment with every signature."""

from __future__ import annotations

import base64
import hmac
import json
from typing import Any
from urllib.parse import quote

from . import Case, b64, jcs, sha256
from .curves import P256, SECP256K1, SECRET, SEED, ed_public, ed_sign, rs
from .signed import SERVER_ID

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
ENROLMENT_ID = "550e8400-e29b-41d4-a716-446655440000"
SECRET_OF_ENROLMENT = bytes(range(64, 96))
TOKEN = "7K3MQ9XP2RTB"
# Of no server: the keys of the device and of the one that it replaces.
DEVICE, REPLACED = 7, 11
KEYS: dict[str, tuple[bytes, Any]] = {
    "ES256": (P256.public(DEVICE), lambda message: rs(*P256.sign(DEVICE, message))),
    "ES256K": (SECP256K1.public(DEVICE), lambda message: rs(*SECP256K1.sign(DEVICE, message))),
    "Ed25519": (ed_public(SEED), lambda message: ed_sign(SEED, message)),
}


def b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def enrolment() -> list[Case]:
    return [*_tokens(), *_typed(), *_uris(), *_offers(), *_sessions()]


def _tokens() -> list[Case]:
    cases = []
    for random in (bytes(8), b"\xff" * 8, bytes(range(8)), bytes.fromhex("0123456789abcdef"), b"\0" * 7 + b"\x1f"):
        bits = f"{int.from_bytes(random, 'big'):064b}"[:60]
        token = "".join(CROCKFORD[int(bits[i : i + 5], 2)] for i in range(0, 60, 5))
        cases.append(
            {
                "name": f"token of {random.hex()}",
                "of": "token",
                "input": random.hex(),
                "expect": {
                    "token": token,
                    "typed": "-".join([token[:4], token[4:8], token[8:]]),
                    "sha256": sha256(b"SIGIL-ENROL-TOKEN-V1\0" + token.encode()).hex(),
                },
            }
        )
    return cases


def _typed() -> list[Case]:
    rows: list[tuple[str, str, str | None]] = [
        ("canonical", TOKEN, TOKEN),
        ("in groups", "7K3M-Q9XP-2RTB", TOKEN),
        ("with spaces and hyphens anywhere", "  7k-3 M Q9 xp-- 2RtB- ", TOKEN),
        ("O for 0", "O0o0-O0o0-O0o0", "0" * 12),
        ("I and L for 1", "I1lL-iLl1-1LiI", "1" * 12),
        ("every letter", "ABCD-EFGH-JKMN", "ABCDEFGHJKMN"),
        ("every other letter", "PQRS-TVWX-YZ01", "PQRSTVWXYZ01"),
        ("with a U", "7K3MQ9XP2RTU", None),
        ("too short", TOKEN[:11], None),
        ("too long", TOKEN + "0", None),
        ("nothing", "", None),
        ("hyphens alone", "------------", None),
        ("a tab", TOKEN[:6] + "\t" + TOKEN[6:], None),
        ("a newline at the end", TOKEN + "\n", None),
        ("a dash that is no hyphen", "7K3M\u2013Q9XP\u20132RTB", None),
        ("a no-break space", "7K3M\u00a0Q9XP2RTB", None),
        ("a long s, whose upper case is S", "7K3MQ9XP2RT\u017f", None),
        ("a dotless i, whose upper case is I", "7K3MQ9XP2RT\u0131", None),
        ("full-width digits", "\uff17K3MQ9XP2RTB", None),
        ("a check symbol of Crockford", "7K3MQ9XP2RT*", None),
        ("a whole link", f"sigil:enrol?u=x&s=y&t={TOKEN}", None),
        ("more hyphens than anyone types", "-" * 64 + TOKEN, None),
    ]
    return [{"name": f"typed: {name}", "of": "typed", "input": text, "expect": token} for name, text, token in rows]


def _uri(base_url: str = "https://sigil.example.com", server_id: str = SERVER_ID, token: str = TOKEN) -> str:
    return f"sigil:enrol?u={quote(base_url, safe='')}&s={b64url(bytes.fromhex(server_id))}&t={token}"


def _uris() -> list[Case]:
    good = _uri()
    s = b64url(bytes.fromhex(SERVER_ID))
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    not_zero = s[:-1] + last[last.index(s[-1]) + 1]
    accepted = {
        "https": "https://sigil.example.com",
        "a port": "https://sigil.example.com:8443",
        "an IPv6 address": "https://[2001:db8::1]",
        "loopback in development": "http://127.0.0.1:8000",
        "localhost in development": "http://localhost:8000",
        "a hyphen and a punycode name": "https://xn--bcher-kva.a-b.example",
    }
    cases: list[Case] = [
        {
            "name": f"uri: {name}",
            "of": "uri",
            "input": _uri(base_url),
            "expect": {"base_url": base_url, "server_id": SERVER_ID, "token": TOKEN},
        }
        for name, base_url in accepted.items()
    ]
    rejected = {
        "nothing": "",
        "the scheme in upper case": good.replace("sigil:", "SIGIL:"),
        "another scheme": good.replace("sigil:", "https:"),
        "two slashes": good.replace("sigil:enrol", "sigil://enrol"),
        "another action": good.replace("enrol?", "sign?"),
        "another order": f"sigil:enrol?s={s}&u=https%3A%2F%2Fsigil.example.com&t={TOKEN}",
        "a member twice": good + f"&t={TOKEN}",
        "another member": good + "&x=1",
        "a fragment": good + "#x",
        "no token": good[: good.index("&t=")],
        "an empty token": good.removesuffix(TOKEN),
        "a token in lower case": _uri(token=TOKEN.lower()),
        "a token with hyphens": _uri(token="7K3M-Q9XP-2RTB"),
        "a token with a U": _uri(token=TOKEN[:11] + "U"),
        "a token with an O": _uri(token=TOKEN[:11] + "O"),
        "s of 31 bytes": good.replace(s, b64url(bytes(31))),
        "s of 33 bytes": good.replace(s, b64url(bytes(33))),
        "s in hex": good.replace(s, SERVER_ID),
        "s padded": good.replace(s, s + "="),
        "s with trailing bits that are not zero": good.replace(s, not_zero),
        "s in the standard alphabet": good.replace(s, base64.b64encode(b"\xfb\xff" * 16).decode().rstrip("=")),
        "a newline at the end": good + "\n",
        "a blank at the start": " " + good,
        "u not encoded": good.replace("https%3A%2F%2F", "https://"),
        "u encoded in lower case": good.replace("%3A%2F%2F", "%3a%2f%2f"),
        "u with a letter encoded": good.replace("sigil.example", "%73igil.example"),
        "u encoded twice": good.replace("%", "%25"),
        "u with a percent sign cut short": good.replace("%3A%2F%2F", "%3A%2F%2"),
        "u empty": good.replace("https%3A%2F%2Fsigil.example.com", ""),
        "u with a slash at the end": _uri("https://sigil.example.com/"),
        "u with a path": _uri("https://sigil.example.com/a"),
        "u with a user": _uri("https://a@sigil.example.com"),
        "u with the default port": _uri("https://sigil.example.com:443"),
        "u in upper case": _uri("https://SIGIL.example.com"),
        "u with plain http": _uri("http://sigil.example.com"),
        "u that is not UTF-8": good.replace("sigil.example", "%FF.example"),
        "u with a zero byte": good.replace("sigil.example", "%00.example"),
        "u with a newline": _uri("https://sigil.example.com\n"),
        "u with a letter that is not ASCII": _uri("https://b\u00fccher.example"),
        "too long": _uri("https://" + "a." * 600 + "example"),
    }
    cases += [{"name": f"uri: {name}", "of": "uri", "input": uri, "expect": None} for name, uri in rejected.items()]
    return cases


def _offer(claim: bytes = bytes(range(16)), **changes: Any) -> Case:
    enrolment_id = bytes.fromhex(ENROLMENT_ID.replace("-", ""))
    nonce = hmac.digest(SECRET_OF_ENROLMENT, b"nonce\0" + enrolment_id + claim, "sha256")
    commitment = sha256(b"SIGIL-ENROL-COMMIT-V1\0" + _sas_nonce(claim))
    return {
        "account": "alice@example.com",
        "attestation": {"kinds": [], "min_level": ""},
        "claim_id": claim.hex(),
        "commitment": b64(commitment),
        "confirm": "code",
        "enrolment_id": ENROLMENT_ID,
        "expires_at": "2026-04-24T10:37:15Z",
        "nonce": b64(nonce),
        "replaces": "",
        "server_id": SERVER_ID,
        "server_name": "Example",
        "token_sha256": sha256(b"SIGIL-ENROL-TOKEN-V1\0" + TOKEN.encode()).hex(),
    } | changes


def _sas_nonce(claim_id: bytes) -> bytes:
    enrolment_id = bytes.fromhex(ENROLMENT_ID.replace("-", ""))
    return hmac.digest(SECRET_OF_ENROLMENT, b"sas\0" + enrolment_id + claim_id, "sha256")


def _offers() -> list[Case]:
    """What a device accepts as the text of an offer; the path is that of the first member that is wrong."""
    offer, kinds = _offer(), "$.offer.attestation.kinds"
    reverse = json.dumps(dict(sorted(offer.items(), reverse=True)), separators=(",", ":")).encode()
    texts: list[tuple[str, bytes, str | None]] = [
        ("as sent", jcs(offer), None),
        ("kinds and a level", jcs(_offer(attestation={"kinds": ["a", "b"], "min_level": "hardware"})), None),
        ("a replaced key", jcs(_offer(replaces="f" * 64, confirm="none")), None),
        ("an account that is not ASCII", jcs(_offer(account="Zo\u00eb \u20ac \U0001f600")), None),
        ("128 code points", jcs(_offer(account="\u00eb" * 128)), None),
        ("129 code points", jcs(_offer(account="\u00eb" * 129)), "$.offer.account"),
        ("an account with a newline", jcs(_offer(account="a\nb")), "$.offer.account"),
        ("an empty account", jcs(_offer(account="")), "$.offer.account"),
        ("a server name with an escape", jcs(_offer(server_name="\u001b[2J")), "$.offer.server_name"),
        ("a blank in the JSON", jcs(offer).replace(b",", b", ", 1), "$.offer"),
        ("members in another order", reverse, "$.offer"),
        ("another member", jcs(offer | {"zone": ""}), "$.offer"),
        ("a member twice", jcs(offer)[:-1] + b',"token_sha256":"' + b"0" * 64 + b'"}', "$"),
        ("a list", b"[]", "$.offer"),
        ("a fraction", jcs(offer).replace(b'"code"', b"1.5"), "$.offer"),
        ("another member of attestation", jcs(_offer(attestation={"kinds": [], "min_level": "", "x": 1})), "$.offer"),
        ("an unknown level", jcs(_offer(attestation={"kinds": [], "min_level": "high"})), "$.offer"),
        ("kinds that are not sorted", jcs(_offer(attestation={"kinds": ["b", "a"], "min_level": ""})), kinds),
        ("a kind twice", jcs(_offer(attestation={"kinds": ["a", "a"], "min_level": ""})), kinds),
        ("an unknown way to confirm", jcs(_offer(confirm="pin")), "$.offer"),
        ("a claim_id in upper case", jcs(_offer(claim_id="AB" * 16)), "$.offer.claim_id"),
        ("a claim_id of 15 bytes", jcs(_offer(claim_id="ab" * 15)), "$.offer.claim_id"),
        ("a commitment of 31 bytes", jcs(_offer(commitment=b64(bytes(31)))), "$.offer.commitment"),
        ("a nonce without padding", jcs(_offer(nonce=b64(bytes(32)).rstrip("="))), "$.offer.nonce"),
        ("an enrolment_id in upper case", jcs(_offer(enrolment_id=ENROLMENT_ID.upper())), "$.offer.enrolment_id"),
        ("an enrolment_id that is no UUID", jcs(_offer(enrolment_id="x")), "$.offer.enrolment_id"),
        ("a time with a fraction", jcs(_offer(expires_at="2026-04-24T10:37:15.0Z")), "$.offer.expires_at"),
        ("a replaced key cut short", jcs(_offer(replaces="f" * 63)), "$.offer.replaces"),
        ("a server_id in upper case", jcs(_offer(server_id="F" * 64)), "$.offer.server_id"),
        ("a token_sha256 in base64", jcs(_offer(token_sha256=b64(bytes(32)))), "$.offer.token_sha256"),
    ]  # fmt: skip
    texts += [
        (f"without {name}", jcs({key: value for key, value in offer.items() if key != name}), "$.offer")
        for name in offer
    ]
    texts += [(f"null as {name}", jcs(offer | {name: None}), "$.offer") for name in offer]
    return [
        {"name": f"offer: {name}", "of": "offer", "input": text.decode(), "expect": path} for name, text, path in texts
    ]


def _digest(offer: Case, public: bytes, statement: Case | None) -> bytes:
    return sha256(jcs(offer)) + sha256(public) + sha256(jcs(statement) if statement else b"")


def _code(sas: bytes) -> str:
    return str(int.from_bytes(sas[:8], "big") % 1_000_000).rjust(6, "0")


def _code_of(claim_id: bytes) -> str:
    digest = _digest(_offer(claim_id), KEYS["ES256"][0], None)
    return _code(sha256(b"SIGIL-ENROL-SAS-V1\0" + digest + _sas_nonce(claim_id)))


def _session(
    name: str,
    suite: str = "ES256",
    claim_id: bytes = bytes(range(16)),
    statement: Case | None = None,
    **changes: Any,
) -> Case:
    offer = _offer(claim_id, **changes)
    public, sign = KEYS[suite]
    digest = _digest(offer, public, statement)
    sas_nonce = _sas_nonce(claim_id)
    sas = sha256(b"SIGIL-ENROL-SAS-V1\0" + digest + sas_nonce)
    x = int.from_bytes(sas[8:12], "big")
    expect = {
        "offer_jcs": jcs(offer).decode(),
        "server_signature": b64(rs(*P256.sign(SECRET, b"SIGIL-ENROL-OFFER-V1\0" + jcs(offer)))),
        "sas_nonce": b64(sas_nonce),
        "digest": digest.hex(),
        "signature": b64(sign(b"SIGIL-ENROL-V1\0" + digest)),
        "sas": sas.hex(),
        "code": _code(sas),
        "pictogram_indices": [(x >> (26 - 6 * i)) & 63 for i in range(5)],
    }
    if offer["replaces"]:
        consent = rs(*P256.sign(REPLACED, b"SIGIL-ENROL-REPLACE-V1\0" + digest))
        expect["replaces_signature"] = b64(consent)
    if statement:
        bound = {
            "context": ENROLMENT_ID,
            "key": "" if "x5c" in statement and not statement.get("witness") else b64(public),
            "kind": statement["kind"],
            "nonce": offer["nonce"],
            "server_id": SERVER_ID,
        }
        expect["attest_digest"] = sha256(b"SIGIL-ATTEST-V1\0" + jcs(bound)).hex()
    return {
        "name": f"session: {name}",
        "of": "session",
        "input": {
            "secret": SECRET_OF_ENROLMENT.hex(),
            "token": TOKEN,
            "offer": offer,
            "device_public_key": b64(public),
            "attestation": statement,
        },
        "expect": expect,
    }


def _sessions() -> list[Case]:
    replaced = sha256(P256.public(REPLACED)).hex()
    yubikey = {"kind": "yubikey-piv", "x5c": [b64(bytes(40)), b64(bytes(41))]}
    android = {"kind": "android-key", "x5c": [b64(bytes(40)), b64(bytes(41))], "witness": False}
    numbers = (number.to_bytes(16, "big") for number in range(10_000))
    zeros = next(claim_id for claim_id in numbers if _code_of(claim_id).startswith("00"))
    return [
        *(_session(suite, suite) for suite in KEYS),
        _session("a replaced key", "Ed25519", replaces=replaced, confirm="none"),
        _session("an account that is not ASCII", account="Zo\u00eb \u20ac \U0001f600"),
        _session("a YubiKey", statement=yubikey, attestation={"kinds": ["yubikey-piv"], "min_level": "hardware"}),
        _session("Android", "ES256", statement=android, attestation={"kinds": ["android-key"], "min_level": ""}),
        _session("Apple", statement={"kind": "apple-appattest", "object": b64(b"\xa3cfmt")}),
        _session("a witness", "Ed25519", statement=android | {"witness": True}),
        _session("a code with leading zeros", claim_id=zeros),
    ]
