// Canonical JSON (RFC 8785, JCS) of what `strict_json.js` reads, without fractions.

import { OtherNumber } from "./strict_json.js";

/** The value has no canonical form here: a fraction, an integer beyond 2^53-1, a lone surrogate, another type. */
export class NotCanonical extends Error {}

/**
 * @param {string | number | boolean | null | Array | Map<string, *>} value a plain object is not accepted: it reorders
 *   names that are numbers, and `__proto__` is no member of it
 * @returns {string}
 * @throws {NotCanonical}
 */
export function jcs(value) {
  if (value === null || typeof value === "boolean") return String(value);
  if (typeof value === "string") return string(value);
  if (typeof value === "number") return integer(value);
  if (Array.isArray(value)) return `[${value.map(jcs).join(",")}]`;
  if (value instanceof Map) return object(value);
  throw new NotCanonical(value instanceof OtherNumber ? "a number is no integer" : "a value of another type");
}

/** The JCS of an object that is written in code: its names are fixed. */
export function jcsOf(members) {
  return jcs(new Map(Object.entries(members)));
}

function string(text) {
  if (!text.isWellFormed()) throw new NotCanonical("a string contains half of a surrogate pair");
  // JSON.stringify writes a well-formed string as RFC 8785, 3.2.2.2, does.
  return JSON.stringify(text);
}

function integer(value) {
  if (!Number.isSafeInteger(value) || Object.is(value, -0)) throw new NotCanonical("a number is no integer");
  return String(value);
}

function object(members) {
  // Without a comparison function, sort compares UTF-16 code units, as RFC 8785, 3.2.3, does.
  const names = [...members.keys()].sort();
  return `{${names.map((name) => `${string(name)}:${jcs(members.get(name))}`).join(",")}}`;
}
