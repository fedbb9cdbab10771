"""Signatures of web devices' keys: the bytes of a browser and of an authenticator, made by hand."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

from . import Case, sha256
from .curves import P256, der, rs

PREFIX = b"\x81\x80\xc0\x01"
ORIGIN, HOST = "https://sigil.example.com", "sigil.example.com"
ASSERTION, LOCAL, OTHER = 0x5EC1, 0x10CA1, 0x07E4
BODY = bytes(range(64))
AUTH, MATCH, REJECT = b"SIGIL-AUTH-V1\0", b"SIGIL-AUTH-MATCH-V1\0", b"SIGIL-AUTH-REJECT-V1\0"
UP, UV, BE, BS, AT, ED = 1, 4, 8, 16, 64, 128

LOCAL_ALONE = [
    f"SIGIL-{name}-V1"
    for name in ("AUTH-REJECT", "MPA-REJECT", "PENDING", "RELAY-REGISTER", "RELAY-UNREGISTER", "RELAY-WS-AUTH")
]
BOTH = [
    f"SIGIL-{name}-V1"
    for name in (
        "AUTH", "AUTH-MATCH", "MPA", "ENROL", "ENROL-REPLACE", "ATTEST-PROOF", "SERVER-KEYS", "RELAY-REQUEST",
        "ENROL-OFFER", "DEVICE-CREDENTIAL", "SOMETHING-LATER",
    )
]  # fmt: skip


def wire_of(origin: str = ORIGIN, assertion: int = ASSERTION, local: int = LOCAL) -> bytes:
    return PREFIX + P256.public(assertion) + P256.public(local) + sha256(origin.encode())


def b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def client_data(signed: bytes, origin: str = ORIGIN, **members: Any) -> bytes:
    """`members` are added or replaced; None leaves one out."""
    found = {
        "type": "webauthn.get",
        "challenge": b64url(sha256(signed)),
        "origin": origin,
        "crossOrigin": False,
        **members,
    }
    return json.dumps(
        {name: value for name, value in found.items() if value is not None}, separators=(",", ":"), ensure_ascii=False
    ).encode()


def authenticator_data(host: str = HOST, flags: int = UP | UV, counter: int = 0, rest: bytes = b"") -> bytes:
    return sha256(host.encode()) + bytes([flags]) + counter.to_bytes(4, "big") + rest


def local_of(signed: bytes, secret: int = LOCAL) -> bytes:
    return rs(*P256.sign(secret, signed))


def asserted(data: bytes, text: bytes, secret: int = ASSERTION) -> tuple[int, int]:
    return P256.sign(secret, data + sha256(text))


def joined(local: bytes, assertion: bytes, data: bytes, text: bytes, n: int | None = None) -> bytes:
    return local + assertion + (len(data) if n is None else n).to_bytes(2, "big") + data + text


def whole(signed: bytes, data: bytes, text: bytes, *, local: int = LOCAL, assertion: int = ASSERTION) -> bytes:
    """Both signatures verify, for any data and text."""
    return joined(local_of(signed, local), rs(*asserted(data, text, assertion)), data, text)


def webauthn() -> list[Case]:
    cases: list[Case] = []

    def case(name: str, signature: bytes, expect: bool | str, message: bytes = AUTH + BODY, **more: Any) -> None:
        key = more.pop("key", None) or wire_of()
        refused = {} if expect is True else {"reason": expect}
        cases.append(
            {
                "name": name,
                "public_key": key.hex(),
                "message": message.hex(),
                "signature": signature.hex(),
                "expect": expect is True,
                **refused,
                **more,
            }
        )

    _assembled(case)
    _tags(case)
    _halves(case)
    _shared_halves(case)
    _client_data(case)
    _strict_json(case)
    _origins(case)
    _authenticator_data(case)
    _bounds(case)
    _scalars(case)
    return cases


def _assembled(case: Callable[..., None]) -> None:
    """The parts as a browser gives them, and the signature that a page makes of them."""
    for name, tag, body in (("an approval", AUTH, BODY), ("an approval with a code", MATCH, BODY + b"07")):
        signed = tag + body + sha256(wire_of())
        data, text = authenticator_data(counter=7), client_data(signed)
        r, s = asserted(data, text)
        high = P256.n - s
        parts = {
            "signed": signed.hex(),
            "challenge": sha256(signed).hex(),
            "local": local_of(signed).hex(),
            "authenticator_data": data.hex(),
            "client_data": text.decode(),
            "user_verification": {"origin": ORIGIN, "synced": False},
        }
        signature = joined(local_of(signed), rs(r, s), data, text)
        case(f"{name}, of its parts", signature, True, tag + body, assertion_der=der(r, s).hex(), **parts)
        signature = joined(local_of(signed), rs(r, high), data, text)
        case(f"{name}, of its parts, high s", signature, True, tag + body, assertion_der=der(r, high).hex(), **parts)
    signed = REJECT + BODY + sha256(wire_of())
    case(
        "a rejection, of its part",
        local_of(signed),
        True,
        REJECT + BODY,
        signed=signed.hex(),
        local=local_of(signed).hex(),
    )
    # r or s of 31 bytes and less: DER is shorter, r‖s is not.
    for short in ("r", "s"):
        counter = next(
            number
            for number in range(5000)
            if (asserted(_short(number), _SHORT_TEXT)[short == "s"]).bit_length() <= 247
        )
        r, s = asserted(_short(counter), _SHORT_TEXT)
        signature = joined(local_of(_SHORT_SIGNED), rs(r, s), _short(counter), _SHORT_TEXT)
        case(f"an assertion with a {short} of 31 bytes", signature, True, assertion_der=der(r, s).hex())


_SHORT_SIGNED = AUTH + BODY + sha256(wire_of())
_SHORT_TEXT = client_data(_SHORT_SIGNED)


def _short(counter: int) -> bytes:
    return authenticator_data(counter=counter)


def _tags(case: Callable[..., None]) -> None:
    key_hash = sha256(wire_of())
    unknown = {
        "no tag": b"",
        "a tag without its zero byte": b"SIGIL-PENDING-V1",
        "a tag that continues": b"SIGIL-PENDING-V1X\0",
        "a tag behind a zero byte": b"\0SIGIL-PENDING-V1\0",
        "a tag in lower case": b"sigil-pending-v1\0",
        "a tag of a next version": b"SIGIL-PENDING-V2\0",
    }
    tags = {name: name.encode() + b"\0" for name in (*LOCAL_ALONE, *BOTH)} | unknown
    for name, tag in tags.items():
        message = tag + b"message" if tag != b"SIGIL-PENDING-V1" else tag
        signed = message + key_hash
        both = whole(signed, authenticator_data(), client_data(signed))
        alone = name in LOCAL_ALONE
        case(f"{name}: the local half alone", local_of(signed), True if alone else "length", message)
        case(f"{name}: both halves", both, "length" if alone else True, message)


def _halves(case: Callable[..., None]) -> None:
    message = AUTH + BODY
    signed = message + sha256(wire_of())
    data, text = authenticator_data(), client_data(signed)
    local, assertion = local_of(signed), rs(*asserted(data, text))
    good = joined(local, assertion, data, text)
    case("nothing", b"", "length")
    case("the assertion without the local half", good[64:], "length")
    case("64 zero bytes for the local half", bytes(64) + good[64:], "local_signature")
    case("64 zero bytes for the assertion", joined(local, bytes(64), data, text), "assertion_signature")
    case("the halves' signatures in the other order", joined(assertion, local, data, text), "local_signature")
    case("the local half twice", joined(local, local, data, text), "assertion_signature")
    case("the assertion twice", joined(assertion, assertion, data, text), "local_signature")
    case("the local half over the bare message", joined(local_of(message), assertion, data, text), "local_signature")
    case("the local half of another key", joined(local_of(signed, OTHER), assertion, data, text), "local_signature")
    case("the assertion of another key", whole(signed, data, text, assertion=OTHER), "assertion_signature")
    bare = client_data(message)
    case("the assertion over the bare message", joined(local, rs(*asserted(data, bare)), data, bare), "challenge")
    ordinary = rs(*P256.sign(ASSERTION, signed))
    case("the assertion key over the message itself", joined(local, ordinary, data, text), "assertion_signature")
    case("a plain signature of the assertion key", ordinary, "length")
    case(
        "a rejection by the assertion key alone",
        rs(*P256.sign(ASSERTION, REJECT + BODY + sha256(wire_of()))),
        "local_signature",
        REJECT + BODY,
    )
    case("a rejection over the bare message", local_of(REJECT + BODY), "local_signature", REJECT + BODY)
    case("an approval sent as a rejection", good, "length", REJECT + BODY)
    case("the local half of an approval as a rejection", good[:64], "local_signature", REJECT + BODY)
    case("an approval as one with a code", good, "challenge", MATCH + BODY + b"07")
    coded = MATCH + BODY + b"07" + sha256(wire_of())
    case("an approval with another code", whole(coded, data, client_data(coded)), "challenge", MATCH + BODY + b"08")
    case("an approval with a code as one without", whole(coded, data, client_data(coded)), "challenge")
    mixed = joined(local_of(signed), rs(*asserted(data, client_data(coded))), data, client_data(coded))
    case("an assertion of another decision", mixed, "challenge")
    case(
        "authenticatorData changed after signing",
        joined(local, assertion, authenticator_data(counter=1), text),
        "assertion_signature",
    )
    case("clientDataJSON changed after signing", joined(local, assertion, data, text + b" "), "assertion_signature")


def _shared_halves(case: Callable[..., None]) -> None:
    """One gesture at one authenticator is the vote of one key, though keys may share secrets."""
    signed = AUTH + BODY + sha256(wire_of())
    gesture = whole(signed, authenticator_data(), client_data(signed))
    case("one gesture: the key that it was made for", gesture, True)
    twin = wire_of(local=OTHER)
    case("one gesture: a key with the same assertion key", gesture, "challenge", key=twin)
    under_twin = AUTH + BODY + sha256(twin)
    mixed = joined(local_of(under_twin, OTHER), gesture[64:128], authenticator_data(), client_data(signed))
    case("one gesture: the twin's local half, the first key's assertion", mixed, "challenge", key=twin)
    case(
        "one gesture: the two keys in the other order",
        gesture,
        "challenge",
        key=wire_of(assertion=LOCAL, local=ASSERTION),
    )
    case(
        "one gesture: a key of the same halves and another origin", gesture, "challenge", key=wire_of(f"{ORIGIN}:8443")
    )
    alone = local_of(REJECT + BODY + sha256(wire_of()))
    case(
        "one rejection: a key with the same local key",
        alone,
        "local_signature",
        REJECT + BODY,
        key=wire_of(assertion=OTHER),
    )


def _client_data(case: Callable[..., None]) -> None:
    signed = AUTH + BODY + sha256(wire_of())

    def of(name: str, expect: bool | str, **members: Any) -> None:
        case(f"clientDataJSON: {name}", whole(signed, authenticator_data(), client_data(signed, **members)), expect)

    text = b64url(sha256(signed))
    of("without crossOrigin", True, crossOrigin=None)
    of(
        "a member that browsers add",
        True,
        other_keys_can_be_added_here="do not compare clientDataJSON against a template",
    )
    of("unknown members of every type", True, a=[1, -0.5, True, {"b": "é"}], B={})
    for value in ("webauthn.create", "payment.get", "WebAuthn.get", "webauthn.get ", "", 1, True, ["webauthn.get"]):
        of(f"type {value!r}", "type", type=value)
    of("without type", "type", type=None)
    for name, value in {
        "padded": text + "=",
        "in the standard alphabet": base64.b64encode(sha256(signed)).decode(),
        "with other trailing bits": text[:-1] + chr(ord(text[-1]) + 1),
        "the hash in hex": sha256(signed).hex(),
        "the bytes themselves, not their hash": b64url(signed),
        "of another message": b64url(sha256(signed + b"x")),
        "empty": "",
        "a list": [text],
        "with a line break": text + "\n",
    }.items():
        of(f"a challenge {name}", "challenge", challenge=value)
    of("without challenge", "challenge", challenge=None)
    for value in (
        f"{ORIGIN}:8443", f"{ORIGIN}:443", f"{ORIGIN}/", "http://sigil.example.com", "https://example.com",
        "https://sigil.example.com.", "https://SIGIL.example.com", "https://sigil.example.com.evil.example",
        "android:apk-key-hash:abc", "null", "", [ORIGIN], {"origin": ORIGIN},
    ):  # fmt: skip
        of(f"origin {json.dumps(value)}", "origin", origin=value)
    of("without origin", "origin", origin=None)
    for value in (True, 0, 1, "false", "", [], {}):
        of(f"crossOrigin {json.dumps(value)}", "cross_origin", crossOrigin=value)
    for value in (ORIGIN, "", False):
        of(f"topOrigin {json.dumps(value)}", "top_origin", topOrigin=value)


def _strict_json(case: Callable[..., None]) -> None:
    signed = AUTH + BODY + sha256(wire_of())
    good = client_data(signed)

    def of(name: str, text: bytes, expect: bool | str = "client_data") -> None:
        case(f"JSON: {name}", whole(signed, authenticator_data(), text), expect)

    def plus(more: bytes) -> bytes:
        return good[:-1] + b"," + more + b"}"

    of("white space of JSON around and between", b" \t\r\n" + good.replace(b",", b" ,\n") + b"\r\n ", True)
    of("the members in another order", json.dumps(dict(reversed(json.loads(good).items()))).encode(), True)
    of("an escape in the value of type", good.replace(b"webauthn.get", b"\\u0077ebauthn.get"), True)
    of("escapes in the value of origin", good.replace(b"https://", b"https\\u003A\\/\\/"), True)
    first = b64url(sha256(signed))[:1].encode()
    escaped = b'"challenge":"\\u00%02x' % first[0]
    of("an escape in the value of challenge", good.replace(b'"challenge":"' + first, escaped), True)
    of("an escape in a member's name", good.replace(b'"origin"', b'"\\u006frigin"'), True)
    of("a surrogate pair", plus(b'"a":"\\ud83d\\ude00"'), True)
    of("a pair of backslashes before a u", plus(b'"a":"\\\\ud83d"'), True)
    of("numbers of every form", plus(b'"a":[-0,0.5,1e400,-1E-7,12345678901234567890],"b":"\\u0041"'), True)
    of("DEL and U+FEFF in a string", plus('"a":"\x7f\ufeff"'.encode()), True)
    of("the name __proto__", plus(b'"__proto__":{"type":"x","topOrigin":"x"}'), True)
    of("depth 16, lists", plus(b'"a":' + b"[" * 15 + b"]" * 15), True)
    of("depth 16, objects", plus(b'"a":' + b'{"a":' * 14 + b"{}" + b"}" * 14), True)
    of("depth 17, lists", plus(b'"a":' + b"[" * 16 + b"]" * 16))
    of("depth 17, objects", plus(b'"a":' + b'{"a":' * 15 + b"{}" + b"}" * 15))
    of("depth 300", plus(b'"a":' + b"[" * 299 + b"]" * 299))
    of("brackets in strings are no depth", plus(b'"a":"' + b"[" * 40 + b'"'), True)
    of("a byte order mark", b"\xef\xbb\xbf" + good)
    of("UTF-16", good.decode().encode("utf-16-le"))
    of("null", b"null")
    of("a list of the object", b"[" + good + b"]")
    of("a string of the object", json.dumps(good.decode()).encode())
    of("two objects", good + good)
    of("a byte behind", good + b"x")
    of("a zero byte behind", good + b"\0")
    of("cut short", good[:-1])
    of("a comma too many", good[:-1] + b",}")
    of("a comment", b"/**/" + good)
    of("white space that is none in JSON", b"\x0c" + good)
    of("a no-break space", "\u00a0".encode() + good)
    of("single quotes", good.replace(b'"', b"'"))
    for name, more in {
        "type twice": b'"type":"webauthn.get"',
        "origin twice": b'"origin":"https://sigil.example.com"',
        "challenge twice, once escaped": b'"\\u0063hallenge":"x"',
        "an unknown member twice": b'"a":1,"a":1',
        "a member twice in depth": b'"a":{"b":[{"c":1,"c":2}]}',
        "the empty name twice": b'"":1,"":1',
        "half of a surrogate pair": b'"a":"\\ud83d"',
        "half of a surrogate pair in a name": b'"\\udc00":1',
        "a surrogate pair in the wrong order": b'"a":"\\ude00\\ud83d"',
        "half of a surrogate pair in depth": b'"a":[{"b":"\\uD800x"}]',
        "a surrogate in UTF-8": b'"a":"\xed\xa0\x80"',
        "a byte that is no UTF-8": b'"a":"\xff"',
        "an overlong spelling": b'"a":"\xc0\xaf"',
        "a code point above 10FFFF": b'"a":"\xf4\x90\x80\x80"',
        "NaN": b'"a":NaN',
        "Infinity": b'"a":-Infinity',
        "a number with a leading zero": b'"a":01',
        "a number with a plus": b'"a":+1',
        "a number that ends in a dot": b'"a":1.',
        "hex": b'"a":0x1',
        "a line break in a string": b'"a":"\n"',
        "a tab in a string": b'"a":"\t"',
        "an unknown escape": b'"a":"\\x41"',
        "an escape with an underscore": b'"a":"\\u0_41"',
        "an escape with a plus": b'"a":"\\u+041"',
        "an escape cut short": b'"a":"\\u004"',
        "a name without quotes": b"a:1",
        "True": b'"a":True',
    }.items():
        of(name, plus(more))
    of("crossOrigin null", good.replace(b"false", b"null"), "cross_origin")
    of("topOrigin null", plus(b'"topOrigin":null'), "top_origin")
    of("type null", good.replace(b'"webauthn.get"', b"null"), "type")
    of("a duplicate outweighs a wrong type", good.replace(b".get", b".create")[:-1] + b',"a":1,"a":1}')


def _origins(case: Callable[..., None]) -> None:
    """The key, the page and the authenticator agree on an origin: does a browser give a key to it?"""
    hosts = {
        "https://sigil.example.com:8443": "sigil.example.com",
        "https://sigil.example.com:65535": "sigil.example.com",
        "https://xn--mnchen-3ya.example": "xn--mnchen-3ya.example",
        "https://localhost": "localhost",
        "https://localhost:8443": "localhost",
        "http://localhost": "localhost",
        "http://localhost:8080": "localhost",
    }
    for origin, host in hosts.items():
        _origin_case(case, origin, host, True)
    for origin, host in {
        "https://sigil.example.com:443": "sigil.example.com",
        "https://sigil.example.com:08443": "sigil.example.com",
        "https://sigil.example.com:0": "sigil.example.com",
        "https://sigil.example.com:65536": "sigil.example.com",
        "https://sigil.example.com:": "sigil.example.com",
        "https://sigil.example.com/": "sigil.example.com",
        "https://sigil.example.com.": "sigil.example.com.",
        "https://SIGIL.example.com": "SIGIL.example.com",
        "HTTPS://sigil.example.com": "sigil.example.com",
        "https://user@sigil.example.com": "sigil.example.com",
        "https://sigil.example.com\\n": "sigil.example.com",
        "https://münchen.example": "münchen.example",
        "https://under_score.example": "under_score.example",
        "http://sigil.example.com": "sigil.example.com",
        "http://localhost:80": "localhost",
        "http://app.localhost": "app.localhost",
        "https://192.0.2.1": "192.0.2.1",
        "https://192.0.2.1:8443": "192.0.2.1",
        "http://127.0.0.1:8080": "127.0.0.1",
        "https://[2001:db8::1]": "[2001:db8::1]",
        "http://[::1]:8080": "[::1]",
        "https://0x7f.1": "0x7f.1",
        "ftp://sigil.example.com": "sigil.example.com",
        "wss://sigil.example.com": "sigil.example.com",
        "null": "null",
        "": "",
    }.items():
        _origin_case(case, origin, host, "origin")


def _origin_case(case: Callable[..., None], origin: str, host: str, expect: bool | str) -> None:
    key = wire_of(origin)
    signed = AUTH + BODY + sha256(key)
    facts = {"user_verification": {"origin": origin, "synced": False}} if expect is True else {}
    signature = whole(signed, authenticator_data(host), client_data(signed, origin))
    case(f"the origin {json.dumps(origin)}", signature, expect, key=key, **facts)


def _authenticator_data(case: Callable[..., None]) -> None:
    signed = AUTH + BODY + sha256(wire_of())

    def of(name: str, expect: bool | str, data: bytes, **facts: Any) -> None:
        case(f"authenticatorData: {name}", whole(signed, data, client_data(signed)), expect, **facts)

    for counter in (0, 1, 2**31, 2**32 - 1):
        of(f"the counter {counter}", True, authenticator_data(counter=counter))
    for name, host in {
        "the registrable domain": "example.com",
        "host and port": "sigil.example.com:443",
        "the origin": ORIGIN,
        "upper case": "SIGIL.EXAMPLE.COM",
        "nothing": "",
    }.items():
        of(f"rpIdHash of {name}", "rp_id", authenticator_data(host))
    of("rpIdHash of zeros", "rp_id", bytes(32) + authenticator_data()[32:])
    combinations = {"neither BE nor BS": 0, "BE: a passkey that may be synced": BE, "BE and BS: a synced one": BE | BS}
    for name, flags in combinations.items():
        synced = bool(flags)
        facts = {"user_verification": {"origin": ORIGIN, "synced": synced}}
        of(name, True, authenticator_data(flags=UP | UV | flags), **facts)
    of("BS without BE", "backup_state", authenticator_data(flags=UP | UV | BS))
    of("no flag", "user_presence", authenticator_data(flags=0))
    of("UV without UP", "user_presence", authenticator_data(flags=UV))
    of("UP without UV", "user_verification", authenticator_data(flags=UP))
    of("UP without UV, synced", "user_verification", authenticator_data(flags=UP | BE | BS))
    of("the reserved flags", True, authenticator_data(flags=UP | UV | 0x02 | 0x20))
    of("AT", "attested_credential", authenticator_data(flags=UP | UV | AT))
    x, y = P256.multiply(OTHER, P256.g) or (0, 0)
    cose = b"\xa5\x01\x02\x03\x26\x20\x01\x21\x58\x20" + x.to_bytes(32, "big") + b"\x22\x58\x20" + y.to_bytes(32, "big")
    credential = bytes(16) + b"\0\x10" + bytes(16) + cose
    of("AT and a credential", "attested_credential", authenticator_data(flags=UP | UV | AT, rest=credential))
    of("AT and ED", "attested_credential", authenticator_data(flags=UP | UV | AT | ED, rest=credential + b"\xa0"))
    of("ED and an empty map", True, authenticator_data(flags=UP | UV | ED, rest=b"\xa0"))
    of(
        "ED and a map of one extension",
        True,
        authenticator_data(flags=UP | UV | ED, rest=b"\xa1\x69credProps\xa1\x62rk\xf5"),
    )
    of("ED and a synced passkey", True, authenticator_data(flags=UP | UV | ED | BE | BS, rest=b"\xa0"))
    of("ED without a map", "authenticator_data", authenticator_data(flags=UP | UV | ED))
    of("a map without ED", "authenticator_data", authenticator_data(rest=b"\xa0"))
    of("one byte more", "authenticator_data", authenticator_data(rest=b"\0"))


def _bounds(case: Callable[..., None]) -> None:
    signed = AUTH + BODY + sha256(wire_of())
    data = authenticator_data()
    good = whole(signed, data, client_data(signed))
    empty = len(whole(signed, data, client_data(signed, a="")))
    case("1024 bytes", whole(signed, data, client_data(signed, a="x" * (1024 - empty))), True)
    case("1025 bytes", whole(signed, data, client_data(signed, a="x" * (1025 - empty))), "length")
    case("1025 bytes, by white space", good + b" " * (1025 - len(good)), "length")
    case("4096 bytes", good + b" " * (4096 - len(good)), "length")
    more = 1024 - len(good) - 6
    extension = b"\xa1\x61x\x59" + more.to_bytes(2, "big") + bytes(more)
    longest = authenticator_data(flags=UP | UV | ED, rest=extension)
    case("1024 bytes, by extensions", whole(signed, longest, client_data(signed)), True)
    for cut in (1, 63, 65, 127, 128, 129, 130, 166, 167):
        case(f"cut to {cut} bytes", good[:cut], "length")
    case("n one less", good[:128] + (36).to_bytes(2, "big") + good[130:], "length")
    case("n one more", good[:128] + (38).to_bytes(2, "big") + good[130:], "client_data")
    for n in (0, len(good) - 130, len(good) - 129, 65535):
        case(f"n = {n}", good[:128] + n.to_bytes(2, "big") + good[130:], "length")
    case("n little-endian", good[:128] + b"\x25\x00" + good[130:], "length")
    case("clientDataJSON empty", joined(good[:64], rs(*asserted(data, b"")), data, b""), "length")
    less = data[:36]
    case("authenticatorData of 36 bytes", whole(signed, less, client_data(signed)), "length")
    text = client_data(signed)
    r, s = asserted(data, text)
    size = len(data).to_bytes(2, "big")
    case("the assertion in DER", good[:64] + der(r, s) + size + data + text, "length")
    case("the local half in DER", der(*P256.sign(LOCAL, signed)) + good[64:], "length")
    case("without n", good[:128] + data + text, "length")


def _scalars(case: Callable[..., None]) -> None:
    signed = AUTH + BODY + sha256(wire_of())
    data, text = authenticator_data(), client_data(signed)
    n = P256.n
    halves = {"local": P256.sign(LOCAL, signed), "assertion": asserted(data, text)}
    for half, (r, s) in halves.items():

        def of(name: str, pair: tuple[int, int], expect: bool | str, half: str = half) -> None:
            both = {**halves, half: pair}
            signature = joined(rs(*both["local"]), rs(*both["assertion"]), data, text)
            case(f"{half}: {name}", signature, expect)

        refused = f"{half}_signature"
        of("s in the upper half", (r, n - s), True)
        of("r and s changed places", (s, r), refused)
        for name, value in {"0": 0, "n": n, "2^256 - 1": 2**256 - 1}.items():
            of(f"r = {name}", (value, s), refused)
            of(f"s = {name}", (r, value), refused)
    both = joined(*(rs(r, n - s) for r, s in halves.values()), data, text)
    case("both: s in the upper half", both, True)
    r, s = P256.sign(LOCAL, REJECT + BODY + sha256(wire_of()))
    case("a rejection: s in the upper half", rs(r, n - s), True, REJECT + BODY)
    case("a rejection: r = 0 and s = 0", bytes(64), "local_signature", REJECT + BODY)
