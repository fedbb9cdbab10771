// What passed every check of a device, and the bytes that a decision on it signs. Only an object that `challenge.js` or
// `approval.js` made can be signed, and the bytes are made again from what the object shows.

import { equal } from "./encoding/bytes.js";
import { jcs } from "./encoding/jcs.js";
import { formatTime } from "./encoding/time.js";
import { Refused } from "./refused.js";
import * as signedBytes from "./signed_bytes.js";

/** How many seconds after its expiry a challenge is still shown: the server decides by its own clock. */
export const CLOCK_ALLOWANCE_SECONDS = 60;

/**
 * A challenge or an approval request that passed every check. It is frozen.
 * @typedef {Object} Checked
 * @property {"challenge" | "approval"} type
 * @property {string} id the challenge_id or mpa_id
 * @property {string} action the action's type
 * @property {string} description
 * @property {Array<[string, Value]> | null} params in the signed order; null without params
 * @property {number} expiresAt milliseconds since 1970, by the server's clock
 * @property {boolean} numberMatching whether approving needs the two digits that the service shows
 * @property {number | null} required approval: how many groups must approve; null for a challenge
 * @property {"continue" | "reject_on_first" | null} rejectPolicy approval: reject_on_first: one rejection ends the
 *   request
 * @property {string | null} requestId approval: the requester's name of it
 */
/** @typedef {string | number | boolean | null | Value[] | Map<string, Value>} Value a list is an Array, an object a Map */

/** The members that are signed and not shown, by object; and the bytes that the server signed. */
const hidden = new WeakMap();

/** @returns {Checked} */
export function checkedChallenge(action, { id, expiresAt, numberMatching }, bound, serverSigned) {
  const members = { type: "challenge", id, expiresAt: expiresAt * 1000, numberMatching };
  const checked = frozen({ ...members, required: null, rejectPolicy: null, requestId: null }, action);
  hidden.set(checked, { bound, serverSigned });
  return checked;
}

/** @param {Map<string, *>} context @returns {Checked} */
export function checkedApproval(action, context, expiresAt, serverSigned) {
  const members = {
    type: "approval",
    id: context.get("mpa_id"),
    expiresAt: expiresAt * 1000,
    numberMatching: false,
    required: context.get("required"),
    rejectPolicy: context.get("reject_policy"),
    requestId: context.get("request_id"),
  };
  const checked = frozen(members, action);
  hidden.set(checked, { context, serverSigned });
  return checked;
}

function frozen(members, { type, description, params }) {
  const pairs = params && Object.freeze([...params].map((pair) => Object.freeze(pair)));
  return Object.freeze({ ...members, action: type, description, params: pairs });
}

/**
 * The bytes of a decision, made from what is shown.
 * @param {Checked} checked
 * @param {"approved" | "rejected"} decision
 * @param {string} [matchCode] two digits, for an approval with number matching
 * @returns {Uint8Array} throws Refused "NOT_CHECKED", "SHOWN_CHANGED", "MATCH_CODE_REQUIRED", "MATCH_CODE_UNEXPECTED"
 */
export function messageOf(checked, decision, matchCode) {
  const rest = hidden.get(checked);
  if (!rest) throw new Refused("NOT_CHECKED");
  const isApproved = decision === "approved";
  if (isApproved) checkCode(checked.numberMatching, matchCode);
  if (checked.type === "approval") {
    const context = contextOf(checked, rest.context);
    requireSame(signedBytes.mpaApproval(context), rest.serverSigned);
    return isApproved ? signedBytes.mpaApproval(context) : signedBytes.mpaRejection(context);
  }
  const action = jcs(actionOf(checked));
  const { id, numberMatching } = checked;
  const challenge = signedBytes.challengeBytes({
    ...rest.bound,
    challengeId: id,
    expiresAt: checked.expiresAt / 1000,
    numberMatching,
  });
  requireSame(signedBytes.approval(challenge, action), rest.serverSigned);
  if (!isApproved) return signedBytes.rejection(challenge, action);
  return numberMatching
    ? signedBytes.matchedApproval(challenge, action, matchCode)
    : signedBytes.approval(challenge, action);
}

function checkCode(numberMatching, matchCode) {
  if (numberMatching && !/^[0-9]{2}$/.test(matchCode ?? "")) throw new Refused("MATCH_CODE_REQUIRED");
  if (!numberMatching && matchCode !== undefined) throw new Refused("MATCH_CODE_UNEXPECTED");
}

/** Refused "CHALLENGE_EXPIRED". @param {number} now Unix seconds */
export function checkExpiry(expiresAt, now) {
  if (now >= expiresAt + CLOCK_ALLOWANCE_SECONDS) throw new Refused("CHALLENGE_EXPIRED");
}

function requireSame(made, serverSigned) {
  // A Map inside params can be changed by a script; the server did not sign that.
  if (!equal(made, serverSigned)) throw new Refused("SHOWN_CHANGED");
}

function actionOf({ action, description, params }) {
  const members = new Map([["type", action], ["description", description]]);
  if (params) members.set("params", new Map(params));
  return members;
}

function contextOf(checked, context) {
  return jcs(
    new Map([
      ...context,
      ...actionOf(checked),
      ["mpa_id", checked.id],
      ["request_id", checked.requestId],
      ["required", checked.required],
      ["reject_policy", checked.rejectPolicy],
      ["expires_at", formatTime(checked.expiresAt / 1000)],
    ]),
  );
}
