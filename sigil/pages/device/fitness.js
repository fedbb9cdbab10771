// Whether this browser can be an authenticator, and whether the app must be installed first.

import { isAvailable, isSupported } from "./client/authenticator.js";

// In-app browsers: their storage ends with the other app's, and most have no WebAuthn. The names are those of their user agents.
const IN_APP = /\b(FBAN|FBAV|FB_IAB|Instagram|Line|MicroMessenger|Snapchat|Twitter|LinkedInApp|TikTok|musical_ly|GSA)\b|; wv\)/;
const IPV4 = /^\d+\.\d+\.\d+\.\d+$/;

export function isIos() {
  // iPads report a Mac, which has no touch screen.
  return /iPhone|iPad|iPod/.test(navigator.userAgent) || (/Macintosh/.test(navigator.userAgent) && navigator.maxTouchPoints > 1);
}

export function isAndroid() {
  return /Android/.test(navigator.userAgent);
}

/** Whether the page runs as an installed app. */
export function isInstalled() {
  return navigator.standalone === true || matchMedia("(display-mode: standalone), (display-mode: minimal-ui)").matches;
}

/** On iOS Safari and the installed app share no storage: a key that Safari makes would be missing in the app. */
export function mustInstall() {
  return isIos() && !isInstalled();
}

/** Whether the address is an IP literal, for which no browser makes a WebAuthn key. */
function isAddress(hostname) {
  return hostname.startsWith("[") || IPV4.test(hostname);
}

/**
 * Why this browser cannot be an authenticator, null if it can.
 * @returns {Promise<"in_app" | "insecure" | "address" | "storage" | "webauthn" | null>}
 */
export async function unfitReason(app) {
  if (IN_APP.test(navigator.userAgent)) return "in_app";
  if (isAddress(location.hostname)) return "address";
  if (!window.isSecureContext || !window.crypto?.subtle) return "insecure";
  // An enrolled device has its key, also while its screen lock is off.
  if (app.device) return null;
  const supported = isSupported();
  if (supported && (await isAvailable())) return null;
  // Without an authenticator of its own: a key of the browser alone where the operator permits it, else a security key.
  const info = await app.server.info().catch(() => null);
  app.plain = info?.get("features")?.get("web_plain_keys") === true;
  return supported || app.plain ? null : "webauthn";
}
