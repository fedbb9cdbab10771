// Enrolment, in the order of the screens: parseCode -> meet -> makeKey -> complete -> untilEnrolled.
//
// What these return survives structured clone: a screen may store it, and go on with it after a reload.

import { base64, hex } from "../core/encoding/bytes.js";
import { session } from "../core/enrolment/code.js";
import { normalisedToken, parseSigilLink, parseWebLink } from "../core/enrolment/link.js";
import { checkOffer, checkOpen, parseOffer } from "../core/enrolment/offer.js";
import { fingerprint } from "../core/keys/public_key.js";
import { relayOrigin } from "../core/origin.js";
import { pictogram } from "../core/pictogram.js";
import { verifyInfo } from "../core/server_pin.js";
import { CLOCK_ALLOWANCE_SECONDS } from "../core/shown.js";
import * as signedBytes from "../core/signed_bytes.js";
import { createPlainKey, createWebKey, isAvailable, signWithVerification } from "./authenticator.js";
import { BadCode, Offline, Problem, Refused, Unsupported } from "./errors.js";

const WAIT_SECONDS = 20;
/** After each poll: a server or a proxy that answers at once must not be polled in a tight loop. */
const POLL_PAUSE_MS = 500;
const RETRY_PAUSES_MS = [1000, 2000, 4000, 8000];
const MAX_EXPIRY_MS = 900_000;
const MAX_CODE = 1024;

/** @typedef {{ token: string, serverId: string | null }} Code serverId: of the link, null for a typed token */

/**
 * An offer that passed every check, and who makes it. Show serverName, baseUrl, account and pictogram; ask; make the
 * key.
 * @typedef {Object} Meeting
 * @property {string} serverId 64 hex characters
 * @property {{ ES256: string }} serverKeys in base64
 * @property {string[]} pictogram the five names of the server's pictogram, computed here
 * @property {string} serverName displayable text, signed with the offer
 * @property {string} baseUrl
 * @property {string} account displayable text
 * @property {string} enrolmentId
 * @property {string} claimId
 * @property {"code" | "none"} confirm with "none" there is no code to compare: `complete` ends with status "enrolled"
 * @property {number} expiresAt milliseconds since 1970, by the server's clock
 * @property {boolean} fromLink whether the server_id came with the code
 * @property {boolean} isPlatform whether this browser has an authenticator of its own; without, a security key may do
 * @property {string | null} relayUrl the relay's canonical origin
 * @property {boolean} plainKeys whether the operator permits a key without WebAuthn (SIGIL_WEB_PLAIN_KEYS)
 * @property {Map<string, *>} info the whole of /info
 * @property {ReturnType<typeof parseOffer>} offer
 */

/**
 * A new key of this browser; `localKey` is a non-extractable CryptoKey that IndexedDB can store.
 * @typedef {Object} Key
 * @property {"webauthn" | "plain"} kind
 * @property {Uint8Array} wire the public key as on the wire
 * @property {string} fingerprint 64 hex characters
 * @property {string[]} pictogram the five names of the device's own pictogram
 * @property {Uint8Array | null} credentialId
 * @property {string[]} transports of the credential
 * @property {CryptoKey} localKey
 */

/**
 * The code of a scan, a paste or a keyboard: the web link of this server, a `sigil:` link of it, the fragment
 * `#s=…&t=…`, or a token of 12 characters in any case, with spaces and hyphens.
 * @param {string} text
 * @param {{ baseUrl: string }} where
 * @returns {Code} throws BadCode "form" or "other_server"
 */
export function parseCode(text, { baseUrl }) {
  const code = text.length <= MAX_CODE ? text.trim() : "";
  const token = normalisedToken(code);
  if (token) return { token, serverId: null };
  const link = parseSigilLink(code) ?? parseWebLink(code.startsWith("#") ? `${baseUrl}/device/${code}` : code);
  if (!link) throw new BadCode("form");
  if (link.baseUrl !== baseUrl) throw new BadCode("other_server");
  return { token: link.token, serverId: link.serverId };
}

/** 16 random bytes in hex, new for each claim. */
export function newClaimId() {
  return hex(crypto.getRandomValues(new Uint8Array(16)));
}

/**
 * Fetches and checks /info, claims the token, and checks the offer. The same `claimId` may claim again.
 * @param {import("./server.js").Server} server
 * @param {Code} code
 * @param {{ claimId?: string, signal?: AbortSignal }} [options] signal: ends the retries
 * @returns {Promise<Meeting>} throws Unsupported (before a claim, where /info already says so), Refused, Problem,
 *   Offline, AnswerUnusable
 */
export async function meet(server, code, { claimId = newClaimId(), signal } = {}) {
  const info = await repeated(() => server.info(), signal);
  const pin = await verified(info, server.baseUrl, code.serverId);
  if (info.get("attestation")?.get?.("required") === true) throw new Unsupported("attestation_required");
  const fromLink = code.serverId !== null;
  const claimed = await repeated(() => server.claim(code.token, claimId), signal);
  const offer = parseOffer(claimed.offer);
  const claim = { token: code.token, claimId, fromLink };
  await checkOffer(offer, claimed.serverSignature, claim, pin, server.now() / 1000);
  if (offer.minLevel) throw new Unsupported("attestation_required");
  if (offer.members.replaces) throw new Unsupported("replaces_a_key");
  const relayUrl = info.get("relay_url");
  return {
    serverId: pin.serverId,
    serverKeys: { ES256: base64(pin.key.wire) },
    pictogram: pictogram(pin.serverId),
    serverName: offer.members.server_name,
    baseUrl: server.baseUrl,
    account: offer.members.account,
    enrolmentId: offer.members.enrolment_id,
    claimId,
    confirm: offer.members.confirm,
    expiresAt: offer.expiresAt * 1000,
    fromLink,
    isPlatform: await isAvailable(),
    relayUrl: typeof relayUrl === "string" ? relayOrigin(relayUrl) : null,
    plainKeys: info.get("features")?.get?.("web_plain_keys") === true,
    info,
    offer,
  };
}

async function verified(info, baseUrl, expected) {
  try {
    return await verifyInfo(info, baseUrl, expected);
  } catch (error) {
    if (error instanceof Refused && error.code === "NOT_INITIALIZED") throw new Unsupported("not_ready");
    throw error;
  }
}

/**
 * Makes the key. Call it inside the click, with nothing awaited before: `navigator.credentials.create` runs at once.
 * @param {Meeting} meeting
 * @param {{ plain?: boolean }} [options] plain: a WebCrypto key alone, only where `meeting.plainKeys`
 * @returns {Promise<Key>} throws AuthenticatorFailed
 */
export async function makeKey(meeting, { plain = false } = {}) {
  if (plain && !meeting.plainKeys) throw new Unsupported("plain_keys");
  const { baseUrl: origin, serverName, account, isPlatform } = meeting;
  const key = await (plain ? createPlainKey() : createWebKey({ origin, serverName, account, isPlatform }));
  const print = fingerprint(key.wire);
  return { ...key, fingerprint: print, pictogram: pictogram(print) };
}

/**
 * The rehearsal: the new key signs the offer. Call it inside the click, with nothing awaited before:
 * `navigator.credentials.get` runs at once.
 * @param {import("./server.js").Server} server
 * @param {Meeting} meeting
 * @param {Key} key
 * @param {{ remember?: (record: Object) => Promise<void>, signal?: AbortSignal }} [options] remember: stores the record
 *   before it is sent, so that a page that closes meanwhile loses no key; called with the record of the result. signal:
 *   closes the prompt, and ends the retries
 * @returns {Promise<{ record: Object, code: string | null, pictogram: string[] | null, status: "confirming" |
 *   "enrolled" }>} code: six digits to type at the service's page; pictogram: of this session, shown with it. Both are
 *   null for confirm "none". Throws AuthenticatorFailed, Refused ("OFFER_EXPIRED", "COMMITMENT_BROKEN"), Problem,
 *   Offline
 */
export async function complete(server, meeting, key, { remember, signal } = {}) {
  checkOpen(meeting.offer, server.now() / 1000);
  const digest = signedBytes.enrolmentDigest(meeting.offer.jcs, key.wire);
  const proof = await signWithVerification(key, signedBytes.enrolmentCompletion(digest), meeting.baseUrl, signal);
  const record = recordOf(meeting, key, server.now());
  await remember?.(record);
  const body = {
    enrolment_id: meeting.enrolmentId,
    claim_id: meeting.claimId,
    device_public_key: base64(key.wire),
    signature: base64(proof),
  };
  const { sasNonce, status } = await repeated(() => server.complete(body), signal);
  const shown = session(digest, sasNonce, meeting.offer.commitment);
  return meeting.confirm === "none" ? { record, code: null, pictogram: null, status } : { record, ...shown, status };
}

function recordOf(meeting, key, now) {
  const { serverId, serverKeys, serverName, baseUrl, account, relayUrl, enrolmentId, claimId, expiresAt } = meeting;
  const { kind, wire, fingerprint: print, credentialId, transports, localKey } = key;
  return {
    ...{ serverId, serverKeys, serverName, baseUrl, account },
    ...{ kind, wire, fingerprint: print, credentialId, transports, localKey },
    enrolledAt: now,
    relayUrl,
    registration: null,
    language: null,
    enrolment: { id: enrolmentId, claimId, expiresAt },
  };
}

/**
 * Waits until the code was entered. Errors of the network are repeated until the enrolment has expired.
 * @param {import("./server.js").Server} server
 * @param {Object} record of `complete`
 * @param {AbortSignal} [signal]
 * @returns {Promise<"enrolled" | "failed" | "expired" | "cancelled">} throws Problem, Offline when no end was reported
 *   in time, and the signal's reason
 */
export async function untilEnrolled(server, { enrolment }, signal) {
  const { id, claimId, expiresAt } = enrolment;
  // Bounds the wait by this device's clock too: the server may never report an end.
  const end = Math.min(expiresAt, server.now() + MAX_EXPIRY_MS) + CLOCK_ALLOWANCE_SECONDS * 1000;
  for (;;) {
    const status = await polled(server, id, claimId, signal);
    if (["enrolled", "failed", "expired", "cancelled"].includes(status)) return status;
    if (server.now() >= end) throw new Offline("timeout");
    await pause(status === null ? RETRY_PAUSES_MS[1] : POLL_PAUSE_MS, signal);
  }
}

/** null after an error that passes. */
async function polled(server, id, claimId, signal) {
  try {
    return (await server.wait(id, claimId, WAIT_SECONDS, signal)).status;
  } catch (error) {
    if (isTemporary(error)) return null;
    throw error;
  }
}

/** An answer that is lost is fetched again with the same bytes, a few times. */
async function repeated(send, signal) {
  for (const wait of RETRY_PAUSES_MS) {
    try {
      return await send();
    } catch (error) {
      if (!isTemporary(error)) throw error;
      await pause(wait, signal);
    }
  }
  return send();
}

const isTemporary = (error) => error instanceof Offline || (error instanceof Problem && error.isTemporary);

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });
}
