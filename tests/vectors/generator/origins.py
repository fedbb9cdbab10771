"""Addresses of servers and relays; values of traceparent."""

from __future__ import annotations

from typing import Any

from . import Case


def origins() -> list[Case]:
    """`server`: the canonical origin where a server may have it; `relay`: where a relay may. null where not."""
    cases: list[Case] = []

    def case(text: str, canonical: str | None, server: bool | None = None) -> None:
        pinned = canonical if (canonical or "").startswith("https:") or server else None
        cases.append({"name": ascii(text), "text": text, "server": pinned, "relay": canonical})

    long_label, long_name = "a" * 63, ".".join(["a" * 63] * 3 + ["a" * 61])
    for text, canonical in {
        "https://auth.example.com": "https://auth.example.com",
        "https://auth.example.com/": "https://auth.example.com",
        "HTTPS://Auth.Example.COM:443/": "https://auth.example.com",
        "https://auth.example.com:8443": "https://auth.example.com:8443",
        "https://auth.example.com:08443": "https://auth.example.com:8443",
        "https://auth.example.com:80": "https://auth.example.com:80",
        "https://auth.example.com:65535": "https://auth.example.com:65535",
        "https://auth": "https://auth",
        "https://a--b.1c.example": "https://a--b.1c.example",
        "https://xn--bcher-kva.example": "https://xn--bcher-kva.example",
        f"https://{long_label}.example": f"https://{long_label}.example",
        f"https://{long_name}": f"https://{long_name}",
        "https://192.0.2.1:8443": "https://192.0.2.1:8443",
        "https://[2001:DB8:0:0:0:0:0:1]:443": "https://[2001:db8::1]",
        "https://[2001:db8:0:1:1:1:1:1]": "https://[2001:db8:0:1:1:1:1:1]",
        "https://[::]": "https://[::]",
        "https://[::ffff:192.0.2.1]": "https://[::ffff:c000:201]",
        "https://[::FFFF:0.0.2.1]": "https://[::ffff:0:201]",
        "https://localhost:8443": "https://localhost:8443",
    }.items():
        case(text, canonical)
    for text, canonical in {
        "http://localhost": "http://localhost",
        "HTTP://LOCALHOST:80/": "http://localhost",
        "http://localhost:8080": "http://localhost:8080",
        "http://127.0.0.1:8080": "http://127.0.0.1:8080",
        "http://127.1.2.3": "http://127.1.2.3",
        "http://[0:0::1]:443": "http://[::1]:443",
    }.items():
        case(text, canonical, server=True)
    for text in (
        "http://relay:8080",
        "http://auth.example.com",
        "http://10.0.0.1",
        "http://0.0.0.0",
        "http://localhost.example",
        "http://a.localhost",
        "http://[::ffff:7f00:1]",
        "http://[fd00::1]:8080",
    ):
        case(text, text)
    host = "auth.example.com"
    for text in (
        "",
        host,
        f"//{host}",
        f"wss://{host}",
        f"https:{host}",
        f"https:/{host}",
        "https://",
        "https://:443",
        f"https://{host}/path",
        f"https://{host}//",
        f"https://{host}?",
        f"https://{host}#",
        f"https://user@{host}",
        f"https://user:password@{host}",
        f"https://{host}\\@b.example",
        f" https://{host}",
        f"https://{host} ",
        f"https://{host}\n",
        "https://auth example.com",
        "https://auth\texample.com",
        "https://auth.example\u200b.com",
        "https://auth.example\u00a0.com",
        f"\ufeffhttps://{host}",
        f'"https://{host}"',
        "https://auth_x.example.com",
        "https://auth.example.com.",
        "https://.",
        "https://auth..example.com",
        "https://.example.com",
        "https://-auth.example.com",
        "https://auth-.example.com",
        "https://b\u00fccher.example",
        "https://auth\u3002example",
        "https://\uff41uth.example",
        "https://auth%2eexample",
        "https://*.example.com",
        f"https://{long_label}a.example",
        f"https://{long_name}a",
        "https://127.1",
        "https://2130706433",
        "https://0x7f.1",
        "https://auth.0x7f",
        "https://1.2.3.04",
        "https://1.2.3.256",
        "https://1.2.3.4.5",
        "https://1.2.3.4.",
        f"https://{host}:",
        f"https://{host}:0",
        f"https://{host}:65536",
        f"https://{host}:+443",
        f"https://{host}:8 443",
        f"https://{host}:\uff14\uff14\uff13",
        "https://[::g]",
        "https://[]",
        "https://[::1",
        "https://::1",
        "https://[::1]x",
        "https://[fe80::1%25eth0]",
        "https://[192.0.2.1]",
    ):
        case(text, None)
    return cases


def traceparents() -> list[Case]:
    """Section 7 of docs/protocol.md; W3C Trace Context, level 2."""
    trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    rest = f"{trace}-{span}"
    cases: list[Case] = []

    def case(name: str, value: Any, expect: str | None) -> None:
        cases.append({"name": name, "value": value, "expect": expect})

    for flags, known in (("00", "00"), ("01", "01"), ("02", "02"), ("03", "03"), ("ff", "03"), ("fc", "00")):
        case(f"version 00 with flags {flags}", f"00-{rest}-{flags}", f"00-{rest}-{known}")
    for version in ("01", "cc", "fe"):
        for flags, known in (("01", "01"), ("03", "01"), ("02", "00")):
            case(f"version {version} with flags {flags}", f"{version}-{rest}-{flags}", f"00-{rest}-{known}")
        case(f"version {version} with more fields", f"{version}-{rest}-01-what-follows", f"00-{rest}-01")
        case(f"version {version} with a dash at its end", f"{version}-{rest}-01-", f"00-{rest}-01")
        case(f"version {version} with more than a dash allows", f"{version}-{rest}-01.more", None)
    case("version 00 with more fields", f"00-{rest}-01-what-follows", None)
    case("version 00 with a dash at its end", f"00-{rest}-01-", None)
    case("the invalid version", f"ff-{rest}-01", None)
    case("the invalid version with more fields", f"ff-{rest}-01-more", None)
    case("a trace of zeros", f"00-{'0' * 32}-{span}-01", None)
    case("a span of zeros", f"00-{trace}-{'0' * 16}-01", None)
    case("zeros in a later version", f"01-{'0' * 32}-{span}-01", None)
    case("the smallest ids", f"00-{'0' * 31}1-{'0' * 15}1-01", f"00-{'0' * 31}1-{'0' * 15}1-01")
    case("the largest ids", f"00-{'f' * 32}-{'f' * 16}-01", f"00-{'f' * 32}-{'f' * 16}-01")
    case("empty", "", None)
    case("nothing after the version", "00", None)
    case("no flags", f"00-{rest}", None)
    case("one digit of flags", f"00-{rest}-1", None)
    case("three digits of flags", f"00-{rest}-001", None)
    case("a version of one digit", f"0-{rest}-01", None)
    case("a version of three digits", f"000-{rest}-01", None)
    case("a short trace", f"00-{trace[:-1]}-{span}-01", None)
    case("a long trace", f"00-{trace}0-{span}-01", None)
    case("a short span", f"00-{trace}-{span[:-1]}-01", None)
    case("a long span", f"00-{trace}-{span}0-01", None)
    case("upper case in the trace", f"00-{trace.upper()}-{span}-01", None)
    case("upper case in the span", f"00-{trace}-{span.upper()}-01", None)
    case("upper case in the flags", f"00-{rest}-0F", None)
    case("upper case in the version", f"CC-{rest}-01", None)
    case("a letter that is not hex", f"00-{trace[:-1]}g-{span}-01", None)
    case("digits of another script", f"00-{trace[:-1]}\uff11-{span}-01", None)
    case("underscores", f"00_{trace}_{span}_01", None)
    case("no dashes", f"00{trace}{span}01", None)
    case("a blank before it", f" 00-{rest}-01", None)
    case("a blank after it", f"00-{rest}-01 ", None)
    case("a newline after it", f"00-{rest}-01\n", None)
    case("a NUL after it", f"00-{rest}-01\0", None)
    case("a lone surrogate", f"00-{rest}-01\ud800", None)
    case("two in one header", f"00-{rest}-01,00-{rest}-01", None)
    case("a header's name with it", f"traceparent: 00-{rest}-01", None)
    case("a form of Zipkin", f"{trace}-{span}-1", None)
    for name, value in (
        ("a number", 1),
        ("true", True),
        ("null", None),
        ("a list", [f"00-{rest}-01"]),
        ("an object", {}),
    ):
        case(name, value, None)
    return cases
