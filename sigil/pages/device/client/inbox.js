// What is pending for this device: fetched with the local key, without a prompt, and checked like by every device.

/**
 * A challenge or an approval request that passed every check. It is frozen; only an object of `fetchPending` can be
 * signed.
 * @typedef {Object} Checked
 * @property {"challenge" | "approval"} type
 * @property {string} id the challenge_id or mpa_id
 * @property {string} action the action's type
 * @property {string} description
 * @property {Array<[string, Value]> | null} params in the signed order; null without params
 * @property {number} expiresAt milliseconds since 1970, by the server's clock
 * @property {boolean} numberMatching whether approving needs the two digits that the service shows
 * @property {number | null} required approval: how many groups must approve; null for a challenge
 * @property {"continue" | "reject_on_first" | null} rejectPolicy approval: reject_on_first: one rejection ends the request
 * @property {string | null} requestId approval: the requester's name of it
 */
/** @typedef {string | number | boolean | null | Value[] | Map<string, Value>} Value a list is an Array, an object a Map */

/**
 * One request to /device/pending. One tab asks at a time; of two in the same second, the second waits for the next.
 * @param {import("./server.js").Server} server
 * @param {Object} record
 * @param {{ locks?: LockManager | null }} [options]
 * @returns {Promise<{ items: Checked[], rejected: Array<{ id: string, why: string }> }>} items: challenges first;
 *   rejected: payloads that failed a check, `why` is the code of core/refused.js. Throws Problem (401: another clock, or
 *   the server does not have this identity any more), Offline, AnswerUnusable
 */
export async function fetchPending(server, record, options) {
  throw new Error("not yet");
}
