// The checks of a device before it shows an approval request (docs/protocol.md, 5.3), in the order of
// sigil/device/approval_checks.py.

import { parseAction } from "./action.js";
import { checkRespondTo, checkSignature, MALFORMED } from "./challenge.js";
import { fromBase64, fromHex } from "./encoding/bytes.js";
import { isUuid } from "./encoding/ids.js";
import { jcs, NotCanonical } from "./encoding/jcs.js";
import { membersOf, parsed, required } from "./encoding/members.js";
import { parseTime } from "./encoding/time.js";
import { Refused } from "./refused.js";
import { checkedApproval, checkExpiry } from "./shown.js";
import * as signedBytes from "./signed_bytes.js";

const MISMATCH = "CONTEXT_MISMATCH";
const TYPES = {
  type: "string",
  mpa_id: "string",
  server_id: "string",
  server_signature: "string",
  expires_at: "string",
  respond_to: "string?",
};
const CONTEXT_TYPES = {
  type: "string",
  description: "string",
  params: "object?",
  mpa_id: "string",
  request_id: "string",
  nonce: "string",
  server_id: "string",
  expires_at: "string",
  respond_to: "string",
  required: "integer",
  reject_policy: "string",
  groups_sha256: "string",
};
const ACTION = new Set(["type", "description", "params"]);

/**
 * The request of a payload, if the pinned server signed exactly this; Refused.
 *
 * @param {string} text the payload as received
 * @param {import("./server_pin.js").Pin} pin
 * @param {number} now Unix seconds
 * @returns {Promise<import("./shown.js").Checked>}
 */
export async function verifyApproval(text, pin, now) {
  const texts = new WeakMap();
  const json = parsed(text, MALFORMED, texts);
  const payload = membersOf(json, TYPES, MALFORMED);
  const { expiresAt, signature } = decoded(payload);
  if (!json.has("action_context")) throw new Refused(MALFORMED, "action_context is missing");
  if (payload.server_id !== pin.serverId) throw new Refused("SERVER_NOT_PINNED");
  const contextText = texts.get(json).get("action_context");
  const context = parseContext(json.get("action_context"), contextText);
  const action = parseAction(jcs(new Map([...context].filter(([name]) => ACTION.has(name)))));
  checkUnsignedMembers(payload, context);
  const message = signedBytes.mpaApproval(contextText);
  await checkSignature(message, signature, pin);
  checkRespondTo(payload.respond_to, pin);
  checkExpiry(expiresAt, now);
  return checkedApproval(action, context, expiresAt, message);
}

function decoded(payload) {
  if (payload.type !== "mpa") throw new Refused(MALFORMED, "type is not mpa");
  if (!isUuid(payload.mpa_id)) throw new Refused(MALFORMED, "mpa_id is no UUID");
  required(fromHex(payload.server_id, 32), MALFORMED, "server_id is malformed");
  return {
    expiresAt: required(parseTime(payload.expires_at), MALFORMED, "expires_at is malformed"),
    signature: required(fromBase64(payload.server_signature, 64), MALFORMED, "server_signature is malformed"),
  };
}

/** The signed context, which is sent as canonical JSON, as an action is. */
function parseContext(context, text) {
  const { reject_policy: policy } = membersOf(context, CONTEXT_TYPES, MALFORMED);
  if (policy !== "continue" && policy !== "reject_on_first") throw new Refused(MALFORMED, "reject_policy is unknown");
  if (canonical(context) !== text) throw new Refused(MISMATCH, "the context is not sent as canonical JSON");
  if ([...context.keys()].some((name) => !(name in CONTEXT_TYPES))) throw new Refused(MISMATCH, "an unknown member");
  return context;
}

function canonical(context) {
  try {
    return jcs(context);
  } catch (error) {
    if (error instanceof NotCanonical) throw new Refused(MISMATCH, error.message);
    throw error;
  }
}

/** Members outside the signed context must equal those in it. */
function checkUnsignedMembers(payload, context) {
  const unsigned = { ...payload, respond_to: payload.respond_to ?? "" };
  for (const name of ["mpa_id", "server_id", "expires_at", "respond_to"]) {
    if (unsigned[name] !== context.get(name)) throw new Refused(MISMATCH, `${name} differs`);
  }
}
