// A field for one word, with its number and its error text.

import { element } from "../page.js";

export class WordField {
  /** `spoken` is "Word " for a field whose label shows only its number: screen readers get both. */
  constructor(position, { spoken = "", attributes = {} } = {}) {
    const id = `word-${position}`;
    this.position = position;
    this.input = element("input", {
      id,
      type: "text",
      autocomplete: "off",
      autocapitalize: "none",
      autocorrect: "off",
      spellcheck: "false",
      translate: "no",
      enterkeyhint: "next",
      "aria-describedby": `${id}-error`,
      ...attributes,
    });
    this.errorNode = element("span", { class: "field-error", id: `${id}-error` });
    const label = element("label", { for: id });
    if (spoken) label.append(element("span", { class: "visually-hidden" }, spoken));
    label.append(spoken ? `${position}` : `Word ${position}`);
    this.node = element("div", { class: "word-field" }, label, this.input, this.errorNode);
  }

  get word() {
    return this.input.value.normalize("NFKD").trim().toLowerCase();
  }

  set word(word) {
    this.input.value = word;
  }

  showError(text) {
    this.errorNode.textContent = text;
    if (text) this.input.setAttribute("aria-invalid", "true");
    else this.input.removeAttribute("aria-invalid");
  }
}
