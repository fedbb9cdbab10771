// What is pending for this device: fetched with the local key, without a prompt, and checked as by every device.

import { verifyApproval } from "../core/approval.js";
import { verifyChallenge } from "../core/challenge.js";
import { base64 } from "../core/encoding/bytes.js";
import { parseJson } from "../core/encoding/strict_json.js";
import { formatTime } from "../core/encoding/time.js";
import { fingerprint } from "../core/keys/public_key.js";
import { Refused } from "../core/refused.js";
import { pinOf } from "../core/server_pin.js";
import * as signedBytes from "../core/signed_bytes.js";
import { signLocally } from "./authenticator.js";
import { Offline, Problem } from "./errors.js";

/** @typedef {import("../core/shown.js").Checked} Checked */

const MAX_ID = 64;
const LOCK_SECONDS = 30;
/** The server would not accept a second further ahead: it was used before the clock was set back. */
const FAR_AHEAD = 60;
/** The last second that this tab used, by fingerprint: the server accepts each (key, second) once. */
const lastSecond = new Map();

/**
 * One request to /device/pending. One tab asks at a time; of two in the same second, the second waits for the next.
 * @param {import("./server.js").Server} server
 * @param {Object} record
 * @param {{ locks?: LockManager | null }} [options] locks: null for a test without any
 * @returns {Promise<{ items: Checked[], rejected: Array<{ id: string, why: string }> }>} items: challenges first;
 *   rejected: payloads that failed a check, `why` is the code of core/refused.js. Throws Problem (401: another clock,
 *   or the server does not have this identity any more), Offline, AnswerUnusable
 */
export async function fetchPending(server, record, { locks = navigator.locks } = {}) {
  const pin = pinOf(record);
  const device = fingerprint(record.wire);
  const fetched = () => repeated(server, record, device);
  const { challenges, approvals } = await (locks ? inTurn(locks, device, fetched) : fetched());
  const now = server.now() / 1000;
  const found = await Promise.all([
    ...challenges.map((text) => checked(text, verifyChallenge(text, pin, device, now))),
    ...approvals.map((text) => checked(text, verifyApproval(text, pin, now))),
  ]);
  return {
    items: found.flatMap(({ item }) => item ?? []),
    rejected: found.flatMap(({ refused }) => refused ?? []),
  };
}

async function inTurn(locks, device, fetched) {
  const signal = AbortSignal.timeout(LOCK_SECONDS * 1000);
  try {
    return await locks.request(`sigil-pending-${device}`, { signal }, fetched);
  } catch (error) {
    // Another tab has held the lock for longer than a request may take.
    throw error?.name === "TimeoutError" ? new Offline("timeout") : error;
  }
}

/** Another tab, or this one before a reload, may have used the second: once more with the next one. */
async function repeated(server, record, device) {
  try {
    return await pending(server, record, device);
  } catch (error) {
    if (!(error instanceof Problem && error.status === 401)) throw error;
  }
  return pending(server, record, device);
}

async function pending(server, record, device) {
  const timestamp = formatTime(await unusedSecond(server, device));
  const signature = await signLocally(record, signedBytes.pending(record.serverId, timestamp));
  return server.pending({ device_public_key: base64(record.wire), timestamp, signature: base64(signature) });
}

async function unusedSecond(server, device) {
  const now = () => Math.floor(server.now() / 1000);
  const last = lastSecond.get(device) ?? 0;
  if (last - now() <= FAR_AHEAD) {
    while (now() <= last) await pause((last + 1) * 1000 - server.now());
  }
  lastSecond.clear();
  lastSecond.set(device, now());
  return lastSecond.get(device);
}

function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, Math.max(1, milliseconds)));
}

/** A refused payload hides no other. */
async function checked(text, verification) {
  try {
    return { item: await verification };
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    return { refused: { id: claimedId(text), why: error.code } };
  }
}

function claimedId(text) {
  const json = parseJson(text);
  const id = json instanceof Map ? (json.get("challenge_id") ?? json.get("mpa_id")) : null;
  return typeof id === "string" ? id.slice(0, MAX_ID) : "";
}
