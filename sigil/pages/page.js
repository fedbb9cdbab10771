// The few ways in which the steps touch the page. Text goes in as text, never as markup.

export const part = (id) => document.getElementById(id);

export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** For those who listen: said once, politely, shown nowhere. */
export function say(text) {
  part("said").textContent = "";
  // A region that gets the same text twice in one turn stays silent.
  setTimeout(() => (part("said").textContent = text));
}

/** Five pictures with their names into a list. `speakable` is the names, single blanks between them. */
export function showPictogram(list, pictures, speakable) {
  const names = speakable.split(" ");
  list.replaceChildren(
    ...pictures.map((picture, index) =>
      make(
        "li",
        {},
        make("span", { class: "emoji", "aria-hidden": "true" }, picture),
        make("span", { class: "name" }, names[index]),
      ),
    ),
  );
}

/** A long identifier in groups of eight for the eye. Copied, it is one word. */
export function showId(node, text) {
  node.replaceChildren(...text.match(/.{1,8}/g).map((group) => make("span", {}, group)));
}

/** As one word of a shell's command line. */
export function quoted(text) {
  return /^[\w./:@%+=-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/** False when the browser does not let pages write to the clipboard. */
export async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}
