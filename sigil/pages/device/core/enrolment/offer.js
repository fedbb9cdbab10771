// The offer of an enrolment: what the server signs, and this device consents to (docs/protocol.md, 5.5), in the order
// of sigil/device/enrolment/steps.py.

import { characters, isDisplayable } from "../display_text.js";
import { fromBase64, fromHex, hex } from "../encoding/bytes.js";
import { isUuid } from "../encoding/ids.js";
import { jcs, NotCanonical } from "../encoding/jcs.js";
import { membersOf, parsed, required } from "../encoding/members.js";
import { parseTime } from "../encoding/time.js";
import { Refused } from "../refused.js";
import { CLOCK_ALLOWANCE_SECONDS } from "../shown.js";
import * as signedBytes from "../signed_bytes.js";

const MALFORMED = "OFFER_MALFORMED";
const TYPES = {
  account: "string",
  attestation: "object",
  claim_id: "string",
  commitment: "string",
  confirm: "string",
  enrolment_id: "string",
  expires_at: "string",
  nonce: "string",
  replaces: "string",
  server_id: "string",
  server_name: "string",
  token_sha256: "string",
};
const LEVELS = ["", "emulator", "hardware", "secure_element"];
const MAX_ACCOUNT = 128;

/**
 * An offer of the documented form: its own canonical JSON, exactly the documented members, each in its form; Refused
 * "OFFER_MALFORMED".
 * @param {string} text as received
 * @returns {{ jcs: string, members: Object<string, string>, kinds: string[], minLevel: string, expiresAt: number,
 *   commitment: Uint8Array }} expiresAt in Unix seconds
 */
export function parseOffer(text) {
  const json = parsed(text, MALFORMED);
  const members = membersOf(json, TYPES, MALFORMED);
  const attestation = membersOf(members.attestation, { kinds: "list", min_level: "string" }, MALFORMED);
  check(json.size === Object.keys(TYPES).length && members.attestation.size === 2, "a member is unknown");
  check(canonical(json) === text, "it is not canonical JSON");
  check(members.confirm === "code" || members.confirm === "none", "confirm is unknown");
  for (const [name, length] of [["claim_id", 16], ["server_id", 32], ["token_sha256", 32]]) {
    required(fromHex(members[name], length), MALFORMED, `${name} is malformed`);
  }
  const commitment = required(fromBase64(members.commitment, 32), MALFORMED, "commitment is malformed");
  required(fromBase64(members.nonce, 32), MALFORMED, "nonce is malformed");
  if (members.replaces) required(fromHex(members.replaces, 32), MALFORMED, "replaces is malformed");
  check(isUuid(members.enrolment_id), "enrolment_id is no UUID");
  const expiresAt = required(parseTime(members.expires_at), MALFORMED, "expires_at is malformed");
  check(characters(members.account) <= MAX_ACCOUNT && isDisplayable(members.account), "account is not displayable");
  check(isDisplayable(members.server_name), "server_name is not displayable");
  checkAttestation(attestation);
  const { kinds, min_level: minLevel } = attestation;
  return { jcs: text, members, kinds, minLevel, expiresAt, commitment };
}

/**
 * Whether the pinned server signed exactly this for exactly this claim; Refused.
 *
 * @param {ReturnType<typeof parseOffer>} offer
 * @param {string} signature server_signature, in base64
 * @param {{ token: string, claimId: string, fromLink: boolean }} claim fromLink: the server_id came with the token
 * @param {import("../server_pin.js").Pin} pin
 * @param {number} now Unix seconds
 */
export async function checkOffer(offer, signature, { token, claimId, fromLink }, pin, now) {
  const { members } = offer;
  if (members.server_id !== pin.serverId) throw new Refused("OFFER_OF_ANOTHER_SERVER");
  const tokenSha256 = hex(signedBytes.enrolmentTokenSha256(token));
  if (members.token_sha256 !== tokenSha256) throw new Refused("OFFER_FOR_ANOTHER_TOKEN");
  if (members.claim_id !== claimId) throw new Refused("OFFER_FOR_ANOTHER_CLAIM");
  checkOpen(offer, now);
  const bytes = fromBase64(signature, 64);
  if (!bytes || !(await pin.key.verify(signedBytes.enrolmentOffer(offer.jcs), bytes))) {
    throw new Refused("OFFER_SIGNATURE_INVALID");
  }
  // Without a code to compare, only a link proves which server it is.
  if (members.confirm === "none" && !fromLink) throw new Refused("CODE_NOT_COMPARED");
}

/** Again after a person's answer, which may take long; Refused "OFFER_EXPIRED". */
export function checkOpen(offer, now) {
  if (now >= offer.expiresAt + CLOCK_ALLOWANCE_SECONDS) throw new Refused("OFFER_EXPIRED");
}

function check(isGood, message) {
  if (!isGood) throw new Refused(MALFORMED, message);
}

function checkAttestation({ kinds, min_level: level }) {
  check(LEVELS.includes(level), "attestation.min_level is unknown");
  check(kinds.every((kind) => typeof kind === "string"), "attestation.kinds is malformed");
  check(kinds.every((kind, at) => at === 0 || kinds[at - 1] < kind), "attestation.kinds is not sorted");
}

function canonical(json) {
  try {
    return jcs(json);
  } catch (error) {
    if (error instanceof NotCanonical) throw new Refused(MALFORMED, error.message);
    throw error;
  }
}
