// The compared code of an enrolment (docs/protocol.md, 5.5). The server committed to its nonce before it saw the key,
// so neither side can choose its part after it knows the other's.

import { equal, fromBase64, hex } from "../encoding/bytes.js";
import { pictogram } from "../pictogram.js";
import { Refused } from "../refused.js";
import * as signedBytes from "../signed_bytes.js";

const DIGITS = 6;

/**
 * @param {Uint8Array} digest of `enrolmentDigest`
 * @param {string} sasNonce in base64, as the server revealed it
 * @param {Uint8Array} commitment of the offer
 * @returns {{ code: string, pictogram: string[] }} throws Refused "COMMITMENT_BROKEN"
 */
export function session(digest, sasNonce, commitment) {
  const nonce = fromBase64(sasNonce, 32);
  if (!nonce || !equal(signedBytes.enrolmentCommitment(nonce), commitment)) throw new Refused("COMMITMENT_BROKEN");
  const sas = signedBytes.enrolmentSas(digest, nonce);
  const number = new DataView(sas.buffer).getBigUint64(0) % 10n ** BigInt(DIGITS);
  return { code: String(number).padStart(DIGITS, "0"), pictogram: pictogram(hex(sas.subarray(8, 12))) };
}
