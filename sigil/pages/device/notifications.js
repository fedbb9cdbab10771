// Notifications: the worker, the permission, the subscription, and its registration at the relay.

import { unregister } from "./client/registration.js";
import { relayOrigin } from "./core/origin.js";
import { subscribeAndRegister } from "./subscription.js";

const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;
// A push takes about a second. One that is late only costs a new subscription.
const ARRIVES_MS = 20_000;
const WORKER_TIMEOUT_MS = 20_000;

/** The address that a notification opens. */
export function appUrl() {
  return `${location.origin}/device/`;
}

/** Registers the worker. Without one the app works, but gets no pushes and does not open offline. */
export async function startWorker(app) {
  if (!navigator.serviceWorker) return;
  const url = workerUrl(`/device/worker.js?v=${encodeURIComponent(app.version)}`);
  try {
    await navigator.serviceWorker.register(url, { scope: "/device/", type: "module", updateViaCache: "none" });
  } catch (error) {
    console.info("no worker:", error?.message);
  }
}

/** The page's policy accepts one address of a script as text: this. */
function workerUrl(url) {
  if (!window.trustedTypes) return url;
  const policy = trustedTypes.createPolicy("sigil-worker", {
    createScriptURL(text) {
      if (/^\/device\/worker\.js\?v=[\w.%+-]*$/.test(text)) return text;
      throw new TypeError("not the worker");
    },
  });
  return policy.createScriptURL(url);
}

/**
 * What notifications can do here.
 * @returns {"unsupported" | "no_relay" | "denied" | "default" | "granted"}
 */
export function notificationState(app) {
  if (!app.device?.relayUrl) return "no_relay";
  if (!("Notification" in window) || !("PushManager" in window) || !navigator.serviceWorker) return "unsupported";
  return Notification.permission;
}

async function worker() {
  const late = new Promise((_, reject) => setTimeout(() => reject(new Error("the worker did not start")), WORKER_TIMEOUT_MS));
  return Promise.race([navigator.serviceWorker.ready, late]);
}

/** Subscribes, if the browser has the permission, and registers the subscription at the relay. */
export async function subscribe(app) {
  const { pushManager } = await worker();
  await app.change({ registration: await subscribeAndRegister(pushManager, app.device, appUrl()) });
}

async function isOff(app) {
  return notificationState(app) !== "granted" || (await app.store.get("notifications")) === "off";
}

/** Registers again once a day and when the subscription has changed: browsers renew it silently. */
export async function refreshRegistration(app) {
  await followRelay(app).catch(() => {});
  if (await isOff(app)) return;
  const { pushManager } = await worker();
  const subscription = await pushManager.getSubscription();
  const { registration } = app.device;
  // Both by the clock of this device, however wrong it is.
  const due = !registration || Math.abs(Date.now() - registration.at) > DAY_MS;
  if (due || subscription?.endpoint !== registration.endpoint) await subscribe(app);
}

let followedAt = 0;

/** An operator may move the relay, or add the first one, after this device was enrolled. Pushes come from there alone. */
async function followRelay(app) {
  if (Math.abs(Date.now() - followedAt) < HOUR_MS) return;
  followedAt = Date.now();
  const info = await app.server.info();
  const named = info.get("relay_url");
  const relayUrl = typeof named === "string" ? relayOrigin(named) : null;
  if (info.get("server_id") !== app.device.serverId || relayUrl === app.device.relayUrl) return;
  await app.change({ relayUrl, registration: null });
}

const expected = new Set();

/**
 * Notes which requests are pending. A push service may end a subscription that the browser believes in: the relay gets 404
 * or 410 and forgets it, and requests come without a push. Then the subscription is replaced, at most once an hour.
 */
export function expectPushes(app, items) {
  for (const id of expected) {
    if (!items.some((item) => item.id === id)) expected.delete(id);
  }
  for (const { id } of items) {
    if (expected.has(id)) continue;
    expected.add(id);
    setTimeout(() => replaceUnlessPushed(app, id).catch(() => {}), ARRIVES_MS);
  }
}

async function replaceUnlessPushed(app, id) {
  if ((await isOff(app)) || !app.device.registration) return;
  if (((await app.store.get("pushes")) ?? []).includes(id)) return;
  if (Math.abs(Date.now() - ((await app.store.get("replaced")) ?? 0)) < HOUR_MS) return;
  await app.store.set("replaced", Date.now());
  const { pushManager } = await worker();
  await (await pushManager.getSubscription())?.unsubscribe();
  await subscribe(app);
}

/** Ends the subscription, also at the relay if that can be reached. */
export async function unsubscribe(app) {
  const { pushManager } = await worker();
  const subscription = await pushManager.getSubscription();
  await subscription?.unsubscribe();
  const record = app.device;
  // First: where the relay cannot be reached, nothing may take this device for a registered one.
  await app.change({ registration: null });
  if (record.registration) await unregister(record.relayUrl, record);
}

export async function openNotifications() {
  try {
    const registration = await navigator.serviceWorker?.getRegistration("/device/");
    return (await registration?.getNotifications()) ?? [];
  } catch {
    return [];
  }
}

/** Closes those of requests that are not pending any more: they ended, or were decided elsewhere. */
export function closeNotifications(open, pending) {
  for (const notification of open) {
    if (!pending.some((item) => item.id === notification.tag)) notification.close();
  }
}

/** Gives the worker the files that the page has loaded, so that the app opens without a connection. */
export async function keepFiles() {
  if (!navigator.serviceWorker) return;
  const { active } = await worker();
  active?.postMessage({ type: "keep", urls: loadedFiles() });
}

function loadedFiles() {
  const urls = performance.getEntriesByType("resource").map((entry) => entry.name);
  return urls.filter((url) => url.startsWith(`${location.origin}/assets/`));
}
