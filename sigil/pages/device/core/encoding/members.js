// The members of a parsed object, by their types. null counts as absent (docs/protocol.md, introduction).

import { Refused } from "../refused.js";
import { NotStrictJson, parseJson } from "./strict_json.js";

const TYPES = {
  string: (value) => typeof value === "string",
  boolean: (value) => typeof value === "boolean",
  integer: (value) => typeof value === "number",
  object: (value) => value instanceof Map,
  list: (value) => Array.isArray(value),
};

/**
 * @param {*} value
 * @param {Object<string, string>} types by name: "string", or "string?" for one that may be absent
 * @param {string} code of the Refused
 * @returns {Object<string, *>} the named members alone; undefined for an absent one
 */
export function membersOf(value, types, code) {
  if (!(value instanceof Map)) throw new Refused(code, "it is no object");
  const found = {};
  for (const [name, type] of Object.entries(types)) {
    const member = value.get(name) ?? undefined;
    const isOptional = type.endsWith("?");
    if (member === undefined ? !isOptional : !TYPES[type.replace("?", "")](member)) {
      throw new Refused(code, `${name} must be of type ${type}`);
    }
    found[name] = member;
  }
  return found;
}

/** `parseJson`, with Refused in place of its error. */
export function parsed(text, code, texts) {
  try {
    return parseJson(text, texts);
  } catch (error) {
    if (error instanceof NotStrictJson) throw new Refused(code, error.message);
    throw error;
  }
}

/** The value, or Refused where a decoder returned null. */
export function required(value, code, message) {
  if (value === null) throw new Refused(code, message);
  return value;
}
