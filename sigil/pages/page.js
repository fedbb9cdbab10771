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

/** Fills a list with the five pictures and their names. `speakable` is the names, separated by single spaces. */
export function showPictogram(list, speakable) {
  list.replaceChildren(
    ...speakable.split(" ").map((name) => {
      // Our own drawings: emoji fonts differ from device to device, and some systems have none.
      const source = `/assets/pictograms/${encodeURIComponent(name)}.svg`;
      // The name beside it is its text.
      const picture = element("img", { src: source, alt: "", width: "52", height: "52" });
      return element("li", {}, picture, element("span", { class: "name" }, name));
    }),
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
