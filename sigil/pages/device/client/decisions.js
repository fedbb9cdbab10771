// The answers of this device. Only an object that `fetchPending` checked can be signed, and only the bytes made from
// what it shows.

import { base64 } from "../core/encoding/bytes.js";
import { fingerprint } from "../core/keys/public_key.js";
import { checkExpiry, messageOf } from "../core/shown.js";
import { signLocally, signWithVerification } from "./authenticator.js";
import { Offline, Problem } from "./errors.js";

const MAX_WRONG_CODES = 3;
const MAX_COUNTED = 64;
/** How often a person typed a wrong code, by challenge: the server counts too, and does not report the number. */
const wrongCodes = new Map();

/**
 * Approves. Call it inside the click, with nothing awaited before: `navigator.credentials.get` runs at once.
 * @param {import("./server.js").Server} server
 * @param {Object} record
 * @param {import("../core/shown.js").Checked} checked
 * @param {{ matchCode?: string, signal?: AbortSignal }} [options] matchCode: two digits, exactly where
 *   `checked.numberMatching`; signal: closes the prompt
 * @returns {Promise<{ status: string, groupsSatisfied?: number, groupsRequired?: number, quorumReached?: boolean }>}
 *   status: challenge "verified"; approval "recorded", "approved" or "already_satisfied". Throws
 *   AuthenticatorFailed, Refused ("CHALLENGE_EXPIRED", "MATCH_CODE_REQUIRED", "SHOWN_CHANGED"), Problem, Offline with
 *   `resend`. A wrong code is Problem "MATCH_CODE_WRONG" with details.triesLeft
 */
export function approve(server, record, checked, { matchCode, signal } = {}) {
  let signature;
  try {
    checkExpiry(checked.expiresAt / 1000, server.now() / 1000);
    signature = signWithVerification(record, messageOf(checked, "approved", matchCode), record.baseUrl, signal);
  } catch (error) {
    return Promise.reject(error);
  }
  const code = matchCode === undefined ? {} : { match_code: matchCode };
  return sent(server, record, checked, signature, { decision: "approved", ...code });
}

/**
 * Rejects, without a prompt.
 * @param {import("./server.js").Server} server
 * @param {Object} record
 * @param {import("../core/shown.js").Checked} checked
 * @param {"cancelled" | "unknown_trigger"} [reason]
 * @returns {Promise<{ status: string, groupsSatisfied?: number, groupsRequired?: number, quorumReached?: boolean }>}
 *   status: "rejected"; of an approval also "recorded" and "already_satisfied". Throws as `approve`, without a prompt
 */
export async function reject(server, record, checked, reason) {
  checkExpiry(checked.expiresAt / 1000, server.now() / 1000);
  const signature = signLocally(record, messageOf(checked, "rejected"));
  return sent(server, record, checked, signature, { decision: "rejected", ...(reason && { reason }) });
}

async function sent(server, record, checked, signature, members) {
  const id = checked.type === "challenge" ? "challenge_id" : "mpa_id";
  const proof = { fingerprint: fingerprint(record.wire), signature: base64(await signature) };
  const body = { [id]: checked.id, ...proof, ...members };
  // Always to this page's server: respond_to was compared with it and is not used.
  const send = () => (checked.type === "challenge" ? server.respond(body) : server.respondMpa(body));
  return attempt(send, checked.id, members.match_code);
}

async function attempt(send, id, matchCode) {
  try {
    return await send();
  } catch (error) {
    if (error instanceof Offline) throw new Offline(error.reason, () => attempt(send, id, matchCode));
    // This device signed the approval, so this error means the code. A proxy's own 401 has another one.
    if (matchCode && error instanceof Problem && error.code === "INVALID_SIGNATURE") throw wrongCode(id);
    throw error;
  }
}

function wrongCode(id) {
  const count = (wrongCodes.get(id) ?? 0) + 1;
  wrongCodes.delete(id);
  wrongCodes.set(id, count);
  if (wrongCodes.size > MAX_COUNTED) wrongCodes.delete(wrongCodes.keys().next().value);
  return new Problem(401, "MATCH_CODE_WRONG", { details: { triesLeft: Math.max(0, MAX_WRONG_CODES - count) } });
}
