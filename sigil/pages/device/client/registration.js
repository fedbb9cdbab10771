// The registration of a push subscription at the relay, signed by the local half: no prompt.

import { base64, fromBase64, fromBase64url } from "../core/encoding/bytes.js";
import { relayOrigin } from "../core/origin.js";
import * as signedBytes from "../core/signed_bytes.js";
import { isPoint, webPushToken } from "../core/web_push_token.js";
import { signLocally } from "./authenticator.js";
import { AnswerUnusable, Problem } from "./errors.js";
import { exchange } from "./http.js";

/**
 * The relay's VAPID key, for `pushManager.subscribe`. A subscription made with another key is dead.
 * @param {string} relayUrl
 * @returns {Promise<Uint8Array | null>} 65 bytes; null where the relay has no Web Push. Throws Problem, Offline,
 *   AnswerUnusable
 */
export async function vapidKey(relayUrl) {
  return (await challengeOf(originOf(relayUrl))).vapidKey;
}

/**
 * @param {string} relayUrl
 * @param {Object} record
 * @param {PushSubscription} subscription
 * @param {string} appUrl the https URL that a notification opens, without a fragment
 * @returns {Promise<{ endpoint: string, token: string, at: number }>} what to store as `record.registration`. Throws
 *   Refused "PUSH_TOKEN_MALFORMED", Problem, Offline, AnswerUnusable
 */
export async function register(relayUrl, record, subscription, appUrl) {
  const origin = originOf(relayUrl);
  const token = webPushToken({
    app: appUrl,
    endpoint: subscription.endpoint,
    auth: new Uint8Array(subscription.getKey("auth")),
    p256dh: new Uint8Array(subscription.getKey("p256dh")),
    key: new Uint8Array(subscription.options.applicationServerKey),
  });
  const { challengeId, nonce } = await challengeOf(origin);
  const message = signedBytes.relayRegister(origin, "webpush", nonce, token);
  const members = { push_platform: "webpush", push_token: token };
  await exchange(`${origin}/devices/register`, { body: await signed(record, challengeId, message, members) });
  return { endpoint: subscription.endpoint, token, at: Date.now() };
}

/** @param {string} relayUrl @param {Object} record @returns {Promise<void>} also when it is not registered */
export async function unregister(relayUrl, record) {
  const origin = originOf(relayUrl);
  const { challengeId, nonce } = await challengeOf(origin);
  const message = signedBytes.relayUnregister(origin, nonce);
  try {
    await exchange(`${origin}/devices/unregister`, { body: await signed(record, challengeId, message, {}) });
  } catch (error) {
    if (!(error instanceof Problem && error.code === "DEVICE_UNKNOWN")) throw error;
  }
}

async function challengeOf(origin) {
  const { json } = await exchange(`${origin}/devices/register/challenge`);
  const challengeId = json.get("challenge_id");
  const nonce = fromBase64(String(json.get("nonce")), 32);
  const key = json.get("webpush_key") ?? null;
  const point = key === null ? null : fromBase64url(String(key));
  if (typeof challengeId !== "string" || !nonce || (key !== null && !(point && isPoint(point)))) {
    throw new AnswerUnusable("the relay's challenge is not of the documented form");
  }
  return { challengeId, nonce, vapidKey: point };
}

async function signed(record, challengeId, message, members) {
  const signature = base64(await signLocally(record, message));
  return { device_public_key: base64(record.wire), ...members, challenge_id: challengeId, signature };
}

function originOf(relayUrl) {
  const origin = relayOrigin(relayUrl);
  if (!origin) throw new AnswerUnusable("relay_url is no origin");
  return origin;
}
