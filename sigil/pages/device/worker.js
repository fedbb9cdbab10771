// The worker of the app: pushes and their notifications, and the app's files for a time without a connection.
//
// A notification never has what is requested: that comes from the server, and the page checks it. No answer of an API is kept.

import { subscribeAndRegister } from "/assets/device/subscription.js";
import { Store } from "/assets/device/storage/store.js";
import { chooseLanguage, NOTIFICATION } from "/assets/device/texts/language.js";

const VERSION = new URL(self.location.href).searchParams.get("v") ?? "";
const PREFIX = "sigil-device-";
const CACHE = `${PREFIX}${VERSION}`;
const PAGE = "/device/";
const ICON = "/device/icon-192.png";
// After this time the kept page opens: a person who waits longer believes that the app is broken.
const NETWORK_MS = 5_000;
// Of a file that is not kept: on a slow network a late file is better than none.
const FIRST_MS = 120_000;
const REMEMBERED = 20;
const ID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

self.addEventListener("install", (event) => event.waitUntil(install()));
self.addEventListener("activate", (event) => event.waitUntil(activate()));
self.addEventListener("message", (event) => event.data?.type === "keep" && event.waitUntil(keep(event.data.urls)));
self.addEventListener("fetch", (event) => isFile(event.request) && event.respondWith(file(event.request)));
self.addEventListener("push", (event) => event.waitUntil(onPush(event)));
self.addEventListener("notificationclick", (event) => event.waitUntil(onClick(event)));
self.addEventListener("pushsubscriptionchange", (event) => event.waitUntil(onSubscriptionChange()));

async function install() {
  const cache = await caches.open(CACHE);
  await cache.addAll([PAGE, "/device/manifest.webmanifest", ICON]);
  await self.skipWaiting();
}

async function activate() {
  for (const name of await caches.keys()) {
    if (name.startsWith(PREFIX) && name !== CACHE) await caches.delete(name);
  }
  await self.clients.claim();
}

// Files

/** The page, its worker's files and the assets; everything else is an API, and passes by. */
function isFile(request) {
  const url = new URL(request.url);
  if (request.method !== "GET" || url.origin !== self.location.origin) return false;
  if (request.mode === "navigate") return url.pathname === PAGE;
  return url.pathname.startsWith("/assets/") || /^\/device\/(icon-[\w-]+\.png|manifest\.webmanifest)$/.test(url.pathname);
}

/** From the network, since a kept file may be of an earlier release; without one what is kept. */
async function file(request) {
  const url = request.mode === "navigate" ? PAGE : request.url;
  // A private window or a full disk may refuse the cache: the app then works with the network alone.
  const cache = await caches.open(CACHE).catch(() => null);
  const kept = await cache?.match(url).catch(() => undefined);
  try {
      const answer = await fetch(url, { signal: AbortSignal.timeout(kept ? NETWORK_MS : FIRST_MS) });
    // A server that restarts: its proxy answers.
    if (kept && answer.status >= 500) return kept;
    if (!cache || !answer.ok) return answer;
    // The limit is of the whole file, so what the page gets cannot end in the middle.
    await answer.clone().blob();
    await cache.put(url, answer.clone()).catch(() => {});
    return answer;
  } catch (error) {
    if (kept) return kept;
    throw error;
  }
}

/** Keeps the files that the page has loaded before this worker served it. */
async function keep(urls) {
  const cache = await caches.open(CACHE);
  const missing = [];
  for (const url of urls) {
    if (isFile(new Request(url)) && !(await cache.match(url))) missing.push(url);
  }
  // One that fails is kept when the page loads it again.
  await Promise.allSettled(missing.map((url) => cache.add(url)));
}

// Pushes

/** The reference in a push; without a usable one an empty reference, since each push must show a notification. */
function reference(event) {
  try {
    const { id, until } = event.data.json().notification.data;
    return { id: ID.test(id) ? id : "", until: Number(until) || 0 };
  } catch {
    return { id: "", until: 0 };
  }
}

async function onPush(event) {
  const { id, until } = reference(event);
  await closeStale();
  const { body, serverName } = await wording();
  await self.registration.showNotification(serverName, {
    body,
    tag: id || "request",
    renotify: true,
    icon: ICON,
    requireInteraction: true,
    data: { id, until },
  });
  for (const client of await windows()) client.postMessage({ type: "pushed", id });
  await remember(id);
}

/** The page compares: a request without its push means that the subscription is dead. */
async function remember(id) {
  try {
    const store = await Store.open();
    await store.update("pushes", (ids) => [id, ...(ids ?? [])].slice(0, REMEMBERED));
  } catch {
    // The browser refuses the storage at the moment.
  }
}

/** Requests end without a push: the next push, or opening the app, closes their notifications. */
async function closeStale() {
  const now = Date.now() / 1000;
  for (const notification of await self.registration.getNotifications()) {
    const { until } = notification.data ?? {};
    if (until && until < now) notification.close();
  }
}

/** The texts in the person's language. A store that cannot be read costs the language, never the notification. */
async function wording() {
  let set;
  let serverName = "Sigil";
  try {
    const store = await Store.open();
    set = await store.get("language");
    serverName = (await store.device())?.serverName ?? serverName;
  } catch {
    // The browser refuses the storage at the moment.
  }
  return { body: NOTIFICATION[chooseLanguage(set)], serverName };
}

async function windows() {
  const all = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
  return all.filter((client) => new URL(client.url).pathname === PAGE);
}

async function onClick(event) {
  event.notification.close();
  const { id } = event.notification.data ?? {};
  const [open] = await windows();
  if (!open) return self.clients.openWindow(id ? `${PAGE}#${id}` : PAGE);
  // The message first: a browser may refuse the focus.
  open.postMessage({ type: "open", id });
  return open.focus();
}

/** Browsers renew a subscription on their own: the old one is dead, so the new one is registered at once. */
async function onSubscriptionChange() {
  const store = await Store.open();
  const record = await store.device();
  if (!record?.relayUrl || (await store.get("notifications")) === "off") return;
  const appUrl = `${self.location.origin}${PAGE}`;
  const registration = await subscribeAndRegister(self.registration.pushManager, record, appUrl);
  await store.changeDevice(record.fingerprint, { registration });
}
