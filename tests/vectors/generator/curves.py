"""ECDSA and Ed25519 with plain integers, and the test keys."""

from __future__ import annotations

import hashlib
import hmac
from functools import cache
from typing import NamedTuple

from . import Point, sha256

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
