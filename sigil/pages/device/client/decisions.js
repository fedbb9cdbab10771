// The answers of this device. Only an object that `fetchPending` checked can be signed, and only the bytes made from it.

/**
 * Approves. Call it inside the click, with nothing awaited before: `navigator.credentials.get` runs at once.
 * @param {import("./server.js").Server} server
 * @param {Object} record
 * @param {import("./inbox.js").Checked} checked
 * @param {{ matchCode?: string }} [options] matchCode: two digits, exactly where `checked.numberMatching`
 * @returns {Promise<{ status: string, groupsSatisfied?: number, groupsRequired?: number, quorumReached?: boolean }>}
 *   status: challenge "verified"; approval "recorded", "approved", "rejected" or "already_satisfied". Throws
 *   AuthenticatorFailed, Refused "CHALLENGE_EXPIRED", Problem, Offline with `resend`. A wrong code is Problem
 *   "MATCH_CODE_WRONG" with details.triesLeft
 */
export function approve(server, record, checked, { matchCode } = {}) {
  throw new Error("not yet");
}

/**
 * Rejects, without a prompt.
 * @param {import("./server.js").Server} server
 * @param {Object} record
 * @param {import("./inbox.js").Checked} checked
 * @param {"cancelled" | "unknown_trigger"} [reason]
 * @returns {Promise<{ status: string, groupsSatisfied?: number, groupsRequired?: number, quorumReached?: boolean }>}
 */
export async function reject(server, record, checked, reason) {
  throw new Error("not yet");
}
