"""Makes the vector files of this folder: `python make.py [folder]` (default: beside this file).

Everything is computed here from the published definitions with plain integers, so that the files say what is right
and not what the code under test happens to do. Nothing of the project is imported.
"""

# ruff: noqa: E501 -- the published extended keys stay in one piece

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from mnemonic import Mnemonic  # for its word list alone

Case = dict[str, Any]
Point = tuple[int, int] | None  # None is the point at infinity

INVALID_KEY = "INVALID_PUBLIC_KEY"
INVALID_REQUEST = "INVALID_REQUEST"


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def jcs(value: Any) -> bytes:
    """RFC 8785 for values without fractions: members by UTF-16 code units, and ECMAScript's escapes."""

    def ordered(item: Any) -> Any:
        if isinstance(item, dict):
            return {name: ordered(item[name]) for name in sorted(item, key=lambda name: name.encode("utf-16-be"))}
        return [ordered(element) for element in item] if isinstance(item, list) else item

    return json.dumps(ordered(value), ensure_ascii=False, separators=(",", ":")).encode()


# --- ECDSA over short Weierstrass curves (SEC 1, FIPS 186-5, RFC 6979) ---


class Curve(NamedTuple):
    suite: str
    prefix: bytes
    p: int
    a: int
    b: int
    n: int
    g: tuple[int, int]

    def add(self, left: Point, right: Point) -> Point:
        if left is None or right is None:
            return left or right
        (x1, y1), (x2, y2) = left, right
        if x1 == x2 and (y1 + y2) % self.p == 0:
            return None
        if left == right:
            slope = (3 * x1 * x1 + self.a) * pow(2 * y1, -1, self.p) % self.p
        else:
            slope = (y2 - y1) * pow(x2 - x1, -1, self.p) % self.p
        x = (slope * slope - x1 - x2) % self.p
        return x, (slope * (x1 - x) - y1) % self.p

    def multiply(self, scalar: int, point: Point) -> Point:
        """Double and add in Jacobian coordinates (x / z^2, y / z^3), where z = 0 is the point at infinity."""
        assert point is not None
        x, y, z = 1, 1, 0
        for bit in bin(scalar % self.n)[2:]:
            x, y, z = self._double(x, y, z)
            if bit == "0":
                continue
            if z == 0:
                (x, y), z = point, 1
                continue
            h, r = (point[0] * z * z - x) % self.p, (point[1] * z**3 - y) % self.p
            if h == 0:
                x, y, z = self._double(x, y, z) if r == 0 else (1, 1, 0)
                continue
            square, cube = h * h % self.p, h * h * h % self.p
            x, old = (r * r - cube - 2 * x * square) % self.p, x
            y, z = (r * (old * square - x) - y * cube) % self.p, z * h % self.p
        if z == 0:
            return None
        inverse = pow(z, -1, self.p)
        return x * inverse**2 % self.p, y * inverse**3 % self.p

    def _double(self, x: int, y: int, z: int) -> tuple[int, int, int]:
        s, m = 4 * x * y * y, 3 * x * x + self.a * z**4
        new = (m * m - 2 * s) % self.p
        return new, (m * (s - new) - 8 * y**4) % self.p, 2 * y * z % self.p

    def lift(self, x: int) -> Point:
        """The point with this x and an even y, if there is one (p = 3 mod 4 on both curves)."""
        square = (x**3 + self.a * x + self.b) % self.p
        y = pow(square, (self.p + 1) // 4, self.p)
        if y * y % self.p != square:
            return None
        return x, y if y % 2 == 0 else self.p - y

    def wire(self, point: Point) -> bytes:
        assert point is not None
        return self.prefix + bytes([2 + point[1] % 2]) + point[0].to_bytes(32, "big")

    @cache  # noqa: B019 -- a curve lives as long as the script
    def public(self, secret: int) -> bytes:
        return self.wire(self.multiply(secret, self.g))

    def nonce(self, secret: int, message: bytes) -> int:
        """RFC 6979, section 3.2, with SHA-256."""
        digest = (int.from_bytes(sha256(message), "big") % self.n).to_bytes(32, "big")
        key, value = bytes(32), b"\1" * 32
        for step in (b"\0", b"\1"):
            key = hmac.digest(key, value + step + secret.to_bytes(32, "big") + digest, "sha256")
            value = hmac.digest(key, value, "sha256")
        while True:
            value = hmac.digest(key, value, "sha256")
            if 0 < (k := int.from_bytes(value, "big")) < self.n:
                return k
            key = hmac.digest(key, value + b"\0", "sha256")
            value = hmac.digest(key, value, "sha256")

    @cache  # noqa: B019 -- a curve lives as long as the script
    def sign(self, secret: int, message: bytes) -> tuple[int, int]:
        """r and s, s in the lower half."""
        k = self.nonce(secret, message)
        point = self.multiply(k, self.g)
        assert point is not None
        r = point[0] % self.n
        s = pow(k, -1, self.n) * (int.from_bytes(sha256(message), "big") + r * secret) % self.n
        return r, min(s, self.n - s)

    def key_that_signed(self, nonce_point: Point, s: int, message: bytes) -> bytes:
        """The key under which (x of nonce_point mod n, s) is a signature of message: Q = (s R - e G) / r."""
        assert nonce_point is not None
        r, e = nonce_point[0] % self.n, int.from_bytes(sha256(message), "big")
        inverse = pow(r, -1, self.n)
        both = self.add(self.multiply(s * inverse, nonce_point), self.multiply(-e * inverse, self.g))
        return self.wire(both)


P256 = Curve(
    "ES256",
    b"",
    2**256 - 2**224 + 2**192 + 2**96 - 1,
    -3,
    0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B,
    0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    (
        0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
        0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
    ),
)
SECP256K1 = Curve(
    "ES256K",
    b"\xe7\x01",
    2**256 - 2**32 - 977,
    0,
    7,
    0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141,
    (
        0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
        0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
    ),
)
CURVES = (P256, SECP256K1)


def rs(r: int, s: int) -> bytes:
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def der(r: int, s: int) -> bytes:
    def integer(value: int) -> bytes:
        body = value.to_bytes(value.bit_length() // 8 + 1, "big")
        return bytes([2, len(body)]) + body

    body = integer(r) + integer(s)
    return bytes([0x30, len(body)]) + body


# --- Ed25519 (RFC 8032) ---

ED_PREFIX = b"\xed\x01"
ED_P = 2**255 - 19
ED_L = 2**252 + 27742317777372353535851937790883648493
ED_D = -121665 * pow(121666, -1, ED_P) % ED_P
ED_IDENTITY = (0, 1)


def ed_add(left: tuple[int, int], right: tuple[int, int]) -> tuple[int, int]:
    (x1, y1), (x2, y2) = left, right
    product = ED_D * x1 * x2 * y1 * y2 % ED_P
    inverse = pow((1 + product) * (1 - product), -1, ED_P)
    x = (x1 * y2 + x2 * y1) * inverse * (1 - product)
    y = (y1 * y2 + x1 * x2) * inverse * (1 + product)
    return x % ED_P, y % ED_P


def ed_multiply(scalar: int, point: tuple[int, int]) -> tuple[int, int]:
    result = ED_IDENTITY
    for bit in bin(scalar)[2:]:
        result = ed_add(result, result)
        if bit == "1":
            result = ed_add(result, point)
    return result


def ed_lift(y: int, sign: int) -> tuple[int, int] | None:
    square = (y * y - 1) * pow(ED_D * y * y + 1, -1, ED_P) % ED_P
    x = pow(square, (ED_P + 3) // 8, ED_P)
    if x * x % ED_P != square:
        x = x * pow(2, (ED_P - 1) // 4, ED_P) % ED_P
    if x * x % ED_P != square:
        return None
    return (ED_P - x if x % 2 != sign and x else x), y % ED_P


def ed_encode(point: tuple[int, int]) -> bytes:
    return (point[1] | (point[0] % 2) << 255).to_bytes(32, "little")


def ed_little(data: bytes) -> int:
    return int.from_bytes(data, "little")


_base = ed_lift(4 * pow(5, -1, ED_P) % ED_P, 0)
assert _base is not None
ED_B = _base


def ed_expand(seed: bytes) -> tuple[int, bytes]:
    digest = hashlib.sha512(seed).digest()
    return (ed_little(digest[:32]) & (2**254 - 8)) | 2**254, digest[32:]


@cache
def ed_public(seed: bytes) -> bytes:
    return ED_PREFIX + ed_encode(ed_multiply(ed_expand(seed)[0], ED_B))


def ed_sign(seed: bytes, message: bytes, nonce: int | None = None) -> bytes:
    scalar, salt = ed_expand(seed)
    if nonce is None:
        nonce = ed_little(hashlib.sha512(salt + message).digest()) % ED_L
    r = ed_encode(ed_multiply(nonce, ED_B))
    challenge = ed_little(hashlib.sha512(r + ed_public(seed)[2:] + message).digest())
    return r + ((nonce + challenge * scalar) % ED_L).to_bytes(32, "little")


@cache
def ed_torsion() -> list[tuple[int, int]]:
    """The eight points whose order divides 8."""
    y = 2
    while (point := ed_lift(y, 0)) is None or ed_multiply(4, ed_multiply(ED_L, point)) == ED_IDENTITY:
        y += 1
    generator = ed_multiply(ED_L, point)
    return [ed_multiply(k, generator) for k in range(8)]


# --- Test keys: RFC 6979 A.2.5 for both ECDSA suites, RFC 8032 7.1 for Ed25519 ---

SECRET = 0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721
SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
MESSAGE = b"SIGIL-AUTH-V1\0" + bytes(range(64))


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
    return cases


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


# --- Signed bytes: every use of the table of tags ---

CHALLENGE = bytes.fromhex("0123456789abcdef") * 4
ACTION = {"type": "engine_login", "description": "Sign in to Engine Management", "user_id": "alice"}
SERVER_ID = sha256(P256.public(SECRET)).hex()
CONTEXT = {
    "type": "deploy",
    "description": "Zoë deploys €",
    "params": {"\U0001f600": 1, "\ufb33": [True, None], "a": {"b": "\u0001\u007f/"}},
    "mpa_id": "550e8400-e29b-41d4-a716-446655440000",
    "request_id": "r-1",
    "nonce": b64(bytes(range(32))),
    "server_id": SERVER_ID,
    "expires_at": "2026-04-24T10:37:15Z",
    "respond_to": "",
    "required": 1,
    "reject_policy": "continue",
    "groups_sha256": sha256(jcs([[SERVER_ID]])).hex(),
}
ORIGIN = "https://relay.example.com"


def signed() -> list[Case]:
    hashed = CHALLENGE + sha256(jcs(ACTION))
    nonce, body = bytes(range(32)), b'{"pushes":[]}'
    suites = {"ES256": P256.public(SECRET), "ES256K": SECP256K1.public(SECRET), "Ed25519": ed_public(SEED)}
    server_keys = {suite: b64(key) for suite, key in suites.items()}
    action = jcs(ACTION).decode()
    challenge = {"challenge": CHALLENGE.hex(), "action_jcs": action}
    context = {"action_context": CONTEXT}
    rows: list[tuple[str, Case, bytes]] = [
        ("approval", challenge, b"SIGIL-AUTH-V1\0" + hashed),
        ("matched_approval", challenge | {"match_code": "07"}, b"SIGIL-AUTH-MATCH-V1\0" + hashed + b"07"),
        ("rejection", challenge, b"SIGIL-AUTH-REJECT-V1\0" + hashed),
        ("mpa_approval", context, b"SIGIL-MPA-V1\0" + jcs(CONTEXT)),
        ("mpa_rejection", context, b"SIGIL-MPA-REJECT-V1\0" + jcs(CONTEXT)),
        (
            "pending",
            {"server_id": SERVER_ID, "timestamp": "2026-04-24T10:37:15Z"},
            b"SIGIL-PENDING-V1\0" + SERVER_ID.encode() + b"\0" + b"2026-04-24T10:37:15Z",
        ),
        ("server_keys", {"server_public_keys": server_keys}, b"SIGIL-SERVER-KEYS-V1\0" + jcs(server_keys)),
        (
            "relay_register",
            {"relay_origin": ORIGIN, "platform": "apns", "nonce": nonce.hex(), "push_token": "tokén"},
            b"SIGIL-RELAY-REGISTER-V1\0" + ORIGIN.encode() + b"\0apns\0" + nonce + "tokén".encode(),
        ),
        (
            "relay_unregister",
            {"relay_origin": ORIGIN, "nonce": nonce.hex()},
            b"SIGIL-RELAY-UNREGISTER-V1\0" + ORIGIN.encode() + b"\0" + nonce,
        ),
        (
            "relay_ws_auth",
            {"relay_origin": ORIGIN, "challenge": nonce.hex()},
            b"SIGIL-RELAY-WS-AUTH-V1\0" + ORIGIN.encode() + b"\0" + nonce,
        ),
        (
            "relay_request",
            {
                "method": "POST",
                "target": "/push?a=%20b",
                "timestamp": "1777026735",
                "nonce": bytes(range(16)).hex(),
                "body": body.hex(),
            },
            b"SIGIL-RELAY-REQUEST-V1\0POST\n/push?a=%20b\n1777026735\n"
            + bytes(range(16)).hex().encode()
            + b"\n"
            + sha256(body),
        ),
        *_signed_by_enrolment_and_attestation(),
    ]
    return [
        {
            "name": use,
            "input": given,
            "expect": {
                "message": message.hex(),
                "ES256": rs(*P256.sign(SECRET, message)).hex(),
                "ES256K": rs(*SECP256K1.sign(SECRET, message)).hex(),
                "Ed25519": ed_sign(SEED, message).hex(),
            },
        }
        for use, given, message in rows
    ]


def _signed_by_enrolment_and_attestation() -> list[tuple[str, Case, bytes]]:
    offer = {"account": "Zoë €", "server_id": SERVER_ID}
    statement = {"kind": "yubikey-piv", "x5c": ["AAAA", "BBBB"]}
    digest, challenge = CHALLENGE * 3, bytes(range(32))
    payload = jcs({"v": 1, "server_id": SERVER_ID})
    return [
        ("enrolment_offer", {"offer_jcs": jcs(offer).decode()}, b"SIGIL-ENROL-OFFER-V1\0" + jcs(offer)),
        ("enrolment_completion", {"digest": digest.hex()}, b"SIGIL-ENROL-V1\0" + digest),
        ("enrolment_consent", {"digest": digest.hex()}, b"SIGIL-ENROL-REPLACE-V1\0" + digest),
        (
            "attestation_proof",
            {"digest": challenge.hex(), "attestation_jcs": jcs(statement).decode()},
            b"SIGIL-ATTEST-PROOF-V1\0" + challenge + sha256(jcs(statement)),
        ),
        ("device_credential", {"payload": payload.hex()}, b"SIGIL-DEVICE-CREDENTIAL-V1\0" + payload),
    ]


def bindings() -> list[Case]:
    base: Case = {
        "challenge_id": "550e8400-e29b-41d4-a716-446655440000",
        "expires_at": "2026-04-24T10:37:15Z",
        "fingerprint": SERVER_ID,
        "nonce": b64(bytes(range(32))),
        "number_matching": False,
        "respond_to": "",
        "server_id": "0" * 64,
    }
    changes: list[tuple[str, Case]] = [
        ("nothing changed", {}),
        ("another challenge_id", {"challenge_id": "550e8400-e29b-41d4-a716-446655440001"}),
        ("a second later", {"expires_at": "2026-04-24T10:37:16Z"}),
        ("another fingerprint", {"fingerprint": "f" * 64}),
        ("another nonce", {"nonce": b64(bytes(32))}),
        ("with number matching", {"number_matching": True}),
        ("with an address to respond to", {"respond_to": "https://sigil.example.com/respond"}),
        ("another server", {"server_id": "1" * 64}),
    ]
    return [
        {
            "name": name,
            "input": base | change,
            "expect": sha256(b"SIGIL-CHALLENGE-BIND-V1\0" + jcs(base | change)).hex(),
        }
        for name, change in changes
    ]


# --- Votes on a multi-party request ---

MPA, MPA_REJECT = b"SIGIL-MPA-V1\0", b"SIGIL-MPA-REJECT-V1\0"
Signer = Callable[[bytes], bytes]


def _voter(number: int) -> tuple[bytes, Signer]:
    """Public key and signature of a test device; the suites take turns."""
    secret = int.from_bytes(sha256(b"voter" + bytes([number])), "big") % (SECP256K1.n - 1) + 1
    if number % 3 == 2:
        seed = sha256(b"voter" + bytes([number]))
        return ed_public(seed), lambda message: ed_sign(seed, message)
    curve = CURVES[number % 3]
    secret %= curve.n
    return curve.public(secret), lambda message: rs(*curve.sign(secret, message))


VOTERS = [
    *(_voter(number) for number in range(6)),
    (P256.public(SECRET), lambda message: rs(*P256.sign(SECRET, message))),
]
NAMES = [sha256(wire).hex() for wire, _ in VOTERS]
GROUPS = [[0, 1], [2, 3], [4]]
"""Numbers of voters: five devices in three groups. The sixth is no member, the seventh the server itself."""


def _poll(groups: list[list[int]] = GROUPS, **context: Any) -> Case:
    """The status of a request before anybody voted, signed by the server."""
    members = [[NAMES[voter] for voter in group] for group in groups]
    signed_context = {
        "type": "deploy",
        "description": "Zoë deploys €",
        "params": {"requested_by": NAMES[0]},
        "mpa_id": "550e8400-e29b-41d4-a716-446655440000",
        "request_id": "release-7",
        "nonce": b64(bytes(range(32))),
        "server_id": SERVER_ID,
        "expires_at": "2026-04-24T10:37:15Z",
        "respond_to": "",
        "required": 2,
        "reject_policy": "continue",
        "groups_sha256": sha256(jcs([sorted(group) for group in members])).hex(),
        **context,
    }
    return {
        "request_id": signed_context["request_id"],
        "mpa_id": signed_context["mpa_id"],
        "status": "pending",
        "groups_satisfied": [],
        "groups_required": signed_context["required"],
        "groups_total": len(groups),
        "expires_at": signed_context["expires_at"],
        "action_context": signed_context,
        "server_signature": b64(rs(*P256.sign(SECRET, MPA + jcs(signed_context)))),
        "server_public_key": b64(P256.public(SECRET)),
        "groups": [
            {"members": [{"device_public_key": b64(VOTERS[voter][0]), "fingerprint": NAMES[voter]} for voter in group]}
            for group in groups
        ],
        "votes": [],
    }


def _vote(poll: Case, voter: int, decision: str = "approved", **changes: Any) -> Case:
    wire, sign = VOTERS[voter]
    tag = MPA if decision == "approved" else MPA_REJECT
    return {
        "fingerprint": NAMES[voter],
        "device_public_key": b64(wire),
        "group": next((n for n, group in enumerate(GROUPS) if voter in group), 0),
        "decision": decision,
        "at": "2026-04-24T10:33:00Z",
        "signature": b64(sign(tag + jcs(poll["action_context"]))),
    } | changes


def votes() -> list[Case]:
    cases: list[Case] = []

    def case(name: str, status: Case, expect: Any, **options: Any) -> None:
        given = {"status": status, "server_id": SERVER_ID, "required": 2, **options}
        cases.append({"name": name, "input": given, "expect": expect})

    def counted(status: str, yes: list[int], no: list[int], poll: Case | None = None, **changes: Any) -> Case:
        """A request with these votes, and the groups that they satisfy."""
        base = _poll() if poll is None else poll
        given = [_vote(base, voter) for voter in yes] + [_vote(base, voter, "rejected") for voter in no]
        satisfied = sorted({vote["group"] for vote in given if vote["decision"] == "approved"})
        return base | {"status": status, "votes": given, "groups_satisfied": satisfied} | changes

    def proves(status: str, satisfied: list[int]) -> Case:
        return {"status": status, "groups_satisfied": satisfied}

    on_first = _poll(reject_policy="reject_on_first")
    case("two of three groups approve", counted("approved", [0, 2], []), proves("approved", [0, 1]))
    case("two devices of one group count once", counted("pending", [0, 1], []), proves("pending", [0]))
    case("a satisfied group may have a rejection", counted("approved", [0, 4], [1]), proves("approved", [0, 2]))
    case("two groups are lost", counted("rejected", [], [0, 1, 4]), proves("rejected", []))
    case("the first rejection ends it", counted("rejected", [0], [1], on_first), proves("rejected", [0]))
    case("no member answers in time", counted("timeout", [3], []), proves("timeout", [1]))
    case("it is cancelled", counted("cancelled", [3], [4]), proves("cancelled", [1]))
    case("the requester was not eligible", counted("rejected", [], [1, 4]), proves("rejected", []))
    case(
        "the requester does not vote",
        counted("approved", [1, 2], []),
        proves("approved", [0, 1]),
        exclude_requester=True,
    )
    for kind, named in {"a list": [NAMES[0], NAMES[1]], "an object": {"id": 7}, "a number": 7, "a truth": True}.items():
        poll = _poll(params={"requested_by": named})
        case(f"{kind} names the requester", counted("approved", [0, 2], [], poll), proves("approved", [0, 1]))
        case(f"{kind} names the requester, which is no member", counted("approved", [0, 2], [], poll),
             proves("approved", [0, 1]), exclude_requester=True)  # fmt: skip
    case("fewer groups are wanted than were requested", counted("approved", [0, 2], []), proves("approved", [0, 1]),
         required=1)  # fmt: skip

    good = counted("approved", [0, 2], [])
    for member, code in (("votes", "STATUS_MALFORMED"), ("server_signature", "STATUS_MALFORMED")):
        case(f"without {member}", {name: value for name, value in good.items() if name != member}, code)
    case("another server's id", good, "SERVER_KEY_MISMATCH", server_id=NAMES[0])
    case("another key signed", good | {"server_public_key": b64(VOTERS[0][0])}, "SERVER_KEY_MISMATCH")
    for name, change in {
        "another action": {"description": "Zoë deploys $"},
        "other params": {"params": {}},
        "a lower quorum": {"required": 1},
        "another policy": {"reject_policy": "reject_on_first"},
        "another time": {"expires_at": "2026-04-24T10:37:16Z"},
        "other groups": {"groups_sha256": "0" * 64},
        "another nonce": {"nonce": b64(bytes(32))},
        "a member more": {"more": True},
    }.items():
        altered = good | {"action_context": good["action_context"] | change}
        case(f"{name} than was signed", altered, "SERVER_SIGNATURE_INVALID")
    case("a signature of the server under the tag of rejections",
         good | {"server_signature": b64(rs(*P256.sign(SECRET, MPA_REJECT + jcs(good["action_context"]))))},
         "SERVER_SIGNATURE_INVALID")  # fmt: skip
    for name, change in {
        "request_id": {"request_id": "release-8"},
        "mpa_id": {"mpa_id": "550e8400-e29b-41d4-a716-446655440001"},
        "expires_at": {"expires_at": "2026-04-24T10:37:16Z"},
        "groups_required": {"groups_required": 1},
        "groups_total": {"groups_total": 2},
    }.items():
        case(f"another {name} beside the context", good | change, "CONTEXT_CONTRADICTED")
    elsewhere = _poll(server_id="0" * 64)
    case("a context of another server", counted("approved", [0, 2], [], elsewhere), "CONTEXT_CONTRADICTED")

    case("more groups are wanted than were requested", good, "REQUIRED_TOO_LOW", required=3)
    grown = [good["groups"][0], {"members": good["groups"][1]["members"] + _poll([[5]])["groups"][0]["members"]}]
    case("a member was added", good | {"groups": [*grown, good["groups"][2]]}, "GROUPS_MISMATCH")
    case("the groups changed places", good | {"groups": good["groups"][::-1]}, "GROUPS_MISMATCH")
    renamed = {"members": [good["groups"][2]["members"][0] | {"fingerprint": NAMES[5]}]}
    case("a fingerprint of another key", good | {"groups": [*good["groups"][:2], renamed]}, "GROUPS_MISMATCH")
    twice = _poll([[0, 1], [2, 0], [4]])
    case("a device in two groups", counted("approved", [0, 2], [], twice), "GROUPS_MISMATCH")
    by_server = counted("approved", [6, 2], [], _poll([[0, 6], [2, 3], [4]]))
    case("the server itself is a member, and its question a vote", by_server, "GROUPS_MISMATCH")

    stranger = _vote(good, 5)
    case("a stranger's vote", good | {"votes": [good["votes"][0], stranger]}, "NOT_A_MEMBER")
    moved = good["votes"][0] | {"group": 1}
    case("a vote counted in another group", good | {"votes": [moved, good["votes"][1]]}, "NOT_A_MEMBER")
    case("a vote for a group that there is not",
         good | {"votes": [good["votes"][0] | {"group": -1}, good["votes"][1]]}, "NOT_A_MEMBER")  # fmt: skip
    named = good["votes"][0] | {"fingerprint": NAMES[1]}
    case("a vote under another's name", good | {"votes": [named, good["votes"][1]]}, "NOT_A_MEMBER")
    case("a device that votes twice", good | {"votes": [*good["votes"], good["votes"][0]]}, "VOTED_TWICE")
    both = [*good["votes"], _vote(good, 0, "rejected")]
    case("a device that approves and rejects", good | {"votes": both}, "VOTED_TWICE")

    turned = _vote(good, 2, "rejected") | {"decision": "approved"}
    case("a rejection reported as an approval", good | {"votes": [good["votes"][0], turned]}, "VOTE_SIGNATURE_INVALID")
    turned = good["votes"][1] | {"decision": "rejected"}
    case("an approval reported as a rejection", good | {"votes": [good["votes"][0], turned]}, "VOTE_SIGNATURE_INVALID")
    borrowed = _vote(_poll(mpa_id="550e8400-e29b-41d4-a716-446655440001"), 2)
    case("a vote on another request", good | {"votes": [good["votes"][0], borrowed]}, "VOTE_SIGNATURE_INVALID")
    forged = good["votes"][1] | {"signature": good["votes"][0]["signature"]}
    case("another's signature", good | {"votes": [good["votes"][0], forged]}, "VOTE_SIGNATURE_INVALID")

    case("the requester voted", good, "REQUESTER_VOTED", exclude_requester=True)
    contradictions = {
        "approved by one group": counted("approved", [0, 1], []),
        "approved by no group": counted("approved", [], []),
        "rejected with enough groups": counted("rejected", [0, 2], []),
        "rejected with enough groups left": counted("rejected", [], [0, 2]),
        "pending with enough groups": counted("pending", [0, 2], []),
        "pending with too few groups left": counted("pending", [], [0, 1, 4]),
        "timed out with enough groups": counted("timeout", [0, 2], []),
        "cancelled with enough groups": counted("cancelled", [0, 2], []),
        "approved after the first rejection": counted("approved", [0, 2], [1], on_first),
        "pending after the first rejection": counted("pending", [0], [1], on_first),
        "two first rejections": counted("rejected", [], [0, 1], on_first),
        "satisfied groups that are not": good | {"groups_satisfied": [0, 1, 2]},
    }
    for name, status in contradictions.items():
        case(name, status, "OUTCOME_CONTRADICTED")
    return cases


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


# --- Actions ---


# --- texts for people (docs/protocol.md, 2.5) ---

TABLES = Path(__file__).parent / "unicode.txt"


@cache
def unicode_tables() -> dict[str, frozenset[int]]:
    found: dict[str, frozenset[int]] = {}
    name = ""
    for line in TABLES.read_text(encoding="ascii").splitlines():
        if line and line[0] != "#" and line.isupper() and line.replace("_", "").isalpha():
            name = line
        elif line and line[0] != "#":
            for item in line.split():
                low, _, high = item.partition("-")
                codes = range(int(low, 16), int(high or low, 16) + 1)
                found[name] = found.get(name, frozenset()) | frozenset(codes)
    return found


def is_displayable(text: str) -> bool:
    """The rule of 2.5, point by point, one character at a time."""
    table, codes = unicode_tables(), [ord(char) for char in text]
    virama = table["MARK_VIRAMA"] | table["SPACING_VIRAMA"]
    joining = table["JOINS_NEXT"] | table["JOINS_BOTH"] | table["JOINS_PREVIOUS"]

    def at(index: int) -> int:
        return codes[index] if 0 <= index < len(codes) else -1

    def marks_before(index: int) -> int:
        count = 0
        while at(index - 1 - count) in table["MARK"]:
            count += 1
        return count

    def ends_emoji(index: int) -> bool:
        """Whether an emoji, with its one modifier, ends before the index."""
        last = at(index - 1)
        return last in table["EMOJI"] or (
            (last == 0xFE0F or 0x1F3FB <= last <= 0x1F3FF) and at(index - 2) in table["EMOJI"]
        )

    def joiner_is_good(index: int) -> bool:
        if at(index) == 0x200D and ends_emoji(index) and at(index + 1) in table["EMOJI"]:
            return True
        if at(index - 1) in virama and at(index + 1) not in table["MARK"]:
            return True
        if at(index + 1) in virama and at(index - 1) in table["GRAPHIC"] and at(index - 1) not in table["EMOJI"]:
            return True
        base = at(index - 1 - marks_before(index))
        return at(index) == 0x200C and base in joining and at(index + 1) in joining

    def is_good(index: int) -> bool:
        code = codes[index]
        if code in (0x200C, 0x200D):
            return joiner_is_good(index)
        if code == 0xFE0F:
            keycap = chr(max(at(index - 1), 0)) in "#*0123456789" and at(index + 1) == 0x20E3
            return keycap or at(index - 1) in table["EMOJI"]
        if code == 0xFE0E:
            return at(index - 1) in table["EMOJI"] and at(index - 2) != 0x200D
        if code in table["MARK"]:
            count = marks_before(index)
            base = at(index - 1 - count)
            based = base in table["GRAPHIC"] or base in (0xFE0E, 0xFE0F, 0x200C, 0x200D)
            return count < 4 and based
        return code in table["GRAPHIC"] or code in table["BLANK"]

    return all(map(is_good, range(len(codes)))) and any(code in table["GRAPHIC"] for code in codes)


def texts_for_people() -> list[tuple[str, str, bool]]:
    """Name, text, and whether it may be shown; each expectation is written by hand and compared with the rule."""
    shown = {
        "accents": "Zoë, Ångström, Tiê\u0301ng Vie\u0323\u0302t",
        "many scripts": "支付 оплата دفع שלום ที่ 한국어 ñ é ﬁ\u00a0\u3000x",
        "vowel points": "مُحَمَّد שָׁלוֹם",
        "Tibetan stacks": "བསྒྲུབས",
        "Burmese medials": "ကျွန်ုပ်",
        "a non-joiner in Persian": "می\u200cخواهم کتاب\u200cها",
        "a non-joiner in Persian behind a letter that never joins": "کار\u200cها",
        "a non-joiner behind a vowel point": "کارِ\u200cها",
        "a text presentation": "\u2764\ufe0e \u00a9\ufe0e",
        "a joiner in Devanagari": "क्\u200dष",
        "a joiner in Sinhala": "ශ්\u200dරී",
        "a joiner before a virama in Bengali": "র\u200d্যাব",
        "a joiner behind a spacing virama": "\U00011315\U0001134d\u200d\U00011337",
        "an emoji": "\U0001f600",
        "a family of emoji": "\U0001f468\u200d\U0001f469\u200d\U0001f467",
        "a skin tone": "\U0001f469\U0001f3fd\u200d\U0001f4bb",
        "an emoji presentation": "\u2764\ufe0f \U0001f3f3\ufe0f\u200d\U0001f308",
        "a keycap": "1\ufe0f\u20e3",
        "a flag of two letters": "\U0001f1e9\U0001f1ea",
        "four marks": "e" + "\u0301" * 4,
        "blanks around": " x ",
        "a Braille blank inside": "\u2801\u2800\u2801",
        "a character of Unicode 15.0": "\U0001fae8",
    }
    refused = {
        "nothing": "",
        "a blank alone": " ",
        "blanks alone": "\u00a0\u2003\u3000\u2800",
        "a null": "a\u0000b",
        "a newline": "a\nb",
        "a newline behind": "d\n",
        "a tab": "a\tb",
        "an escape sequence": "\u001b[2Jb",
        "a C1 control": "a\u009bb",
        "a soft hyphen": "a\u00adb",
        "a grapheme joiner": "a\u034fb",
        "an Arabic letter mark": "a\u061cb",
        "a Hangul filler alone": "\u3164",
        "a Hangul choseong filler": "a\u115fb",
        "a Hangul jungseong filler": "a\u1160b",
        "a half-width Hangul filler": "a\uffa0b",
        "a Khmer inherent vowel": "a\u17b4b",
        "a Mongolian variation selector": "a\u180bb",
        "a Mongolian vowel separator": "a\u180eb",
        "a zero width space": "a\u200bb",
        "a left-to-right mark": "a\u200eb",
        "a line separator": "a\u2028b",
        "a paragraph separator": "a\u2029b",
        "a right-to-left override": "a\u202eb",
        "a word joiner": "a\u2060b",
        "a reserved format character": "a\u2065b",
        "an isolate": "a\u2066b",
        "a deprecated format character": "a\u206ab",
        "the last deprecated format character": "a\u206fb",
        "a private character": "a\ue000b",
        "a private character of plane 16": "a\U0010fffdb",
        "a noncharacter": "a\ufdd0b",
        "a noncharacter at the end of the BMP": "a\uffffb",
        "a noncharacter at the end of plane 1": "a\U0001fffeb",
        "the last code point": "a\U0010ffffb",
        "a code point that is not assigned": "a\u0378b",
        "a byte order mark": "a\ufeffb",
        "an interlinear annotation": "a\ufff9b",
        "an object replacement": "a\ufffcb",
        "a null notehead": "a\U0001d159b",
        "a tag character": "a\U000e0041b",
        "a flag of tag characters": "\U0001f3f4\U000e0067\U000e0062\U000e007f",
        "a variation selector": "a\ufe00b",
        "a text presentation of a letter": "a\ufe0e",
        "a text presentation of a digit": "1\ufe0e",
        "two text presentations": "\u2764\ufe0e\ufe0e",
        "a text presentation behind an emoji presentation": "\u2764\ufe0f\ufe0e",
        "a text presentation in a sequence of emoji": "\U0001f468\u200d\u2764\ufe0e",
        "a joiner behind a text presentation": "\u2764\ufe0e\u200d\U0001f468",
        "a non-joiner before a blank in Persian": "می\u200c خواهم",
        "two non-joiners in Persian": "می\u200c\u200cخواهم",
        "a non-joiner between Persian and Latin": "می\u200ca",
        "a variation selector of plane 14": "a\U000e0100b",
        "60 stacked accents": "e" + "\u0301" * 60,
        "five marks": "e" + "\u0301" * 5,
        "a mark at the start": "\u0301a",
        "a mark on a blank": "a \u0301",
        "an enclosing mark on a blank": " \u20dd",
        "a joiner alone": "\u200d",
        "a joiner between Latin letters": "a\u200db",
        "a non-joiner between Latin letters": "a\u200cb",
        "a non-joiner at the end of Persian": "می\u200c",
        "a joiner between Arabic letters": "ب\u200dب",
        "two joiners": "क्\u200d\u200dष",
        "a mark behind a joiner": "क्\u200d\u0301",
        "a joiner at the end of an emoji": "\U0001f468\u200d",
        "an emoji presentation of a letter": "a\ufe0f",
        "two emoji presentations": "\u2764\ufe0f\ufe0f",
        "a keycap of a letter": "a\ufe0f\u20e3",
        "a digit with an emoji presentation alone": "1\ufe0f",
        "256 emoji and a newline": "\U0001f600" * 255 + "\n",
    }
    assert all(map(is_displayable, shown.values())), [name for name, text in shown.items() if not is_displayable(text)]
    assert not any(map(is_displayable, refused.values()))
    return [
        *((name, text, True) for name, text in shown.items()),
        *((name, text, False) for name, text in refused.items()),
    ]


def actions() -> list[Case]:  # noqa: PLR0912 -- a table
    cases: list[Case] = []

    def text(name: str, action: str | bytes, expect: Any, path: str | None = None) -> None:
        body = {"action": action} if isinstance(action, str) else {"action_hex": action.hex()}
        cases.append({"name": name, **body, "expect": expect} | ({"path": path} if path else {}))

    def good(name: str, action: Case, spelled: str | None = None) -> None:
        text(name, spelled or json.dumps(action), {"jcs": jcs(action).decode()})

    def bad(name: str, action: str | bytes, path: str) -> None:
        text(name, action, INVALID_REQUEST, "$" + path)

    def described(text: str) -> Case:
        return {"type": "a", "description": text}

    def with_params(params: Any) -> Case:
        return {"type": "a", "description": "d", "params": params}

    def spelled(params: str) -> str:
        return '{"type":"a","description":"d","params":' + params + "}"

    good("the least there can be", described("d"))
    good("members in another order", described("d"), '{"description":"d","type":"a"}')
    good("white space between", described("d"), ' { "type" :\t"a" ,\r\n"description": "d" } ')
    good("escapes of what needs none", described("d/é"), '{"type":"\\u0061","description":"d\\/\\u00E9"}')
    good("a surrogate pair as escapes", described("\U0001f600"), '{"type":"a","description":"\\ud83d\\ude00"}')
    bad("a member twice", '{"description":"d","type":"a","description":"second"}', "")

    good("every character of a type", {"type": "abcdefghijklmnopqrstuvwxyz0123456789_.:-", "description": "d"})
    good("a type of 64", {"type": "a" * 64, "description": "d"})
    for name, value in {
        "empty": "",
        "of 65": "a" * 65,
        "in upper case": "A",
        "with a blank": "a b",
        "with a newline behind": "a\n",
        "of 64 with a newline behind": "a" * 64 + "\n",
        "that is a newline": "\n",
        "with a second line": "a\nb",
        "with a slash": "a/b",
        "beyond ASCII": "é",
        "with a full-width letter": "ａ",
        "with Arabic digits": "٠",
    }.items():
        bad(f"a type {name}", json.dumps({"type": value, "description": "d"}), ".action.type")
    bad("a type that is no string", '{"type":1,"description":"d"}', ".action.type")
    bad("a type that is null", '{"type":null,"description":"d"}', ".action.type")
    bad("no type", '{"description":"d"}', ".action.type")
    bad("no description", '{"type":"a"}', ".action.description")
    bad("a description that is null", '{"type":"a","description":null}', ".action.description")
    bad("a description that is a list", '{"type":"a","description":["d"]}', ".action.description")
    bad("an empty description", '{"type":"a","description":""}', ".action.description")
    good("a description of 256 letters", described("d" * 256))
    good("a description of 256 code points beyond the BMP", described("\U0001f600" * 256))
    bad("a description of 257 letters", json.dumps(described("d" * 257)), ".action.description")
    bad(
        "a description of 257 code points beyond the BMP",
        json.dumps(described("\U0001f600" * 257)),
        ".action.description",
    )
    for name, shown, expected in texts_for_people():
        if shown and expected:
            good(f"a description with {name}", described(shown))
        else:
            bad(f"a description with {name}", json.dumps(described(shown)), ".action.description")
    for name, shown, expected in texts_for_people():
        for where, params in {"text": {"x": ["y", shown]}, "name": {"x": {shown: 1}}}.items():
            if expected or not shown:
                good(f"a {where} in params with {name}", with_params(params))
            else:
                bad(f"a {where} in params with {name}", json.dumps(with_params(params)), ".action.params")

    for half in ("\\ud800", "\\udbff", "\\udc00", "\\udfff", "\\ude00\\ud83d", "\\ud83dx"):
        bad(f"half a surrogate pair in a description, {half}", '{"type":"a","description":"' + half + '"}', "")
        bad(f"half a surrogate pair in params, {half}", spelled('{"x":"' + half + '"}'), "")
        bad(f"half a surrogate pair in params with -0, {half}", spelled('{"x":"-0' + half + '"}'), "")
        bad(f"half a surrogate pair in a member's name, {half}", spelled('{"' + half + '":1}'), "")
    bad("UTF-8 cut short in a description", b'{"type":"a","description":"\xc3"}', "")
    bad("an overlong NUL in a description", b'{"type":"a","description":"\xc0\x80"}', "")
    bad("a surrogate as UTF-8 in a description", b'{"type":"a","description":"\xed\xa0\x80"}', "")
    for name, raw in {
        "UTF-8 cut short": b"\xc3",
        "a lone continuation": b"\x80",
        "an overlong slash": b"\xc0\xaf",
        "a surrogate as UTF-8": b"\xed\xa0\x80",
        "a surrogate pair as UTF-8 (CESU-8)": b"\xed\xa0\xbd\xed\xb8\x80",
        "beyond U+10FFFF": b"\xf4\x90\x80\x80",
        "Latin-1": b"\xe9",
    }.items():
        for where in (b'{"x":"%s"}', b'{"x":"-0%s"}', b'{"%s":1}', b'{"-0%s":1}'):
            name_of = where.decode().replace("%s", "…")
            bad(f"{name} in params, {name_of}", spelled("@").encode().replace(b"@", where % raw), "")

    good("params that are null count as absent", described("d"), spelled("null"))
    good("params that are null with blanks around", described("d"), spelled("  null\n"))
    good("params without members", with_params({}))
    good("null, true and false in params", with_params({"a": None, "b": True, "c": False}))
    good("members in UTF-16 order", with_params({"\ufb33": 1, "\U0001f600": 2, "b": 3, "a": 4, "€": 5, "A": 6}))
    good("all that JCS escapes in a displayable text", with_params({"x": "".join(map(chr, range(0x20, 0x7F)))}))
    bad("a member of params twice", spelled('{"x":1,"x":2}'), "")
    bad("a member of params twice with the same value", spelled('{"x":1,"x":1}'), "")
    bad("a member twice, once as an escape", spelled('{"x":1,"\\u0078":2}'), "")
    bad("a member of a deeper object twice", spelled('{"x":{"y":2,"y":"z"}}'), "")
    good("the text -0 inside a string", with_params({"-0": "-0"}))
    good("a number that begins with -0 is none", with_params({"x": -10, "y": "a-0"}))
    for name, params in {
        "a list": "[]",
        "a string": '"x"',
        "a number": "1",
        "true": "true",
        "-0": "-0",
        "1.5": "1.5",
    }.items():
        bad(f"params that are {name}", spelled(params), ".action.params")

    for number in ("0", "1", "-1", "9007199254740991", "-9007199254740991"):
        good(f"the number {number}", with_params({"x": int(number)}))
    for number in (
        *(
            "-0",
            "1.0",
            "1e2",
            "1E2",
            "1e+2",
            "1e-2",
            "-0.0",
            "0.0",
            "0e0",
            "-0e0",
            "1.5",
            "9007199254740992",
            "-9007199254740992",
        ),
        *("9007199254740993", "18446744073709551616", "1e400", "-1e400", "1" + "0" * 400, "1" + "0" * 5000),
    ):
        short = number if len(number) < 30 else f"of {len(number)} digits"
        bad(f"the number {short}", spelled('{"x":' + number + "}"), ".action.params")
        bad(f"the number {short} in a list", spelled('{"x":["-0",[' + number + "]]}"), ".action.params")
    for word in (
        "NaN",
        "Infinity",
        "-Infinity",
        "01",
        "-01",
        "+1",
        ".5",
        "1.",
        "1e",
        "0x1",
        "1_0",
        "undefined",
        "True",
        "-",
    ):
        bad(f"the word {word} for a number", spelled('{"x":' + word + "}"), "")
        bad(f"the word {word} for a number beside -0", spelled('{"y":"-0","x":' + word + "}"), "")

    def nested(depth: int) -> Any:
        return {} if depth == 1 else {"a": nested(depth - 1)}

    def listed(depth: int) -> Any:
        return {"a": json.loads("[" * (depth - 1) + "]" * (depth - 1))}

    for depth in (15, 16):
        good(f"objects to depth {depth}", with_params(nested(depth)))
        good(f"lists to depth {depth}", with_params(listed(depth)))
    bad("objects to depth 17", json.dumps(with_params(nested(17))), ".action.params")
    bad("lists to depth 17", json.dumps(with_params(listed(17))), ".action.params")
    bad("lists to depth 17 beside -0", json.dumps(with_params(listed(17) | {"b": "-0"})), ".action.params")
    good("a string at depth 16", with_params(json.loads('{"a":' + "[" * 15 + '"x"' + "]" * 15 + "}")))

    free = 2048 - len(jcs(with_params({"x": ""})))
    good("2048 bytes", with_params({"x": "x" * free}))
    bad("2049 bytes", json.dumps(with_params({"x": "x" * (free + 1)})), ".action")
    good(
        "2048 bytes that white space makes more of",
        with_params({"x": "x" * free}),
        spelled(" " * 3000 + '{"x":"' + "x" * free + '"}'),
    )
    good(
        "2048 bytes that escapes make more of",
        with_params({"x": "x" * free}),
        spelled('{"x":"' + "\\u0078" * free + '"}'),
    )
    euros, rest = divmod(free, 3)
    good("2048 bytes in three-byte characters", with_params({"x": "€" * euros + "x" * rest}))
    bad(
        "2049 bytes in three-byte characters", json.dumps(with_params({"x": "€" * euros + "x" * (rest + 1)})), ".action"
    )
    quotes, rest = divmod(free, 2)
    good("2048 bytes in escaped quotes", with_params({"x": '"' * quotes + "x" * rest}))
    bad(
        "2049 bytes in escaped quotes",
        json.dumps(with_params({"x": '"' * quotes + "x" * (rest + 1)})),
        ".action",
    )

    bad("an unknown member", '{"type":"a","description":"d","user_id":"alice"}', ".action.user_id")
    bad("an unknown member that is null", '{"type":"a","description":"d","user_id":null}', ".action.user_id")
    bad("a member's name in another case", '{"type":"a","description":"d","Params":{}}', ".action.Params")
    for name, action in {"null": "null", "a list": "[]", "a string": '"a"', "a number": "1"}.items():
        bad(f"an action that is {name}", action, ".action")
    bad("params that end early", '{"type":"a","description":"d","params":{"x":1}', "")
    bad("a comma too many", spelled('{"x":1,}'), "")
    bad("a comment", spelled('{"x":1/**/}'), "")
    bad("single quotes", spelled("{'x':1}"), "")
    bad("a raw newline in a string", spelled('{"x":"\n"}'), "")
    bad("a raw zero byte in a string", spelled('{"x":"\0"}'), "")
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


# --- API keys ---

API_SECRET = bytes(range(32, 64))
KEY_ID = bytes(range(16))


def api_keys() -> list[Case]:
    def computed(prefix: str, key_id: bytes = KEY_ID, secret: bytes = API_SECRET) -> str:
        return prefix + key_id.hex() + hmac.digest(secret, prefix.encode() + key_id, "sha256")[:16].hex()

    live, test = computed("sgk_live_"), computed("sgk_test_")
    preset = "a-preset-key-of-32-characters-or-more"
    odd = "clé пароль 鍵 \U0001f511 with blanks \t and more"
    cases: list[Case] = []

    def case(name: str, header: str | None, owner: bytes | None, **ring: Any) -> None:
        expect = owner.hex() if owner else "UNAUTHORIZED"
        cases.append(
            {"name": name, "secret": API_SECRET.hex(), "ring": ring, "authorization": header, "expect": expect}
        )

    def preset_owner(key: str) -> bytes:
        return sha256(b"sigil-preset-key\0" + key.encode())[:16]

    case("a live key", f"Bearer {live}", KEY_ID)
    case("a test key", f"Bearer {test}", KEY_ID)
    case("the scheme in another case", f"bEARER {live}", KEY_ID)
    case("a live key where only live ones are good", f"Bearer {live}", KEY_ID, live_only=True)
    case("a test key where only live ones are good", f"Bearer {test}", None, live_only=True)
    case("a live key's bytes behind the test prefix", f"Bearer sgk_test_{live[9:]}", None)
    case("a test key's bytes behind the live prefix", f"Bearer sgk_live_{test[9:]}", None)
    case("a key of another server", f"Bearer {computed('sgk_live_', secret=bytes(32))}", None)
    case("another id with this key's tag", f"Bearer {live[:9]}{'f' * 32}{live[41:]}", None)
    for name, header in {
        "no header": None,
        "an empty header": "",
        "a blank": " ",
        "the scheme alone": "Bearer",
        "the scheme and a blank": "Bearer ",
        "the key alone": live,
        "Basic": f"Basic {live}",
        "Basic of its base64": "Basic " + b64(live.encode()),
        "Token": f"Token {live}",
        "two blanks": f"Bearer  {live}",
        "a tab": f"Bearer\t{live}",
        "a leading blank": f" Bearer {live}",
        "a trailing blank": f"Bearer {live} ",
        "a trailing tab": f"Bearer {live}\t",
        "a trailing newline": f"Bearer {live}\n",
        "a leading newline": f"Bearer \n{live}",
        "a trailing comma": f"Bearer {live},",
        "the key twice": f"Bearer {live} {live}",
        "the scheme twice": f"Bearer Bearer {live}",
        "quotes": f'Bearer "{live}"',
        "the key in upper case": f"Bearer {live.upper()}",
        "the hex in upper case": f"Bearer {live[:9]}{live[9:].upper()}",
        "the prefix in upper case": f"Bearer {live[:9].upper()}{live[9:]}",
        "one character short": f"Bearer {live[:-1]}",
        "one character long": f"Bearer {live}0",
        "no tag": f"Bearer {live[:41]}",
        "another prefix": f"Bearer sgk_prod_{live[9:]}",
        "no prefix": f"Bearer {live[9:]}",
        "full-width digits": f"Bearer {live.replace('0', '０')}",
        "Arabic digits": f"Bearer {live.replace('0', '٠')}",
        "a long key": "Bearer " + "a" * 5000,
        "a lone surrogate": "Bearer \ud800",
    }.items():
        case(name, header, None, preset=[preset])
    for length in (8, 9, 16, 31, 32):
        case(f"revoked by {length} hex", f"Bearer {live}", None, revoked=[KEY_ID.hex()[:length]])
    case("revoked among others", f"Bearer {test}", None, revoked=["f" * 8, KEY_ID.hex()])
    case("not revoked by another id", f"Bearer {live}", KEY_ID, revoked=["f" * 8, KEY_ID.hex()[:31] + "0"])
    case("not revoked by hex of its middle", f"Bearer {live}", KEY_ID, revoked=[KEY_ID.hex()[8:]])
    for name, key in {"plain": preset, "beyond ASCII and with blanks": odd, "of 32 letters": "x" * 32}.items():
        case(f"a preset key, {name}", f"Bearer {key}", preset_owner(key), preset=["y" * 32, key], live_only=True)
        case(f"a preset key, {name}, that is not set", f"Bearer {key}", None, preset=["y" * 32])
        case(f"a preset key, {name}, cut short", f"Bearer {key[:-1]}", None, preset=[key])
    case("a preset key in another case", f"Bearer {preset.upper()}", None, preset=[preset])
    case("a preset key with a blank behind", f"Bearer {preset} ", None, preset=[preset])
    case("a computed key that is also preset keeps its owner", f"Bearer {live}", KEY_ID, preset=[live])
    case(
        "a preset test key where only live ones are good",
        f"Bearer {test}",
        KEY_ID,
        preset=[test],
        live_only=True,
    )
    case(
        "a key that only looks computed, preset",
        f"Bearer sgk_live_{'0' * 64}",
        preset_owner(f"sgk_live_{'0' * 64}"),
        preset=[f"sgk_live_{'0' * 64}"],
    )
    foreign = computed("sgk_live_", secret=bytes(32))
    case("a preset key of another server", f"Bearer {foreign}", preset_owner(foreign), preset=[foreign])
    for name, key in {
        "of this server": live,
        "of another server": foreign,
        "in upper case": live.upper(),
        "with the hex in upper case": live[:9] + live[9:].upper(),
        "with more behind it": live + "-and-more",
        "without its tag": live[:41],
    }.items():
        for revoked in ([KEY_ID.hex()], [KEY_ID.hex()[:8]], ["ffffffff", KEY_ID.hex()[:31]]):
            case(
                f"a preset key {name}, revoked by {len(revoked[-1])} characters",
                f"Bearer {key}",
                None,
                preset=[preset, key],
                revoked=revoked,
            )
    case(
        "a preset key of this server with a revocation of another id",
        f"Bearer {live}",
        KEY_ID,
        preset=[live],
        revoked=["00010204", f"{KEY_ID.hex()[:31]}0"],
    )
    case("a computed key beside presets", f"Bearer {live}", KEY_ID, preset=[preset, odd])
    case("an empty preset key opens nothing", "Bearer ", None, preset=[""])
    return cases


# --- Identity: BIP-39, BIP-32, HKDF ---

WORDS = list(Mnemonic("english").wordlist)


def sentence(entropy: bytes) -> str:
    """BIP-39: the entropy and one bit of its SHA-256 for every four bytes, eleven bits a word."""
    checksum = len(entropy) * 8 // 32
    number = int.from_bytes(entropy, "big") << checksum | sha256(entropy)[0] >> (8 - checksum)
    count = (len(entropy) * 8 + checksum) // 11
    return " ".join(WORDS[number >> 11 * (count - 1 - i) & 2047] for i in range(count))


def bip32(seed: bytes, path: list[int]) -> bytes:
    digest = hmac.digest(b"Bitcoin seed", seed, "sha512")
    key, chain = int.from_bytes(digest[:32], "big"), digest[32:]
    for index in path:
        parent = bytes(1) + key.to_bytes(32, "big") if index >> 31 else SECP256K1.public(key)[2:]
        digest = hmac.digest(chain, parent + index.to_bytes(4, "big"), "sha512")
        key, chain = (int.from_bytes(digest[:32], "big") + key) % SECP256K1.n, digest[32:]
    return key.to_bytes(32, "big")


def hkdf(seed: bytes, label: bytes) -> bytes:
    """RFC 5869 with an empty salt, one block."""
    return hmac.digest(hmac.digest(bytes(32), seed, "sha256"), label + b"\1", "sha256")


def identity_of(words: str) -> Case:
    seed = hashlib.pbkdf2_hmac("sha512", words.encode(), b"mnemonic", 2048)
    hard = 1 << 31
    es256 = bip32(seed, [44 + hard, hard, hard, 0, 0])
    es256k = bip32(seed, [44 + hard, hard, 1 + hard, hard, hard])
    ed25519 = hkdf(seed, b"sigil/ed25519/v1")
    public = {
        "ES256": b64(P256.public(int.from_bytes(es256, "big"))),
        "ES256K": b64(SECP256K1.public(int.from_bytes(es256k, "big"))),
        "Ed25519": b64(ed_public(ed25519)),
    }
    message = b"SIGIL-SERVER-KEYS-V1\0" + jcs(public)
    return {
        "es256": es256.hex(),
        "es256k": es256k.hex(),
        "ed25519": ed25519.hex(),
        "api_key": hkdf(seed, b"sigil/api-key/v1").hex(),
        "enrolment": hkdf(seed, b"sigil/enrolment/v1").hex(),
        "attest_nonce": hkdf(seed, b"sigil/attest-nonce/v1").hex(),
        "backup_key": hkdf(seed, b"sigil/backup/v1").hex(),
        "server_id": sha256(base64.b64decode(public["ES256"])).hex(),
        "server_public_keys": public,
        "keys_signature": b64(rs(*P256.sign(int.from_bytes(es256, "big"), message))),
    }


def mnemonics() -> list[Case]:
    zoo, abandon, mixed = sentence(b"\xff" * 32), sentence(bytes(32)), sentence(sha256(b"a test entropy"))
    assert zoo.endswith("zoo vote")
    assert abandon.endswith("abandon art")
    cases: list[Case] = [
        {"name": name, "words": words, "expect": identity_of(words)}
        for name, words in {"all ones": zoo, "all zeros": abandon, "mixed": mixed}.items()
    ]
    expect = cases[-1]["expect"]
    wide = "".join(chr(ord(c) + 0xFEE0) if c != " " else "\u3000" for c in mixed)
    for name, words in {
        "in upper case": mixed.upper(),
        "in title case": mixed.title(),
        "with blanks, tabs and newlines around and between": "\t " + mixed.replace(" ", "  \r\n") + " \n",
        "with no-break spaces": mixed.replace(" ", "\u00a0"),
        "in full-width letters, which NFKD makes plain": wide,
        "with ligatures, which NFKD takes apart": mixed.replace("fi", "\ufb01").replace("fl", "\ufb02"),
    }.items():
        cases.append({"name": name, "words": words, "expect": expect})

    given = mixed.split()

    def bad(name: str, words: str, expect: str) -> None:
        cases.append({"name": name, "words": words, "expect": "INVALID_MNEMONIC", "says": expect})

    def misspelt(*positions: int, word: str = "xylography") -> str:
        return " ".join(word if at in positions else old for at, old in enumerate(given, 1))

    bad("no words", "", "has 0")
    bad("blanks", " \n\u3000", "has 0")
    bad("one word", "zoo", "has 1")
    bad("12 words with a good checksum", sentence(bytes(16)), "has 12")
    bad("18 words with a good checksum", sentence(bytes(24)), "has 18")
    bad("23 words", " ".join(given[:-1]), "has 23")
    bad("25 words", mixed + " zoo", "has 25")
    bad("48 words", mixed + " " + mixed, "has 48")
    last = next(word for word in WORDS if word != given[-1] and word[0] != given[-1][0])
    bad("the last word changed", " ".join([*given[:-1], last]), "checksum")
    bad("two words changed places", " ".join([given[1], given[0], *given[2:]]), "checksum")
    bad("the same word 24 times", "zoo " * 24, "checksum")
    bad("an unknown word", misspelt(7), "word 7")
    bad("unknown words at both ends", misspelt(1, 24), "word 1, 24")
    bad("a word in four letters", misspelt(3, word=given[2][:4] if given[2][:4] not in WORDS else "xylo"), "word 3")
    bad("a word with an accent", misspelt(5, word="zoó"), "word 5")
    bad("a French word", misspelt(2, word="abaisser"), "word 2")
    bad("commas between", mixed.replace(" ", ", "), "word 1, 2, 3")
    return cases


# BIP-32, test vectors 1 to 3, as published: seed, path and extended private key.
HARD = 1 << 31
BIP32 = {
    "000102030405060708090a0b0c0d0e0f": {
        "m": "xprv9s21ZrQH143K3QTDL4LXw2F7HEK3wJUD2nW2nRk4stbPy6cq3jPPqjiChkVvvNKmPGJxWUtg6LnF5kejMRNNU3TGtRBeJgk33yuGBxrMPHi",
        "m/0h": "xprv9uHRZZhk6KAJC1avXpDAp4MDc3sQKNxDiPvvkX8Br5ngLNv1TxvUxt4cV1rGL5hj6KCesnDYUhd7oWgT11eZG7XnxHrnYeSvkzY7d2bhkJ7",
        "m/0h/1": "xprv9wTYmMFdV23N2TdNG573QoEsfRrWKQgWeibmLntzniatZvR9BmLnvSxqu53Kw1UmYPxLgboyZQaXwTCg8MSY3H2EU4pWcQDnRnrVA1xe8fs",
        "m/0h/1/2h": "xprv9z4pot5VBttmtdRTWfWQmoH1taj2axGVzFqSb8C9xaxKymcFzXBDptWmT7FwuEzG3ryjH4ktypQSAewRiNMjANTtpgP4mLTj34bhnZX7UiM",
        "m/0h/1/2h/2": "xprvA2JDeKCSNNZky6uBCviVfJSKyQ1mDYahRjijr5idH2WwLsEd4Hsb2Tyh8RfQMuPh7f7RtyzTtdrbdqqsunu5Mm3wDvUAKRHSC34sJ7in334",
        "m/0h/1/2h/2/1000000000": "xprvA41z7zogVVwxVSgdKUHDy1SKmdb533PjDz7J6N6mV6uS3ze1ai8FHa8kmHScGpWmj4WggLyQjgPie1rFSruoUihUZREPSL39UNdE3BBDu76",
    },
    "fffcf9f6f3f0edeae7e4e1dedbd8d5d2cfccc9c6c3c0bdbab7b4b1aeaba8a5a29f9c999693908d8a8784817e7b7875726f6c696663605d5a5754514e4b484542": {
        "m": "xprv9s21ZrQH143K31xYSDQpPDxsXRTUcvj2iNHm5NUtrGiGG5e2DtALGdso3pGz6ssrdK4PFmM8NSpSBHNqPqm55Qn3LqFtT2emdEXVYsCzC2U",
        "m/0": "xprv9vHkqa6EV4sPZHYqZznhT2NPtPCjKuDKGY38FBWLvgaDx45zo9WQRUT3dKYnjwih2yJD9mkrocEZXo1ex8G81dwSM1fwqWpWkeS3v86pgKt",
        "m/0/2147483647h": "xprv9wSp6B7kry3Vj9m1zSnLvN3xH8RdsPP1Mh7fAaR7aRLcQMKTR2vidYEeEg2mUCTAwCd6vnxVrcjfy2kRgVsFawNzmjuHc2YmYRmagcEPdU9",
        "m/0/2147483647h/1": "xprv9zFnWC6h2cLgpmSA46vutJzBcfJ8yaJGg8cX1e5StJh45BBciYTRXSd25UEPVuesF9yog62tGAQtHjXajPPdbRCHuWS6T8XA2ECKADdw4Ef",
        "m/0/2147483647h/1/2147483646h": "xprvA1RpRA33e1JQ7ifknakTFpgNXPmW2YvmhqLQYMmrj4xJXXWYpDPS3xz7iAxn8L39njGVyuoseXzU6rcxFLJ8HFsTjSyQbLYnMpCqE2VbFWc",
        "m/0/2147483647h/1/2147483646h/2": "xprvA2nrNbFZABcdryreWet9Ea4LvTJcGsqrMzxHx98MMrotbir7yrKCEXw7nadnHM8Dq38EGfSh6dqA9QWTyefMLEcBYJUuekgW4BYPJcr9E7j",
    },
    "4b381541583be4423346c643850da4b320e46a87ae3d2a4e6da11eba819cd4acba45d239319ac14f863b8d5ab5a0d0c64d2e8a1e7d1457df2e5a3c51c73235be": {
        "m": "xprv9s21ZrQH143K25QhxbucbDDuQ4naNntJRi4KUfWT7xo4EKsHt2QJDu7KXp1A3u7Bi1j8ph3EGsZ9Xvz9dGuVrtHHs7pXeTzjuxBrCmmhgC6",
        "m/0h": "xprv9uPDJpEQgRQfDcW7BkF7eTya6RPxXeJCqCJGHuCJ4GiRVLzkTXBAJMu2qaMWPrS7AANYqdq6vcBcBUdJCVVFceUvJFjaPdGZ2y9WACViL4L",
    },
}


def private_key_of(extended: str) -> str:
    """The key inside Base58Check; its checksum shows that the text above is as published."""
    number = 0
    for character in extended:
        number = number * 58 + "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz".index(character)
    data = number.to_bytes(82, "big")
    assert sha256(sha256(data[:-4]))[:4] == data[-4:], extended
    return data[46:78].hex()


def bip32_children() -> list[Case]:
    cases: list[Case] = []
    for number, (seed, children) in enumerate(BIP32.items(), 1):
        for path, extended in children.items():
            steps = [int(step.rstrip("h")) + (HARD if step.endswith("h") else 0) for step in path.split("/")[1:]]
            key = private_key_of(extended)
            assert bip32(bytes.fromhex(seed), steps).hex() == key
            cases.append({"name": f"vector {number}, {path}", "seed": seed, "path": steps, "expect": key})
    return cases


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


FILES: dict[str, tuple[str, Callable[[], list[Case]]]] = {
    "keys.json": ("Public keys as on the wire, hex; expect is their suite or the failure.", keys),
    "signatures.json": ("Whether the signature is the key's over the message, all hex.", signatures),
    "signed_bytes.json": ("The signed bytes of every use, and their signatures by three test keys.", signed),
    "bindings.json": ("challenge_bytes of what a challenge is bound to.", bindings),
    "votes.json": ("Statuses of multi-party requests; expect is what their votes prove, or the failure.", votes),
    "spellings.json": ("base64, hex and times; expect is the value or the failure.", spellings),
    "origins.json": ("Addresses; server and relay are the canonical origin, null where it must be rejected.", origins),
    "traceparents.json": (
        "Values of traceparent; expect is the form of version 00 with the known flags, null where it is ignored.",
        traceparents,
    ),
    "actions.json": ("The action member of a request; expect is its JCS or the failure and its path.", actions),
    "messages.json": ("Bodies of requests; expect is what they say or the failure and its path.", messages),
    "api_keys.json": ("Authorization headers; expect is the owner, hex, or the failure.", api_keys),
    "mnemonics.json": ("Words; expect is the identity or the failure, and what its message says.", mnemonics),
    "bip32.json": ("Child private keys of the published BIP-32 test vectors 1 to 3.", bip32_children),
}


def main(folder: Path) -> None:
    # Python refuses to print huge integers otherwise; one case is such a number.
    sys.set_int_max_str_digits(0)
    for file, (note, build) in FILES.items():
        cases = build()
        assert len({case["name"] for case in cases}) == len(cases), f"{file}: two cases of one name"
        lines = ",\n".join("  " + json.dumps(case) for case in cases)
        text = f'{{\n "note": {json.dumps(note)},\n "cases": [\n{lines}\n ]\n}}\n'
        (folder / file).write_text(text, encoding="ascii", newline="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
