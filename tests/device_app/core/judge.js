// Runs the device's core in a browser for the tests: each export takes the cases of one kind, and returns their outcomes
// in order. The expectations are Python's.

import { parseAction } from "/assets/device/core/action.js";
import { verifyApproval } from "/assets/device/core/approval.js";
import { verifyChallenge } from "/assets/device/core/challenge.js";
import { isDisplayable } from "/assets/device/core/display_text.js";
import * as bytes from "/assets/device/core/encoding/bytes.js";
import { jcs, NotCanonical } from "/assets/device/core/encoding/jcs.js";
import { sha256 } from "/assets/device/core/encoding/sha256.js";
import { NotStrictJson, parseJson, parseJsonBytes } from "/assets/device/core/encoding/strict_json.js";
import { parseTime } from "/assets/device/core/encoding/time.js";
import { session } from "/assets/device/core/enrolment/code.js";
import { normalisedToken, parseSigilLink, parseWebLink } from "/assets/device/core/enrolment/link.js";
import { checkOffer, parseOffer } from "/assets/device/core/enrolment/offer.js";
import { rawSignature } from "/assets/device/core/keys/p256.js";
import { Es256Key } from "/assets/device/core/keys/public_key.js";
import { signedByHalves, webKeyWire, webSignature } from "/assets/device/core/keys/web_key.js";
import { originOfUrl, relayOrigin, serverOrigin } from "/assets/device/core/origin.js";
import { pictogram } from "/assets/device/core/pictogram.js";
import { Refused } from "/assets/device/core/refused.js";
import { pinOf, verifyInfo } from "/assets/device/core/server_pin.js";
import { messageOf } from "/assets/device/core/shown.js";
import * as signedBytes from "/assets/device/core/signed_bytes.js";
import * as tables from "/assets/device/core/unicode_tables.js";
import { webPushToken } from "/assets/device/core/web_push_token.js";

const { fromBase64, hex } = bytes;
const raw = (text) => bytes.fromHex(text, text.length / 2);

/** The value, or the code of the error. Another error than those of the core fails the test. */
async function outcome(judge) {
  try {
    return await judge();
  } catch (error) {
    if (error instanceof Refused) return error.code;
    if (error instanceof NotStrictJson || error instanceof NotCanonical) return error.constructor.name;
    throw error;
  }
}

const all = (judge) => (cases) => Promise.all(cases.map((item) => outcome(() => judge(item))));

export const actions = all((text) => [...parseAction(text).type].length > 0);

export const canonical = all((text) => jcs(parseJson(text)));

export const canonicalBytes = all((text) => jcs(parseJsonBytes(raw(text))));

export const displayable = all((text) => isDisplayable(text));

export const hashes = all((text) => hex(sha256(raw(text))));

/** By WebCrypto, for messages of each of these lengths: [ours, theirs]. */
export const bothHashes = all(async (length) => {
  const message = Uint8Array.from({ length }, (_, at) => (at * 131 + length) & 0xff);
  return [hex(sha256(message)), hex(new Uint8Array(await crypto.subtle.digest("SHA-256", message)))];
});

export const keys = all((text) => Es256Key.parse(raw(text))?.fingerprint ?? null);

export const signatures = all(async ({ public_key: key, message, signature }) => {
  return Es256Key.parse(raw(key)).verify(raw(message), raw(signature));
});

export const ders = all((text) => {
  const signature = rawSignature(raw(text));
  return signature && hex(signature);
});

export const webParts = all((given) => {
  const signed = signedByHalves(raw(given.message), raw(given.public_key));
  const signature = webSignature(raw(given.local), {
    signature: raw(given.assertion_der),
    authenticatorData: raw(given.authenticator_data),
    clientDataJSON: bytes.utf8(given.client_data),
  });
  return { signed: hex(signed), challenge: hex(sha256(signed)), signature: hex(signature) };
});

export const webSizes = all(([data, client]) => {
  const signature = raw("3006020101020101");
  const parts = { signature, authenticatorData: new Uint8Array(data), clientDataJSON: new Uint8Array(client) };
  return webSignature(new Uint8Array(64), parts)?.length ?? null;
});

export const webKeys = all(({ assertion, local, origin }) => hex(webKeyWire(raw(assertion), raw(local), origin)));

export const spellings = all(({ kind, text, length }) => {
  if (kind === "time") return parseTime(text);
  const found = kind === "hex" ? bytes.fromHex(text, length) : fromBase64(text, length ?? undefined);
  return found && hex(found);
});

export const base64urls = all((text) => {
  const found = bytes.fromBase64url(text);
  return found && [hex(found), bytes.base64url(found)];
});

export const origins = all((text) => [serverOrigin(text), relayOrigin(text), originOfUrl(text)]);

export const tokens = all((text) => normalisedToken(text));

export const tokenHashes = all((token) => hex(signedBytes.enrolmentTokenSha256(token)));

const linkOf = (link) => link && { base_url: link.baseUrl, server_id: link.serverId, token: link.token };

export const links = all((text) => linkOf(parseSigilLink(text)));

export const webLinks = all((text) => linkOf(parseWebLink(text)));

export const offers = all((text) => parseOffer(text).members.enrolment_id);

export const sessions = all(({ offer, wire, sas_nonce: nonce }) => {
  const parsed = parseOffer(offer);
  const digest = signedBytes.enrolmentDigest(parsed.jcs, fromBase64(wire));
  return { digest: hex(digest), ...session(digest, nonce, parsed.commitment) };
});

export const codes = all(({ digest, sas_nonce: nonce }) => {
  const commitment = signedBytes.enrolmentCommitment(fromBase64(nonce));
  const sas = hex(signedBytes.enrolmentSas(raw(digest), fromBase64(nonce)));
  return { sas, ...session(raw(digest), nonce, commitment) };
});

export const pictograms = all((fingerprint) => pictogram(fingerprint));

/** The texts are those of the vectors: an action_context arrives as text, so that its names keep their order. */
const SIGNED = {
  approval: (input) => signedBytes.approval(raw(input.challenge), input.action_jcs),
  matched_approval: (input) => signedBytes.matchedApproval(raw(input.challenge), input.action_jcs, input.match_code),
  rejection: (input) => signedBytes.rejection(raw(input.challenge), input.action_jcs),
  mpa_approval: (input) => signedBytes.mpaApproval(jcs(parseJson(input.action_context))),
  mpa_rejection: (input) => signedBytes.mpaRejection(jcs(parseJson(input.action_context))),
  pending: (input) => signedBytes.pending(input.server_id, input.timestamp),
  server_keys: (input) => signedBytes.serverKeys(new Map(Object.entries(input.server_public_keys))),
  relay_register: (input) =>
    signedBytes.relayRegister(input.relay_origin, input.platform, raw(input.nonce), input.push_token),
  relay_unregister: (input) => signedBytes.relayUnregister(input.relay_origin, raw(input.nonce)),
  enrolment_offer: (input) => signedBytes.enrolmentOffer(input.offer_jcs),
  enrolment_completion: (input) => signedBytes.enrolmentCompletion(raw(input.digest)),
};

export const signed = all(({ name, input }) => hex(SIGNED[name](input)));

export const bindings = all((input) =>
  hex(
    signedBytes.challengeBytes({
      challengeId: input.challenge_id,
      expiresAt: parseTime(input.expires_at),
      fingerprint: input.fingerprint,
      nonce: fromBase64(input.nonce),
      numberMatching: input.number_matching,
      respondTo: input.respond_to,
      serverId: input.server_id,
    }),
  ),
);

export const infos = all(async ({ text, baseUrl, expected }) => {
  return (await verifyInfo(parseJson(text), baseUrl, expected ?? null)).serverId;
});

export const checkedOffers = all(async ({ offer, signature, claim, record, now }) => {
  const parsed = parseOffer(offer);
  await checkOffer(parsed, signature, claim, pinOf(record), now);
  return parsed.members.account;
});

const shown = (checked, matchCode) => ({
  id: checked.id,
  action: checked.action,
  description: checked.description,
  params: checked.params && jcs(new Map(checked.params)),
  expiresAt: checked.expiresAt,
  numberMatching: checked.numberMatching,
  required: checked.required,
  rejectPolicy: checked.rejectPolicy,
  requestId: checked.requestId,
  approval: hex(messageOf(checked, "approved", matchCode)),
  rejection: hex(messageOf(checked, "rejected")),
});

export const challenges = all(async ({ text, record, device, now }) => {
  const checked = await verifyChallenge(text, pinOf(record), device, now);
  return shown(checked, checked.numberMatching ? "07" : undefined);
});

export const approvals = all(async ({ text, record, now }) => shown(await verifyApproval(text, pinOf(record), now)));

/** What may be signed, after each way to change the object that is shown. */
export const changes = all(async ({ change, decision, matchCode, text, record, device, now }) => {
  const isChallenge = parseJson(text).get("type") === "challenge";
  const pin = pinOf(record);
  const checked = await (isChallenge ? verifyChallenge(text, pin, device, now) : verifyApproval(text, pin, now));
  const made = new Function("checked", `"use strict"; ${change}; return checked;`);
  return hex(messageOf(made(checked), decision, matchCode));
});

export const pushTokens = all((parts) =>
  webPushToken({ ...parts, auth: raw(parts.auth), key: raw(parts.key), p256dh: raw(parts.p256dh) }),
);

export const unicode = all((name) => tables[name]);

/** The names of the members in their order, and the text of each. */
export const memberTexts = all((text) => {
  const texts = new WeakMap();
  const value = parseJson(text, texts);
  return [...value.keys()].map((name) => [name, texts.get(value).get(name)]);
});

