// The registration of a push subscription at the relay, signed by the local key: no prompt.

/**
 * The relay's VAPID key, for `pushManager.subscribe`. A subscription made with another key is dead.
 * @param {string} relayUrl
 * @returns {Promise<Uint8Array | null>} 65 bytes; null where the relay has no Web Push
 */
export async function vapidKey(relayUrl) {
  throw new Error("not yet");
}

/**
 * @param {string} relayUrl
 * @param {Object} record
 * @param {PushSubscription} subscription
 * @param {string} appUrl the https URL that a notification opens, without a fragment
 * @returns {Promise<{ endpoint: string, token: string, at: number }>} what to store as `record.registration`
 */
export async function register(relayUrl, record, subscription, appUrl) {
  throw new Error("not yet");
}

/** @param {string} relayUrl @param {Object} record @returns {Promise<void>} also when it is not registered */
export async function unregister(relayUrl, record) {
  throw new Error("not yet");
}
