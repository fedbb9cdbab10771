// The push_token of a device with Web Push: the JCS of exactly {app, auth, endpoint, key, p256dh} (docs/protocol.md,
// 6). The relay checks all of it; these checks give a person an error before a signature leaves the device.

import { base64url } from "./encoding/bytes.js";
import { jcsOf } from "./encoding/jcs.js";
import { parseOrigin, serverOrigin } from "./origin.js";
import { Refused } from "./refused.js";

const MAX_ENDPOINT = 1024;
const MAX_APP = 512;
const ENDPOINT = /^https:\/\/([a-z0-9.-]+)\/[!-~]*$/;
const APP = /^(https?:\/\/[a-z0-9.-]+(?::[0-9]{1,5})?)\/[A-Za-z0-9._~:/?[\]@!$&'()*+,;=%-]*$/;

/**
 * @param {{ app: string, endpoint: string, auth: Uint8Array, key: Uint8Array, p256dh: Uint8Array }} parts app: the page
 *   that a notification opens; key: the relay's VAPID key that the subscription was made with
 * @returns {string} throws Refused "PUSH_TOKEN_MALFORMED"
 */
export function webPushToken({ app, endpoint, auth, key, p256dh }) {
  const host = endpoint.length <= MAX_ENDPOINT && !/[#\\]/.test(endpoint) && ENDPOINT.exec(endpoint)?.[1];
  if (!host || parseOrigin(`https://${host}`)?.host !== host || /^[0-9.]*$/.test(host)) throw malformed("endpoint");
  const origin = app.length <= MAX_APP && APP.exec(app)?.[1];
  if (!origin || serverOrigin(origin) !== origin) throw malformed("app");
  if (auth.length !== 16) throw malformed("auth");
  if (!isPoint(key)) throw malformed("key");
  if (!isPoint(p256dh)) throw malformed("p256dh");
  return jcsOf({ app, auth: base64url(auth), endpoint, key: base64url(key), p256dh: base64url(p256dh) });
}

export const isPoint = (bytes) => bytes.length === 65 && bytes[0] === 4;

function malformed(name) {
  return new Refused("PUSH_TOKEN_MALFORMED", `${name} is not of the documented form`);
}
