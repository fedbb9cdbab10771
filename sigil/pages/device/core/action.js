// The action that a person approves: `{type, description, params?}` and its canonical text (docs/protocol.md, 2.4).

import { utf8 } from "./encoding/bytes.js";
import { jcs, NotCanonical } from "./encoding/jcs.js";
import { parsed } from "./encoding/members.js";
import { characters, isDisplayable } from "./display_text.js";
import { Refused } from "./refused.js";

const MAX_JCS_BYTES = 2048;
const MAX_DEPTH = 16;
const MAX_DESCRIPTION = 256;
const MEMBERS = new Set(["type", "description", "params"]);
const TYPE = /^[a-z0-9_.:-]{1,64}$/;
const REFUSED = "ACTION_REFUSED";

/**
 * The action of its text; Refused "ACTION_REFUSED" unless the text already is its JCS. Another parser could read a
 * second spelling differently: this device would then show another action than a second device or a log.
 *
 * @param {string} text
 * @returns {{ type: string, description: string, params: Map<string, *> | null }}
 */
export function parseAction(text) {
  const members = parsed(text, REFUSED);
  if (!(members instanceof Map)) throw new Refused(REFUSED, "the action is no object");
  if ([...members.keys()].some((name) => !MEMBERS.has(name))) throw new Refused(REFUSED, "an unknown member");
  const [type, description, params] = ["type", "description", "params"].map((name) => members.get(name));
  if (typeof type !== "string" || !TYPE.test(type)) throw new Refused(REFUSED, "type is malformed");
  if (typeof description !== "string" || characters(description) > MAX_DESCRIPTION) {
    throw new Refused(REFUSED, "description is missing or too long");
  }
  if (!isDisplayable(description)) throw new Refused(REFUSED, "description is not displayable text");
  if (params !== undefined && !(params instanceof Map)) throw new Refused(REFUSED, "params is no object");
  if (params) checkShown(params, 1);
  if (canonical(members) !== text) throw new Refused(REFUSED, "the action is not sent as canonical JSON");
  if (utf8(text).length > MAX_JCS_BYTES) throw new Refused(REFUSED, "the action is too large");
  return { type, description, params: params ?? null };
}

function canonical(members) {
  try {
    return jcs(members);
  } catch (error) {
    if (error instanceof NotCanonical) throw new Refused(REFUSED, error.message);
    throw error;
  }
}

/** An invisible character, an escape or a newline in params could change how the rest of a request reads. */
function checkShown(value, depth) {
  if (typeof value === "string") {
    if (value && !isDisplayable(value)) throw new Refused(REFUSED, "a text in params is not displayable");
    return;
  }
  if (!(value instanceof Map) && !Array.isArray(value)) return;
  if (depth > MAX_DEPTH) throw new Refused(REFUSED, "params is nested too deep");
  for (const item of value.values()) checkShown(item, depth + 1);
  if (value instanceof Map) for (const name of value.keys()) checkShown(name, depth + 1);
}
