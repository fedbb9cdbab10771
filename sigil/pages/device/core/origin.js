// The grammar of an origin (docs/protocol.md, 1.1), as sigil/protocol/origin.py has it. Not `new URL` alone, which
// repairs what it reads: with user names, backslashes, blanks and percent signs, two parsers can disagree about the
// host.

const ORIGIN = /^(https?):\/\/(\[[0-9a-f:.]*\]|[^[\]/:?#@\\]+)(?::([0-9]{1,5}))?\/?$/i;
const URL_FORM = /^(https?:\/\/[!-~]+?)(?:\/[!-~]*)?$/i;
const LABEL = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;
// Browsers read a name that ends in such a label as an IPv4 address (WHATWG URL, "ends in a number").
const NUMBER = /^(?:[0-9]+|0x[0-9a-f]*)$/;
const IPV4 = /^(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(?:\.(?!$)|$)){4}$/;
const DEFAULT_PORTS = { http: 80, https: 443 };
const MAX_NAME = 253;

/** @returns {{ scheme: string, host: string, port: number, text: string } | null} text: the canonical form */
export function parseOrigin(text) {
  const found = /^[!-~]*$/.test(text) ? ORIGIN.exec(text) : null;
  if (!found) return null;
  const scheme = found[1].toLowerCase();
  const name = found[2].toLowerCase();
  const host = name.startsWith("[") ? ipv6(name) : isName(name) ? name : null;
  const port = found[3] ? Number(found[3]) : DEFAULT_PORTS[scheme];
  if (host === null || port < 1 || port > 65535) return null;
  const suffix = port === DEFAULT_PORTS[scheme] ? "" : `:${port}`;
  return { scheme, host, port, text: `${scheme}://${host}${suffix}` };
}

/** The canonical origin of a server: https, or http to this machine for development. @returns {string | null} */
export function serverOrigin(text) {
  const origin = parseOrigin(text);
  return origin && (origin.scheme === "https" || isLoopback(origin.host)) ? origin.text : null;
}

/** The canonical origin of a relay. A page on https cannot fetch from plain http but for localhost. */
export function relayOrigin(text) {
  return parseOrigin(text)?.text ?? null;
}

/** The canonical origin of an http or https URL that may have a path. @returns {string | null} */
export function originOfUrl(url) {
  const found = URL_FORM.exec(url);
  return found ? (parseOrigin(found[1])?.text ?? null) : null;
}

function isLoopback(host) {
  return host === "localhost" || host === "[::1]" || (IPV4.test(host) && host.startsWith("127."));
}

function isName(host) {
  const labels = host.split(".");
  if (NUMBER.test(labels.at(-1))) return IPV4.test(host);
  return host.length <= MAX_NAME && labels.every((label) => LABEL.test(label));
}

/** The canonical form is that of browsers. */
function ipv6(host) {
  try {
    return new URL(`http://${host}/`).hostname;
  } catch {
    return null;
  }
}
