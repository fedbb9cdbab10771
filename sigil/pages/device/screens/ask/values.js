// The parameters of an action as an indented list. Every member is in it, each text in full.

import { element, isolated } from "../../dom.js";

/** Depth from which lists are indented no further: 16 levels would leave a phone no space for the values. */
const INDENTED = 5;

/**
 * @param {(key: string) => string} t
 * @param {Iterable<[string, import("../../client/inbox.js").Value]>} members in the order of the signed text
 */
export function memberList(t, members, depth = 1) {
  const list = element("dl", { class: depth === 1 ? "params" : nestedClass(depth) });
  for (const [name, value] of members) {
    list.append(element("dt", {}, nameNode(t, name)), element("dd", {}, valueNode(t, value, depth)));
  }
  return list;
}

function nestedClass(depth) {
  return depth <= INDENTED ? "nested" : "nested deep";
}

function nameNode(t, name) {
  return name === "" ? literal(t("ask.no_name")) : isolated(name);
}

function valueNode(t, value, depth) {
  if (value === "") return literal(t("ask.empty_text"));
  if (typeof value === "string") return isolated(value);
  if (value === null) return literal(t("ask.null"));
  if (typeof value === "boolean") return literal(t(value ? "ask.true" : "ask.false"));
  if (typeof value === "number" || typeof value === "bigint") return isolated(String(value));
  if (Array.isArray(value)) return value.length ? valueList(t, value, depth + 1) : literal(t("ask.empty_list"));
  return value.size ? memberList(t, value, depth + 1) : literal(t("ask.empty_object"));
}

function valueList(t, values, depth) {
  const items = values.map((value) => element("li", {}, valueNode(t, value, depth)));
  return element("ol", { class: nestedClass(depth) }, ...items);
}

/** What is not text on the wire. Its look differs, so that the text "yes" is not taken for the value true. */
function literal(text) {
  return element("span", { class: "literal" }, text);
}
