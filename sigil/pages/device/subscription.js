// The push subscription of this browser and its registration at the relay. The page and the worker both use it: no DOM.

import { register, vapidKey } from "./client/registration.js";

/**
 * Subscribes, where the browser has the permission, and registers the subscription.
 * @param {PushManager} pushManager
 * @param {Object} record of the device
 * @param {string} appUrl what a notification opens
 * @returns {Promise<Object>} what to store as `record.registration`; throws Problem, Offline, and the browser's errors
 */
export async function subscribeAndRegister(pushManager, record, appUrl) {
  const key = await vapidKey(record.relayUrl);
  if (!key) throw new Error("the relay has no Web Push");
  return register(record.relayUrl, record, await subscriptionWith(pushManager, key), appUrl);
}

/** The subscription for the relay's key. One for another key of the relay is dead, and is replaced. */
async function subscriptionWith(pushManager, key) {
  const found = await pushManager.getSubscription();
  if (found && sameBytes(found.options.applicationServerKey, key)) return found;
  await found?.unsubscribe();
  return pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: key });
}

function sameBytes(buffer, bytes) {
  const other = new Uint8Array(buffer ?? 0);
  return other.length === bytes.length && other.every((byte, at) => byte === bytes[at]);
}
