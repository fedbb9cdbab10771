"""Public keys and signatures."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from . import INVALID_KEY, Case, b64, sha256
from .curves import (
    CURVES,
    ED_B,
    ED_IDENTITY,
    ED_L,
    ED_P,
    ED_PREFIX,
    MESSAGE,
    P256,
    SECP256K1,
    SECRET,
    SEED,
    Curve,
    der,
    ed_add,
    ed_encode,
    ed_expand,
    ed_lift,
    ed_little,
    ed_multiply,
    ed_public,
    ed_sign,
    ed_torsion,
    rs,
)


def keys() -> list[Case]:
    cases: list[Case] = []

    def case(name: str, wire: bytes, expect: str) -> None:
        cases.append({"name": name, "public_key": wire.hex(), "expect": expect})

    case("nothing", b"", INVALID_KEY)
    for length in (1, 2, 32, 33, 34, 35, 36, 64, 65, 66, 67):
        case(f"all zero, {length} bytes", bytes(length), INVALID_KEY)
    for curve in CURVES:
        _curve_keys(curve, case)
    es256, es256k, ed = P256.public(SECRET), SECP256K1.public(SECRET), ed_public(SEED)

    def on(curve: Curve, x: bytes) -> str:
        """Bytes of one suite can be a good key of another: about half of all x are on a curve."""
        return curve.suite if curve.lift(int.from_bytes(x, "big")) else INVALID_KEY

    case("ES256 key under the prefix of ES256K", b"\xe7\x01" + es256, on(SECP256K1, es256[1:]))
    other = next(key for k in range(2, 99) if on(SECP256K1, (key := P256.public(k))[1:]) == INVALID_KEY)
    case("another ES256 key under the prefix of ES256K", b"\xe7\x01" + other, INVALID_KEY)
    case("ES256K key without its prefix", es256k[2:], on(P256, es256k[3:]))
    other = next(key for k in range(2, 99) if on(P256, (key := SECP256K1.public(k))[3:]) == INVALID_KEY)
    case("another ES256K key without its prefix", other[2:], INVALID_KEY)
    case("ES256K key under the prefix of Ed25519", b"\xed\x01" + es256k[2:], INVALID_KEY)
    case("ES256K key under a reversed prefix", b"\x01\xe7" + es256k[2:], INVALID_KEY)
    case("ES256K key under the multicodec code of P-256", b"\x80\x24" + es256k[2:], INVALID_KEY)
    case("ES256 key under the multicodec code of P-256", b"\x80\x24" + es256, INVALID_KEY)
    case("Ed25519 key without its prefix", ed[2:], INVALID_KEY)
    case("Ed25519 key under the prefix of ES256K", b"\xe7\x01" + ed[2:], INVALID_KEY)
    case("Ed25519 key under a reversed prefix", b"\x01\xed" + ed[2:], INVALID_KEY)
    case("Ed25519 key in 33 bytes with SEC1's first byte", b"\x02" + ed[2:], on(P256, ed[2:]))
    case("base64 text of an ES256 key", b64(es256).encode(), INVALID_KEY)
    _ed25519_keys(case)
    _webauthn_keys(case)
    return cases


def _webauthn_keys(case: Callable[[str, bytes, str], None]) -> None:
    prefix, origin, suite = b"\x81\x80\xc0\x01", sha256(b"https://sigil.example.com"), "WebAuthn"
    assertion, local = P256.public(SECRET), P256.public(7)
    good = prefix + assertion + local + origin
    case(f"{suite}: a good key", good, suite)
    case(f"{suite}: the halves in the other order", prefix + local + assertion + origin, suite)
    case(f"{suite}: any 32 bytes for an origin", prefix + assertion + local + bytes(32), suite)
    case(f"{suite}: one key for both halves", prefix + assertion * 2 + origin, INVALID_KEY)
    negated = P256.public(P256.n - SECRET)
    case(f"{suite}: a key and its negation for the halves", prefix + assertion + negated + origin, INVALID_KEY)
    case(f"{suite}: a negation and its key for the halves", prefix + negated + assertion + origin, INVALID_KEY)
    off = b"\2" + next(value for value in range(1, 100) if P256.lift(value) is None).to_bytes(32, "big")
    zeros, hybrid = bytes(33), bytes([assertion[0] + 4]) + assertion[1:]
    for name, point in {"off the curve": off, "all zero": zeros, "with the first byte of a hybrid": hybrid}.items():
        case(f"{suite}: an assertion key {name}", prefix + point + local + origin, INVALID_KEY)
        case(f"{suite}: a local key {name}", prefix + assertion + point + origin, INVALID_KEY)
    case(f"{suite}: one byte short", good[:-1], INVALID_KEY)
    case(f"{suite}: one byte long", good + b"\0", INVALID_KEY)
    case(f"{suite}: without its prefix", good[4:], INVALID_KEY)
    case(f"{suite}: without an origin", good[:-32], INVALID_KEY)
    case(f"{suite}: without a local key", prefix + assertion + origin, INVALID_KEY)
    for other in (
        b"\x80\x80\xc0\x01",
        b"\x82\x80\xc0\x01",
        b"\x81\x80\xc0\x81",
        b"\x01\xc0\x80\x81",
        b"\x30\x00\x01\x00",
    ):
        case(f"{suite}: under the prefix {other.hex()}", other + good[4:], INVALID_KEY)


def _curve_keys(curve: Curve, case: Callable[[str, bytes, str], None]) -> None:
    suite, prefix, wire = curve.suite, curve.prefix, curve.public(SECRET)
    point = wire[len(prefix) :]
    x = point[1:]
    lifted = curve.lift(int.from_bytes(x, "big"))
    assert lifted is not None
    y = lifted[1].to_bytes(32, "big")
    case(f"{suite}: a good key", wire, suite)
    case(f"{suite}: the same x with the other y", prefix + bytes([point[0] ^ 1]) + x, suite)
    case(f"{suite}: the generator", curve.public(1), suite)
    case(f"{suite}: the generator negated", curve.public(curve.n - 1), suite)
    for first in (0, 1, 4, 5, 6, 7, 0x82, 0xFF):
        case(f"{suite}: 33 bytes with SEC1's first byte {first:02x}", prefix + bytes([first]) + x, INVALID_KEY)
    for first in (2, 4, 6, 7):
        case(f"{suite}: 65 bytes with SEC1's first byte {first:02x}", prefix + bytes([first]) + x + y, INVALID_KEY)
    case(f"{suite}: x and y without a first byte", prefix + x + y, INVALID_KEY)
    case(f"{suite}: one byte short", wire[:-1], INVALID_KEY)
    case(f"{suite}: one byte long", wire + b"\0", INVALID_KEY)
    case(f"{suite}: the point at infinity, one byte", prefix + b"\0", INVALID_KEY)
    case(f"{suite}: the point at infinity, padded", prefix + bytes(33), INVALID_KEY)
    off = next(value for value in range(1, 100) if curve.lift(value) is None)
    case(f"{suite}: x = {off}, which is not on the curve", prefix + b"\2" + off.to_bytes(32, "big"), INVALID_KEY)
    small = next(value for value in range(1, 100) if curve.lift(value) is not None)
    case(f"{suite}: x = {small}, which is on the curve", prefix + b"\2" + small.to_bytes(32, "big"), suite)
    over = curve.p + small
    case(f"{suite}: x = p + {small}, not reduced", prefix + b"\2" + over.to_bytes(32, "big"), INVALID_KEY)
    case(f"{suite}: x = p", prefix + b"\2" + curve.p.to_bytes(32, "big"), INVALID_KEY)
    case(f"{suite}: x = 2^256 - 1", prefix + b"\2" + b"\xff" * 32, INVALID_KEY)
    zero = suite if curve.lift(0) else INVALID_KEY
    case(f"{suite}: x = 0", prefix + b"\2" + bytes(32), zero)


def _ed25519_keys(case: Callable[[str, bytes, str], None]) -> None:
    public, torsion = ed_public(SEED), ed_torsion()
    case("Ed25519: a good key", public, "Ed25519")
    case("Ed25519: the base point", ED_PREFIX + ed_encode(ED_B), "Ed25519")
    case("Ed25519: one byte short", public[:-1], INVALID_KEY)
    case("Ed25519: one byte long", public + b"\0", INVALID_KEY)
    for k, point in enumerate(torsion):
        case(f"Ed25519: small order, {k} times the generator of the torsion", ED_PREFIX + ed_encode(point), INVALID_KEY)
    sign = 1 << 255
    spellings = {
        "y = 1 with the sign of x set": 1 | sign,
        "y = -1 with the sign of x set": (ED_P - 1) | sign,
        "y = p, which is 0": ED_P,
        "y = p, which is 0, with the sign set": ED_P | sign,
        "y = p + 1, which is 1": ED_P + 1,
        "y = p + 1, which is 1, with the sign set": (ED_P + 1) | sign,
        "y = 2^255 - 1": 2**255 - 1,
        "all ones": 2**256 - 1,
    }
    for name, value in spellings.items():
        case(f"Ed25519: not canonical, {name}", ED_PREFIX + value.to_bytes(32, "little"), INVALID_KEY)
    for extra in range(2, 19):
        if ed_lift(extra, 0):
            wire = ED_PREFIX + (ED_P + extra).to_bytes(32, "little")
            case(f"Ed25519: not canonical, y = p + {extra} for a point on the curve", wire, INVALID_KEY)
    off = next(value for value in range(2, 100) if ed_lift(value, 0) is None)
    case(f"Ed25519: y = {off}, which is not on the curve", ED_PREFIX + off.to_bytes(32, "little"), INVALID_KEY)
    honest = ed_multiply(ed_expand(SEED)[0], ED_B)
    for k in range(1, 8):
        mixed = ed_encode(ed_add(honest, torsion[k]))
        case(f"Ed25519: mixed order, a good key plus {k} times the torsion", ED_PREFIX + mixed, INVALID_KEY)


def signatures() -> list[Case]:
    cases: list[Case] = []

    def case(name: str, public: bytes, message: bytes, signature: bytes, expect: bool | str) -> None:
        cases.append(
            {
                "name": name,
                "public_key": public.hex(),
                "message": message.hex(),
                "signature": signature.hex(),
                "expect": expect,
            }
        )

    for curve in CURVES:
        _ecdsa_signatures(curve, case)
    _ed25519_signatures(case)
    publics = {curve.suite: curve.public(SECRET) for curve in CURVES} | {"Ed25519": ed_public(SEED)}
    signed = {curve.suite: rs(*curve.sign(SECRET, MESSAGE)) for curve in CURVES} | {"Ed25519": ed_sign(SEED, MESSAGE)}
    for signer, signature in signed.items():
        for suite, public in publics.items():
            name = f"a signature of {signer} under a key of {suite}"
            case(name, public, MESSAGE, signature, signer == suite)
    return cases


def _ecdsa_signatures(curve: Curve, case: Callable[..., None]) -> None:
    suite, n, p = curve.suite, curve.n, curve.p
    public = curve.public(SECRET)
    r, s = curve.sign(SECRET, MESSAGE)

    def of(name: str, signature: bytes, expect: bool, message: bytes = MESSAGE, key: bytes = public) -> None:
        case(f"{suite}: {name}", key, message, signature, expect)

    of("s in the lower half", rs(r, s), True)
    of("s in the upper half", rs(r, n - s), True)
    of("another message", rs(r, s), False, MESSAGE + b"\0")
    of("the empty message", rs(*curve.sign(SECRET, b"")), True, b"")
    of("the key with the other y", rs(r, s), False, key=curve.public(n - SECRET))
    of("r and s changed places", rs(s, r), False)
    of("r and s little-endian", rs(r, s)[31::-1] + rs(r, s)[:31:-1], False)
    edges = {"0": 0, "1": 1, "n - 1": n - 1, "n": n, "n + 1": n + 1, "p - 1": p - 1, "p": p, "2^256 - 1": 2**256 - 1}
    for text, value in edges.items():
        of(f"r = {text}", rs(value, s), False)
        of(f"s = {text}", rs(r, value), False)
    of("r = 0 and s = 0", rs(0, 0), False)
    of("r = n and s = n", rs(n, n), False)
    for length in (0, 1, 32, 63):
        of(f"cut to {length} bytes", rs(r, s)[:length], False)
    of("one byte more in front", b"\0" + rs(r, s), False)
    of("one byte more behind", rs(r, s) + b"\0", False)
    of("r and s of 33 bytes", r.to_bytes(33, "big") + s.to_bytes(33, "big"), False)
    of("DER", der(r, s), False)
    high = next(number for number in range(1000) if len(_high_der(curve, number)) == 72)
    message = MESSAGE + number_bytes(high)
    of("DER of 72 bytes", _high_der(curve, high), False, message)
    # A key can be made for a nonce point of choice: so r and s reach edges that signing does not.
    small = next(point for x in range(1, 100) if (point := curve.lift(x)))
    for text, value in {"1": 1, "n - 1": n - 1, "(n - 1) / 2": (n - 1) // 2, "(n + 1) / 2": (n + 1) // 2}.items():
        of(
            f"a good signature with s = {text}",
            rs(small[0], value),
            True,
            key=curve.key_that_signed(small, value, MESSAGE),
        )
    key = curve.key_that_signed(small, 7, MESSAGE)
    of(f"a good signature with r = {small[0]}", rs(small[0], 7), True, key=key)
    of(f"the same with r = n + {small[0]}, not reduced", rs(n + small[0], 7), False, key=key)
    of("the same with s = n + 7, not reduced", rs(small[0], n + 7), False, key=key)
    wide = next(point for x in range(n + 1, n + 100) if (point := curve.lift(x)))
    key = curve.key_that_signed(wide, 7, MESSAGE)
    of("a good signature whose nonce point has n <= x < p", rs(wide[0] - n, 7), True, key=key)
    of("the same with that x itself as r", rs(wide[0], 7), False, key=key)


def number_bytes(number: int) -> bytes:
    return number.to_bytes(2, "big")


def _high_der(curve: Curve, number: int) -> bytes:
    r, s = curve.sign(SECRET, MESSAGE + number_bytes(number))
    return der(r, curve.n - s)


def _ed25519_signatures(case: Callable[..., None]) -> None:
    public, good, torsion = ed_public(SEED), ed_sign(SEED, MESSAGE), ed_torsion()
    r, s = good[:32], ed_little(good[32:])

    def of(name: str, signature: bytes, expect: bool | str, message: bytes = MESSAGE, key: bytes = public) -> None:
        case(f"Ed25519: {name}", key, message, signature, expect)

    of("a good signature", good, True)
    of("another message", good, False, MESSAGE + b"\0")
    of("the empty message", ed_sign(SEED, b""), True, b"")
    for text, value in {"S + L": s + ED_L, "L": ED_L, "L + 1": ED_L + 1, "0": 0, "2^256 - 1": 2**256 - 1}.items():
        of(f"S = {text}", r + value.to_bytes(32, "little"), False)
    for length in (0, 1, 32, 63):
        of(f"cut to {length} bytes", good[:length], False)
    of("one byte more behind", good + b"\0", False)
    of("one byte more in front", b"\0" + good, False)
    of("the message in front of it, as libsodium's combined form", good + MESSAGE, False)
    of("all zero", bytes(64), False)
    of("nonce 0, so that R has small order", ed_sign(SEED, MESSAGE, nonce=0), False)
    of("R not canonical", (ED_P + 1).to_bytes(32, "little") + good[32:], False)
    of("S big-endian", r + good[:31:-1], False)
    identity = ed_encode(ED_IDENTITY)
    of("forged under the key of order 1", identity + bytes(32), INVALID_KEY, key=ED_PREFIX + identity)
    for k in range(1, 8):
        # [0]B = R + [h]A holds for this R = -[h]A and any message: only rejecting the key helps.
        for candidate in torsion:
            encoded = ed_encode(candidate)
            h = ed_little(hashlib.sha512(encoded + ed_encode(torsion[k]) + MESSAGE).digest())
            if ed_add(candidate, ed_multiply(h % 8, torsion[k])) == ED_IDENTITY:
                key = ED_PREFIX + ed_encode(torsion[k])
                of(f"forged under {k} times the torsion", encoded + bytes(32), INVALID_KEY, key=key)
                break
