// Helpers with which the steps change the page. They insert text as text, never as markup.

export const byId = (id) => document.getElementById(id);

export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** Announces a text to screen readers, once and without interrupting; it is not visible. */
export function announce(text) {
  byId("announcement").textContent = "";
  // A live region whose text is set twice in one task stays silent.
  setTimeout(() => (byId("announcement").textContent = text));
}

/** Fills a list with the five emoji and their names. `speakable` is the names, separated by single spaces. */
export function showPictogram(list, pictures, speakable) {
  const names = speakable.split(" ");
  list.replaceChildren(
    ...pictures.map((picture, index) =>
      element(
        "li",
        {},
        element("span", { class: "emoji", "aria-hidden": "true" }, picture),
        element("span", { class: "name" }, names[index]),
      ),
    ),
  );
}

/** Shows a long identifier in groups of eight characters. When it is copied, it has no gaps. */
export function showId(node, text) {
  node.replaceChildren(...text.match(/.{1,8}/g).map((group) => element("span", {}, group)));
}

/** The text quoted as one word of a shell command. */
export function shellQuote(text) {
  return /^[\w./:@%+=-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/** Returns false when the browser does not let the page write to the clipboard. */
export async function copyToClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}
