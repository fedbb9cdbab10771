// The token and the links of an enrolment: what a person scans, pastes or types (docs/protocol.md, 5.5).

import { base64url, fromBase64url, fromHex, hex } from "../encoding/bytes.js";
import { serverOrigin } from "../origin.js";

const TOKEN = /^[0-9A-HJKMNP-TV-Z]{12}$/;
const MAX_TYPED = 64;
const MAX_LINK = 1024;
const SIGIL_LINK = /^sigil:enrol\?u=([A-Za-z0-9._~%-]+)&s=([A-Za-z0-9_-]{43})&t=([0-9A-Z]{12})$/;
const WEB_LINK = /^([!-~]+)\/device\/#s=([A-Za-z0-9_-]{43})&t=([0-9A-Z]{12})$/;

/** @typedef {{ baseUrl: string, serverId: string, token: string }} Link */

/**
 * The canonical token of what a person typed: any case, spaces and hyphens anywhere, I and L for 1, O for 0.
 * @returns {string | null}
 */
export function normalisedToken(text) {
  // ASCII alone: toUpperCase makes an S of U+017F.
  if (text.length > MAX_TYPED || !/^[\0-\x7f]*$/.test(text)) return null;
  const token = text.replace(/[ -]/g, "").toUpperCase().replace(/O/g, "0").replace(/[IL]/g, "1");
  return TOKEN.test(token) ? token : null;
}

/** `sigil:enrol?u=…&s=…&t=…`, exactly as the server writes it. @returns {Link | null} */
export function parseSigilLink(text) {
  const found = text.length <= MAX_LINK ? SIGIL_LINK.exec(text) : null;
  if (!found) return null;
  const baseUrl = serverOrigin(unquoted(found[1]) ?? "");
  const link = linkOf(baseUrl, found[2], found[3]);
  return link && sigilLink(link) === text ? link : null;
}

/** `<SIGIL_PUBLIC_URL>/device/#s=…&t=…`, exactly as the server writes it. @returns {Link | null} */
export function parseWebLink(text) {
  const found = text.length <= MAX_LINK ? WEB_LINK.exec(text) : null;
  const baseUrl = found && serverOrigin(found[1]);
  return found && baseUrl === found[1] ? linkOf(baseUrl, found[2], found[3]) : null;
}

function linkOf(baseUrl, server, token) {
  const serverId = fromBase64url(server);
  return baseUrl && serverId && TOKEN.test(token) ? { baseUrl, serverId: hex(serverId), token } : null;
}

function sigilLink({ baseUrl, serverId, token }) {
  // Every byte but the unreserved characters of RFC 3986; encodeURIComponent leaves five more, which no origin has.
  return `sigil:enrol?u=${encodeURIComponent(baseUrl)}&s=${base64url(fromHex(serverId, 32))}&t=${token}`;
}

function unquoted(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}
