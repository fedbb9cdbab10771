// The checks of a device before it shows a challenge (docs/protocol.md, 1, 2.4 and 5.2), in the order of
// sigil/device/challenge_checks.py.

import { parseAction } from "./action.js";
import { equal, fromBase64, fromHex } from "./encoding/bytes.js";
import { isUuid } from "./encoding/ids.js";
import { membersOf, parsed, required } from "./encoding/members.js";
import { parseTime } from "./encoding/time.js";
import { originOfUrl } from "./origin.js";
import { Refused } from "./refused.js";
import { checkedChallenge, checkExpiry } from "./shown.js";
import * as signedBytes from "./signed_bytes.js";

export const MALFORMED = "PAYLOAD_MALFORMED";
const TYPES = {
  type: "string",
  challenge_id: "string",
  server_id: "string",
  challenge_bytes: "string",
  nonce: "string",
  fingerprint: "string",
  server_signature: "string",
  expires_at: "string",
  number_matching: "boolean",
  respond_to: "string?",
};

/**
 * The challenge of a payload, if the pinned server signed exactly this for exactly this device; Refused.
 *
 * @param {string} text the payload as received
 * @param {import("./server_pin.js").Pin} pin
 * @param {string} device the fingerprint of this device
 * @param {number} now Unix seconds
 * @returns {Promise<import("./shown.js").Checked>}
 */
export async function verifyChallenge(text, pin, device, now) {
  const texts = new WeakMap();
  const json = parsed(text, MALFORMED, texts);
  const payload = membersOf(json, TYPES, MALFORMED);
  const { expiresAt, nonce, challenge, signature } = decoded(payload);
  if (!json.has("action")) throw new Refused(MALFORMED, "action is missing");
  if (payload.server_id !== pin.serverId) throw new Refused("SERVER_NOT_PINNED");
  if (payload.fingerprint !== device) throw new Refused("NOT_THIS_DEVICE");
  const rest = { fingerprint: device, nonce, respondTo: payload.respond_to ?? "", serverId: pin.serverId };
  const shown = { id: payload.challenge_id, expiresAt, numberMatching: payload.number_matching };
  const bound = { ...rest, challengeId: shown.id, expiresAt, numberMatching: shown.numberMatching };
  if (!equal(signedBytes.challengeBytes(bound), challenge)) throw new Refused("CHALLENGE_BYTES_MISMATCH");
  const actionText = texts.get(json).get("action");
  const action = parseAction(actionText);
  const message = signedBytes.approval(challenge, actionText);
  await checkSignature(message, signature, pin);
  checkRespondTo(payload.respond_to, pin);
  checkExpiry(expiresAt, now);
  return checkedChallenge(action, shown, rest, message);
}

function decoded(payload) {
  if (payload.type !== "challenge") throw new Refused(MALFORMED, "type is not challenge");
  if (!isUuid(payload.challenge_id)) throw new Refused(MALFORMED, "challenge_id is no UUID");
  required(fromHex(payload.server_id, 32), MALFORMED, "server_id is malformed");
  required(fromHex(payload.fingerprint, 32), MALFORMED, "fingerprint is malformed");
  return {
    expiresAt: required(parseTime(payload.expires_at), MALFORMED, "expires_at is malformed"),
    nonce: required(fromBase64(payload.nonce, 32), MALFORMED, "nonce is malformed"),
    challenge: required(fromBase64(payload.challenge_bytes, 32), MALFORMED, "challenge_bytes is malformed"),
    signature: required(fromBase64(payload.server_signature, 64), MALFORMED, "server_signature is malformed"),
  };
}

/** Refused "SERVER_SIGNATURE_INVALID". */
export async function checkSignature(message, signature, pin) {
  if (!(await pin.key.verify(message, signature))) throw new Refused("SERVER_SIGNATURE_INVALID");
}

/** Even a signed respond_to: a server that directs answers elsewhere is misconfigured or compromised. */
export function checkRespondTo(respondTo, pin) {
  if (respondTo && originOfUrl(respondTo) !== pin.baseUrl) throw new Refused("RESPOND_TO_FOREIGN");
}
