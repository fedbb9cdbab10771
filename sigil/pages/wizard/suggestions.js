// The list of suggestions under the field in which a word is typed: a combobox as in the ARIA practices.

import { element } from "../page.js";

const MAX_SHOWN = 6;

/** The attributes of a field with suggestions. */
export const COMBOBOX = {
  role: "combobox",
  "aria-autocomplete": "list",
  "aria-expanded": "false",
  "aria-controls": "suggestions",
};

export class Suggestions {
  #input = null;
  #active = -1;

  /** `onChoose(word)` is called when a suggestion is clicked. */
  constructor(onChoose) {
    this.onChoose = onChoose;
    this.node = element("ul", { id: "suggestions", class: "suggestions", role: "listbox", "aria-label": "Suggestions" });
    this.node.hidden = true;
    // Not on click: the field would first lose the focus, which hides the list.
    this.node.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      const option = event.target.closest("li");
      if (option) this.onChoose(option.textContent);
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
      ...words.slice(0, MAX_SHOWN).map((word, index) => element("li", { role: "option", id: `suggestion-${index}` }, word)),
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

  /** Moves the active suggestion by `by`, wrapping at both ends. Returns false when no list is open. */
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
