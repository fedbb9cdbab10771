// The WebAuthn form of a key and of its signatures (docs/protocol.md, 2.1).

import { concat, utf8 } from "../encoding/bytes.js";
import { sha256 } from "../encoding/sha256.js";
import { rawSignature } from "./p256.js";

const PREFIX = Uint8Array.of(0x81, 0x80, 0xc0, 0x01);
export const MAX_SIGNATURE = 1024;

/**
 * @param {Uint8Array} assertionPoint 33 bytes, SEC1 compressed: the WebAuthn key
 * @param {Uint8Array} localPoint 33 bytes: the WebCrypto key
 * @param {string} origin `location.origin`
 * @returns {Uint8Array} 102 bytes
 */
export function webKeyWire(assertionPoint, localPoint, origin) {
  if (assertionPoint.length !== 33 || localPoint.length !== 33) throw new RangeError("a point has 33 bytes");
  return concat(PREFIX, assertionPoint, localPoint, sha256(utf8(origin)));
}

/** What both halves sign: without the key, one gesture would be the vote of two keys that share a half. */
export function signedByHalves(message, wire) {
  return concat(message, sha256(wire));
}

/**
 * The signature of both halves.
 * @param {Uint8Array} local r‖s of the local key
 * @param {{ signature: Uint8Array, authenticatorData: Uint8Array, clientDataJSON: Uint8Array }} assertion as WebAuthn
 *   returns it, its signature in DER
 * @returns {Uint8Array | null} null for an assertion that no server would accept: not ES256 in DER, or too large
 */
export function webSignature(local, { signature, authenticatorData, clientDataJSON }) {
  const raw = rawSignature(signature);
  if (!raw || local.length !== 64 || authenticatorData.length > 0xffff) return null;
  const length = Uint8Array.of(authenticatorData.length >> 8, authenticatorData.length & 0xff);
  const whole = concat(local, raw, length, authenticatorData, clientDataJSON);
  return whole.length <= MAX_SIGNATURE ? whole : null;
}
