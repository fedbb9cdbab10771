"""Spellings of base64, hex and times; bodies of requests."""

from __future__ import annotations

import json
from typing import Any

from . import INVALID_REQUEST, Case, b64

# --- Spellings: base64, hex, times ---


def spellings() -> list[Case]:
    cases: list[Case] = []

    def case(kind: str, name: str, text: str, expect: Any, length: int | None = None) -> None:
        cases.append({"name": f"{kind}: {name}", "kind": kind, "text": text, "length": length, "expect": expect})

    for data in (b"", b"\0", b"ab", b"abc", b"\xfb\xef\xff", bytes(range(64))):
        case("base64", f"{len(data)} bytes, {data[:3].hex() or 'none'}", b64(data), data.hex())
    case("base64", "of the requested length", b64(bytes(64)), bytes(64).hex(), 64)
    for length in (0, 63, 65, 72):
        case("base64", f"{length} bytes where 64 were requested", b64(bytes(length)), INVALID_REQUEST, 64)
    for name, text in {
        "trailing bits in the last of two": "AB==",
        "trailing bits in the last of three": "AAB=",
        "no padding": "AA",
        "half of the padding": "AA=",
        "too much padding": "AAA==",
        "padding alone": "====",
        "one character": "A",
        "padding in the middle": "AA==AAAA",
        "url alphabet, minus": "-_-_",
        "url alphabet, underscore": "____",
        "leading blank": " AAAA",
        "trailing blank": "AAAA ",
        "trailing newline": "AAAA\n",
        "carriage return and newline": "AAAA\r\n",
        "newline inside": "AA\nAA",
        "tab inside": "AA\tAA",
        "zero byte behind": "AAAA\0",
        "full-width letters": "ＡＡＡＡ",
        "another character": "AA!A",
        "data url": "data:;base64,AAAA",
    }.items():
        case("base64", name, text, INVALID_REQUEST)
    good = "0123456789abcdef" * 2
    case("hex", "lower case", good, good, 16)
    for name, text in {
        "empty": "",
        "upper case": good.upper(),
        "one upper-case letter": good[:-1] + "F",
        "one short": good[:-1],
        "two short": good[:-2],
        "one long": good + "0",
        "0x in front": "0x" + good[2:],
        "a blank inside": good[:-2] + " 0",
        "trailing newline": good[:-1] + "\n",
        "newline behind": good + "\n",
        "full-width digits": "０" * 32,
        "Arabic digits": "٠" * 32,
        "g": "g" * 32,
        "colons": "01:" * 10 + "01",
    }.items():
        case("hex", name, text, INVALID_REQUEST, 16)
    for name, text, seconds in [
        ("the epoch", "1970-01-01T00:00:00Z", 0),
        ("of our days", "2026-04-24T10:37:15Z", 1777027035),
        ("a leap day", "2024-02-29T23:59:59Z", 1709251199),
        ("the last there is", "9999-12-31T23:59:59Z", 253402300799),
    ]:
        case("time", name, text, seconds)
    for name, text in {
        "empty": "",
        "leap second": "2016-12-31T23:59:60Z",
        "second 61": "2016-12-31T23:59:61Z",
        "minute 60": "2026-04-24T10:60:15Z",
        "hour 24": "2026-04-24T24:00:00Z",
        "day 0": "2026-04-00T10:37:15Z",
        "month 13": "2026-13-24T10:37:15Z",
        "30 February": "2024-02-30T10:37:15Z",
        "29 February of a common year": "2026-02-29T10:37:15Z",
        "year 0000": "0000-01-01T00:00:00Z",
        "year 10000": "10000-01-01T00:00:00Z",
        "lower-case t": "2026-04-24t10:37:15Z",
        "lower-case z": "2026-04-24T10:37:15z",
        "blank for T": "2026-04-24 10:37:15Z",
        "fraction": "2026-04-24T10:37:15.0Z",
        "comma fraction": "2026-04-24T10:37:15,5Z",
        "offset zero": "2026-04-24T10:37:15+00:00",
        "offset": "2026-04-24T12:37:15+02:00",
        "Z and offset": "2026-04-24T10:37:15Z+00:00",
        "no zone": "2026-04-24T10:37:15",
        "no seconds": "2026-04-24T10:37Z",
        "no separators": "20260424T103715Z",
        "one-digit month": "2026-4-24T10:37:15Z",
        "blank-padded day": "2026-04- 4T10:37:15Z",
        "two-digit year": "26-04-24T10:37:15Z",
        "sign in front": "+2026-04-24T10:37:15Z",
        "Arabic digits": "٢٠٢٦-04-24T10:37:15Z",
        "full-width digits": "２０２６-04-24T10:37:15Z",
        "leading blank": " 2026-04-24T10:37:15Z",
        "trailing blank": "2026-04-24T10:37:15Z ",
        "trailing newline": "2026-04-24T10:37:15Z\n",
        "unix seconds": "1777027035",
        "a week date": "2026-W17-5T10:37:15Z",
    }.items():
        case("time", name, text, INVALID_REQUEST)
    return cases


# --- Messages ---


def messages() -> list[Case]:  # noqa: PLR0912 -- a table
    cases: list[Case] = []

    def case(name: str, kind: str, body: str | bytes, expect: Any, path: str | None = None) -> None:
        given = {"body": body} if isinstance(body, str) else {"body_hex": body.hex()}
        whole = {"name": f"{kind}: {name}", "message": kind, **given, "expect": expect}
        cases.append(whole | ({"path": path} if path else {}))

    least: dict[str, Case] = {
        "CreateChallenge": {"device_public_key": "k", "action": {"type": "a", "description": "d"}},
        "Respond": {"challenge_id": "c", "signature": "s"},
        "Pending": {"device_public_key": "k", "timestamp": "t", "signature": "s"},
    }
    optional: dict[str, Case] = {
        "CreateChallenge": {"fingerprint": "f", "expires_in_seconds": 30, "number_matching": True},
        "Respond": {
            "device_public_key": "k",
            "fingerprint": "f",
            "decision": "rejected",
            "match_code": "07",
            "timestamp": "t",
            "reason": "cancelled",
        },
        "Pending": {},
    }
    for kind, body in least.items():
        case("the least there can be", kind, json.dumps(body), body)
        case("everything", kind, json.dumps(body | optional[kind]), body | optional[kind])
        for member in body:
            without = {name: value for name, value in body.items() if name != member}
            case(f"without {member}", kind, json.dumps(without), INVALID_REQUEST, f"$.{member}")
            for value in (None, 1, [], False):
                text = json.dumps(body | {member: value})
                case(f"{member} is {json.dumps(value)}", kind, text, INVALID_REQUEST, f"$.{member}")
        for member in optional[kind]:
            case(f"{member} is null, which is absent", kind, json.dumps(body | {member: None}), body)
            if member != "timestamp":
                text = json.dumps(body | {member: []})
                case(f"{member} is a list", kind, text, INVALID_REQUEST, f"$.{member}")
        more = body | {"x-more": {"y": [1.5, None]}}
        if kind == "CreateChallenge":
            case("an unknown member is tolerated", kind, json.dumps(more), body)
        else:
            case("an unknown member is refused", kind, json.dumps(more), INVALID_REQUEST, "$.x-more")
        text = json.dumps(body)
        case("white space around", kind, f" \t\r\n{text} \n", body)
        case("a byte order mark", kind, b"\xef\xbb\xbf" + text.encode(), INVALID_REQUEST, "$")
        case("UTF-16", kind, text.encode("utf-16"), INVALID_REQUEST, "$")
        case("two documents", kind, text + text, INVALID_REQUEST, "$")
        case("a zero byte behind", kind, text + "\0", INVALID_REQUEST, "$")
        case("cut short", kind, text[:-1], INVALID_REQUEST, "$")
        for name, other in {
            "empty": "",
            "blank": " ",
            "null": "null",
            "a list": "[]",
            "a string": '"a"',
            "a number": "1",
        }.items():
            case(f"a body that is {name}", kind, other, INVALID_REQUEST, "$")
        case("a body that is one bad byte", kind, b"\xff", INVALID_REQUEST, "$")
        first = next(iter(body))
        name = json.dumps({first: "@"})[1:-1].encode()
        for bad in (b"\xff", b"\xc3", b"\xed\xa0\x80"):
            broken = b"{" + name.replace(b"@", bad) + b"," + text.encode()[1:]
            case(f"{first} with the bytes {bad.hex()}", kind, broken, INVALID_REQUEST, "$")

    def create(name: str, change: Case, expect: Any, path: str | None = None) -> None:
        whole = least["CreateChallenge"] | change
        case(name, "CreateChallenge", json.dumps(whole), whole if expect is True else expect, path)

    for seconds in (30, 31, 300):
        create(f"expires in {seconds} s", {"expires_in_seconds": seconds}, True)
    for value in (29, 301, 0, -1, 60.5, 60.0, True, "60", 10**400, 10**5000):
        name = (
            f"expires in {value!r}"
            if not isinstance(value, int) or value < 1000
            else f"expires in {value.bit_length()} bits"
        )
        create(name, {"expires_in_seconds": value}, INVALID_REQUEST, "$.expires_in_seconds")
    for number in ("6e1", "-0", "1e400"):
        text = json.dumps(least["CreateChallenge"])[:-1] + f',"expires_in_seconds":{number}}}'
        case(f"expires in {number}", "CreateChallenge", text, INVALID_REQUEST, "$.expires_in_seconds")
    for value in ("true", 1, 0):
        create(f"number_matching is {value!r}", {"number_matching": value}, INVALID_REQUEST, "$.number_matching")

    def respond(name: str, member: str, value: Any, good: bool) -> None:
        whole = least["Respond"] | {member: value}
        expect, path = (whole, None) if good else (INVALID_REQUEST, f"$.{member}")
        case(name, "Respond", json.dumps(whole), expect, path)

    for decision in ("approved", "rejected"):
        respond(f"decision {decision}", "decision", decision, True)
    for decision in ("", "Approved", "approved ", "verified", "pending", "y" * 1000):
        respond(f"decision {decision[:10]!r}", "decision", decision, False)
    for code in ("00", "07", "99"):
        respond(f"match_code {code}", "match_code", code, True)
    for code in ("", "7", "007", "7 ", "-1", "0x", "07\n", "\n07", "٠٧", "０７", "ab"):
        respond(f"match_code {code!a}", "match_code", code, False)
    respond("match_code as a number", "match_code", 7, False)
    for reason in ("cancelled", "unknown_trigger"):
        respond(f"reason {reason}", "reason", reason, True)
    for reason in ("wrong_code", "other", ""):
        respond(f"reason {reason!r}", "reason", reason, False)
    for value in (0, "x", [], {"a": 1}, True, 1.5):
        respond(f"timestamp {value!r} is ignored", "timestamp", value, True)
    twice = '{"challenge_id":"c","signature":"s","decision":"rejected","decision":"approved"}'
    case("a member twice", "Respond", twice, INVALID_REQUEST, "$")
    return cases
