// The curve P-256 (FIPS 186-4, D.1.2.3), as far as WebCrypto lacks it: compressed points and DER. Public data alone.

import { concat } from "../encoding/bytes.js";

const P = 2n ** 256n - 2n ** 224n + 2n ** 192n + 2n ** 96n - 1n;
const B = 0x5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604bn;
const N = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;

function number(bytes) {
  return bytes.reduce((value, byte) => (value << 8n) | BigInt(byte), 0n);
}

function bytes32(value) {
  return Uint8Array.from({ length: 32 }, (_, at) => Number((value >> BigInt(8 * (31 - at))) & 0xffn));
}

function power(base, exponent) {
  let result = 1n;
  for (let factor = base; exponent > 0n; exponent >>= 1n) {
    if (exponent & 1n) result = (result * factor) % P;
    factor = (factor * factor) % P;
  }
  return result;
}

/**
 * @param {Uint8Array} point 33 bytes, SEC1 compressed
 * @returns {Uint8Array | null} 65 bytes, SEC1 uncompressed; null for every point that is not on the curve
 */
export function decompress(point) {
  if (point.length !== 33 || (point[0] !== 2 && point[0] !== 3)) return null;
  const x = number(point.subarray(1));
  if (x >= P) return null;
  const square = (((x * x - 3n) % P + P) * x + B) % P;
  // p = 3 modulo 4 (SEC 1, 2.3.4).
  let y = power(square, (P + 1n) / 4n);
  if ((y * y) % P !== square) return null;
  if (Number(y & 1n) !== (point[0] & 1)) y = P - y;
  return concat(Uint8Array.of(4), bytes32(x), bytes32(y));
}

/** @param {Uint8Array} point 65 bytes, SEC1 uncompressed, of a key that WebCrypto made or the browser parsed */
export function compress(point) {
  if (point.length !== 65 || point[0] !== 4) throw new RangeError("not an uncompressed point of P-256");
  return concat(Uint8Array.of(2 + (point[64] & 1)), point.subarray(1, 33));
}

/** Whether r and s of a 64-byte signature are in 1..n-1 (docs/protocol.md, 2.1). */
export function isInRange(signature) {
  if (signature.length !== 64) return false;
  const [r, s] = [number(signature.subarray(0, 32)), number(signature.subarray(32))];
  return r > 0n && r < N && s > 0n && s < N;
}

/**
 * r‖s of an ECDSA signature in DER (RFC 3279, 2.2.3), as an authenticator returns it.
 * @param {Uint8Array} der
 * @returns {Uint8Array | null} 64 bytes; null for every encoding but the one of DER, and for values out of range
 */
export function rawSignature(der) {
  if (der.length < 8 || der.length > 72 || der[0] !== 0x30 || der[1] !== der.length - 2) return null;
  const r = integer(der, 2);
  const s = r && integer(der, r.end);
  if (!s || s.end !== der.length) return null;
  const signature = concat(r.bytes, s.bytes);
  return isInRange(signature) ? signature : null;
}

/** A positive INTEGER of at most 32 bytes in its shortest form, padded to 32. */
function integer(der, at) {
  const length = der[at + 1];
  const end = at + 2 + length;
  if (der[at] !== 0x02 || !(length >= 1 && length <= 33) || end > der.length) return null;
  const content = der.subarray(at + 2, end);
  if (content[0] & 0x80) return null;
  const isPadded = content[0] === 0 && length > 1;
  if (isPadded && !(content[1] & 0x80)) return null;
  const value = isPadded ? content.subarray(1) : content;
  if (value.length > 32) return null;
  return { bytes: concat(new Uint8Array(32 - value.length), value), end };
}
