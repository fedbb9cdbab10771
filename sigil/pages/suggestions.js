// The list under the field in which a word is typed: a combobox as the ARIA practices describe it.

import { make } from "./page.js";

const SHOWN = 6;

/** What a field needs to have suggestions. */
export const COMBOBOX = {
  role: "combobox",
  "aria-autocomplete": "list",
  "aria-expanded": "false",
  "aria-controls": "suggestions",
};

export class Suggestions {
  #input = null;
  #active = -1;

  /** `chosen(word)` is called for the field that has the list. */
  constructor(chosen) {
    this.chosen = chosen;
    this.node = make("ul", { id: "suggestions", class: "suggestions", role: "listbox", "aria-label": "Suggestions" });
    this.node.hidden = true;
    // Not on click: the field would lose the focus first, and with it the list.
    this.node.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      const option = event.target.closest("li");
      if (option) this.chosen(option.textContent);
    });
  }

  get active() {
    return this.node.children[this.#active]?.textContent ?? null;
  }

  show(input, words) {
    this.hide();
    if (words.length === 0) return;
    this.#input = input;
    this.node.replaceChildren(
      ...words.slice(0, SHOWN).map((word, index) => make("li", { role: "option", id: `suggestion-${index}` }, word)),
    );
    input.closest("li").append(this.node);
    input.setAttribute("aria-expanded", "true");
    this.node.hidden = false;
  }

  hide() {
    this.#input?.setAttribute("aria-expanded", "false");
    this.#input?.removeAttribute("aria-activedescendant");
    this.#input = null;
    this.#active = -1;
    this.node.hidden = true;
    this.node.replaceChildren();
  }

  /** Up and down through the list, round its ends. False when there is no list to move in. */
  move(by) {
    const options = [...this.node.children];
    if (options.length === 0) return false;
    const start = this.#active === -1 && by < 0 ? 0 : this.#active;
    this.#active = (start + by + options.length) % options.length;
    options.forEach((option, index) => option.setAttribute("aria-selected", `${index === this.#active}`));
    this.#input.setAttribute("aria-activedescendant", `suggestion-${this.#active}`);
    return true;
  }
}
