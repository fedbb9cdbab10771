// Bytes and their one accepted spelling as text (docs/protocol.md, introduction). A decoder returns null for any other.

const ENCODER = new TextEncoder();

/** UTF-8. A lone surrogate has none: it throws, where TextEncoder would write U+FFFD. */
export function utf8(text) {
  if (!text.isWellFormed()) throw new RangeError("the text contains half of a surrogate pair");
  return ENCODER.encode(text);
}

export function concat(...parts) {
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

export function equal(one, other) {
  return one.length === other.length && one.every((byte, at) => byte === other[at]);
}

export function hex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** @returns {Uint8Array | null} exactly `length` bytes of lower-case hex */
export function fromHex(text, length) {
  if (text.length !== 2 * length || !/^[0-9a-f]*$/.test(text)) return null;
  return Uint8Array.from({ length }, (_, at) => Number.parseInt(text.slice(2 * at, 2 * at + 2), 16));
}

export function base64(bytes) {
  let binary = "";
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary);
}

/** @returns {Uint8Array | null} standard alphabet, padded, zero trailing bits; of `length` bytes if that is given */
export function fromBase64(text, length) {
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(text) || text.length % 4) return null;
  let bytes;
  try {
    bytes = Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
  } catch {
    return null;
  }
  // atob ignores non-zero trailing bits, which would give one value several spellings.
  if (base64(bytes) !== text) return null;
  return length === undefined || bytes.length === length ? bytes : null;
}

export function base64url(bytes) {
  return base64(bytes).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/** @returns {Uint8Array | null} unpadded base64url with zero trailing bits */
export function fromBase64url(text) {
  if (!/^[A-Za-z0-9_-]*$/.test(text) || text.length % 4 === 1) return null;
  const padded = text.replaceAll("-", "+").replaceAll("_", "/") + "=".repeat(-text.length & 3);
  return fromBase64(padded);
}
