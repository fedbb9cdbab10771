// Public keys as on the wire (docs/protocol.md, 2.1 and 2.2).

import { hex } from "../encoding/bytes.js";
import { sha256 } from "../encoding/sha256.js";
import { decompress, isInRange } from "./p256.js";

const ES256 = { name: "ECDSA", namedCurve: "P-256" };
const SHA_256 = { name: "ECDSA", hash: "SHA-256" };

/** @param {Uint8Array} wire @returns {string} 64 hex characters */
export function fingerprint(wire) {
  return hex(sha256(wire));
}

/** An ES256 key. `verify` accepts both halves of s. */
export class Es256Key {
  #point;
  #loaded = null;

  constructor(wire, point) {
    this.wire = wire;
    this.fingerprint = fingerprint(wire);
    this.#point = point;
    Object.freeze(this);
  }

  /** @param {Uint8Array} wire 33 bytes @returns {Es256Key | null} */
  static parse(wire) {
    const point = decompress(wire);
    return point && new Es256Key(wire.slice(), point);
  }

  /**
   * @param {Uint8Array} message tag ‖ message
   * @param {Uint8Array} signature r‖s
   * @returns {Promise<boolean>}
   */
  async verify(message, signature) {
    if (!isInRange(signature)) return false;
    this.#loaded ??= crypto.subtle.importKey("raw", this.#point, ES256, false, ["verify"]);
    return crypto.subtle.verify(SHA_256, await this.#loaded, signature, message);
  }
}
