// Helpers with which the screens fill the page. They insert text as text, never as markup.

import { element } from "../page.js";

export { announce, copyToClipboard, element, showId, showPictogram } from "../page.js";

/** An element with a class and children: the most frequent one. */
export function box(className, ...children) {
  return element("div", { class: className }, ...children);
}

export function text(content, className) {
  return element("p", className ? { class: className } : {}, content);
}

/**
 * A button.
 * @param {string} label
 * @param {(event: MouseEvent) => unknown} onClick
 * @param {{kind?: "primary" | "danger" | "quiet", icon?: Element}} [looks] without a kind: an ordinary button.
 */
export function button(label, onClick, { kind, icon } = {}) {
  const node = element("button", { type: "button", ...(kind && { class: kind }) }, ...(icon ? [icon] : []), label);
  // A button that is disabled for assistive technology stays focusable, so its clicks are dropped here.
  node.addEventListener("click", (event) => node.getAttribute("aria-disabled") === "true" || onClick(event));
  return node;
}

/** Text of another party: its direction cannot reorder the text around it. */
export function isolated(content, attributes = {}) {
  return element("bdi", { dir: "auto", ...attributes }, content);
}

/**
 * A box with a text, above or below what it concerns.
 * @param {"note" | "warning" | "danger"} kind
 */
export function notice(kind, ...children) {
  return box(`notice ${kind}`, ...children);
}

/** A pictogram with its names. `label` names the list for screen readers; `names` are five words. */
export function pictogram(names, label) {
  const list = element("ul", { class: "pictogram", translate: "no", "aria-label": label });
  // Safari drops the role of a list without bullets.
  list.setAttribute("role", "list");
  for (const name of names) {
    const source = `/assets/pictograms/${encodeURIComponent(name)}.svg`;
    const picture = element("img", { src: source, alt: "", width: "52", height: "52" });
    list.append(element("li", {}, picture, element("span", { class: "name" }, name)));
  }
  return list;
}

/** Names with values: `rows` are [name, value] with text or a node as value. */
export function facts(rows) {
  const list = element("dl", { class: "facts" });
  for (const [name, value] of rows) list.append(element("dt", {}, name), element("dd", {}, value));
  return list;
}

/**
 * Fills the screen: heading, an optional paragraph, the body, and the buttons, which stay within reach of a thumb.
 * @param {object} app
 * @param {{title: string, lead?: string | Node, body?: Node[], actions?: Node[], step?: [number, number], mark?: Node,
 *   back?: boolean}} content `step` is [number, of]; `mark` stands above the heading; `back` adds a button that goes back.
 * @param {{keepFocus?: boolean}} [options]
 */
export function fill(app, content, { keepFocus = false } = {}) {
  const { title, lead, body = [], actions = [], step, mark, back = false } = content;
  const heading = element("h1", { tabindex: "-1" }, title);
  const parts = [];
  if (back) parts.push(button(app.t("back"), () => app.back(), { kind: "quiet back" }));
  if (step) parts.push(steps(app, step));
  if (mark) parts.push(mark);
  parts.push(heading);
  if (lead) parts.push(element("p", { class: "lead" }, lead));
  const content_ = box("content", ...parts, ...body);
  app.main.replaceChildren(content_);
  if (actions.length > 0) app.main.append(box("actions", ...actions));
  document.title = `${title} – ${app.serverName}`;
  if (keepFocus) return;
  window.scrollTo(0, 0);
  heading.focus({ preventScroll: true });
}

/** The steps of a task, as dots and as a text. */
function steps(app, [number, of]) {
  const dots = Array.from({ length: of }, (_, at) => element("span", at < number ? { class: "past" } : {}));
  const shown = element("span", { class: "dots", "aria-hidden": "true" }, ...dots);
  return element("p", { class: "steps" }, shown, app.t("step", { number, of }));
}

/** A round mark above the heading. `kind` is a name of the table; the heading has the meaning as text. */
export function mark(kind) {
  const paths = {
    good: "M15 25.5 L21.5 32 L34 18",
    bad: "M17 17 L31 31 M31 17 L17 31",
    wait: "M24 14 V25 L31 29",
    plain: "M24 14 V27 M24 33.5 V34",
    calm: "M15 25.5 L21.5 32 L34 18",
    bell: "M15 31 H33 C31 29 30.5 27 30.5 23 A6.5 6.5 0 0 0 17.5 23 C17.5 27 17 29 15 31 Z M22 35 H26 M24 13.5 V16",
    key: "M24.5 24 A5.5 5.5 0 1 0 13.5 24 A5.5 5.5 0 1 0 24.5 24 M24.5 24 H35 V28.5 M30 24 V28",
    phone: "M18 13 H30 V35 H18 Z M23 31 H25",
    window: "M13 16 H35 V32 H13 Z M13 21 H35",
  };
  const svg = (tag, attributes) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
  };
  const drawing = svg("svg", { viewBox: "0 0 48 48", width: 56, height: 56, class: `mark ${kind}`, "aria-hidden": "true" });
  drawing.append(svg("circle", { cx: 24, cy: 24, r: 21.5 }), svg("path", { d: paths[kind] }));
  return drawing;
}
