// Enrolment, in the order of the screens: parseCode -> meet -> makeKey -> complete -> untilEnrolled.

/** @typedef {{ token: string, serverId: string | null }} Code serverId: of the link, null for a typed token */

/**
 * An offer that passed every check, and who makes it. Show serverName, baseUrl, account and pictogram; ask; make the key.
 * @typedef {Object} Meeting
 * @property {string} serverId 64 hex characters
 * @property {string[]} pictogram the five names of the server's pictogram, computed here
 * @property {string} serverName
 * @property {string} baseUrl
 * @property {string} account
 * @property {string} enrolmentId
 * @property {string} claimId
 * @property {"code" | "none"} confirm with "none" there is no code to compare: `complete` ends with status "enrolled"
 * @property {number} expiresAt milliseconds since 1970, by the server's clock
 * @property {boolean} fromLink whether the server_id came with the code
 * @property {string | null} relayUrl the relay's canonical origin
 * @property {boolean} plainKeys whether the operator permits a key without WebAuthn (SIGIL_WEB_PLAIN_KEYS)
 * @property {Map<string, *>} info the whole of /info
 * @property {Object<string, *>} offer the members of the offer
 */

/**
 * A new key of this browser; `localKey` is a non-extractable CryptoKey that IndexedDB can store.
 * @typedef {Object} Key
 * @property {"webauthn" | "plain"} kind
 * @property {Uint8Array} wire the public key as on the wire
 * @property {string} fingerprint 64 hex characters
 * @property {string[]} pictogram the five names of the device's own pictogram
 * @property {Uint8Array | null} credentialId
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
  throw new Error("not yet");
}

/**
 * Fetches and checks /info, claims the token, and checks the offer. The same `claimId` may claim again.
 * @param {import("./server.js").Server} server
 * @param {Code} code
 * @param {{ claimId?: string }} [options]
 * @returns {Promise<Meeting>} throws Unsupported (before a claim, where /info already says so), Refused, Problem, Offline
 */
export async function meet(server, code, options) {
  throw new Error("not yet");
}

/**
 * Makes the key. Call it inside the click, with nothing awaited before: `navigator.credentials.create` runs at once.
 * @param {Meeting} meeting
 * @param {{ plain?: boolean }} [options] plain: a WebCrypto key alone, only where `meeting.plainKeys`
 * @returns {Promise<Key>} throws AuthenticatorFailed
 */
export function makeKey(meeting, { plain = false } = {}) {
  throw new Error("not yet");
}

/**
 * The rehearsal: the new key signs the offer. Call it inside the click, with nothing awaited before:
 * `navigator.credentials.get` runs at once.
 * @param {import("./server.js").Server} server
 * @param {Meeting} meeting
 * @param {Key} key
 * @param {{ remember?: (record: Object) => Promise<void> }} [options] remember: stores the record before it is sent, so
 *   that a page that closes meanwhile loses no key; called with the record of the result
 * @returns {Promise<{ record: Object, code: string | null, pictogram: string[] | null, status: "confirming" | "enrolled" }>}
 *   code: six digits to type at the service's page; pictogram: of this session, shown beside it. Both are null for
 *   confirm "none". Throws AuthenticatorFailed, Refused "COMMITMENT_BROKEN", Problem, Offline
 */
export function complete(server, meeting, key, options) {
  throw new Error("not yet");
}

/**
 * Waits until the code was entered. Errors of the network are repeated until the enrolment has expired.
 * @param {import("./server.js").Server} server
 * @param {Object} record of `complete`
 * @param {AbortSignal} [signal]
 * @returns {Promise<"enrolled" | "failed" | "expired" | "cancelled">} throws Problem, and the signal's reason
 */
export async function untilEnrolled(server, record, signal) {
  throw new Error("not yet");
}
