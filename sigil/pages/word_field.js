// One field for one word, with its number and its own trouble.

import { make } from "./page.js";

export class WordField {
  /** `name` is "Word " for a field whose label shows its number only. */
  constructor(position, { spoken = "", attributes = {} } = {}) {
    const id = `word-${position}`;
    this.position = position;
    this.input = make("input", {
      id,
      type: "text",
      autocomplete: "off",
      autocapitalize: "none",
      autocorrect: "off",
      spellcheck: "false",
      translate: "no",
      enterkeyhint: "next",
      "aria-describedby": `${id}-trouble`,
      ...attributes,
    });
    this.troubled = make("span", { class: "field-trouble", id: `${id}-trouble` });
    const label = make("label", { for: id });
    if (spoken) label.append(make("span", { class: "unseen" }, spoken));
    label.append(spoken ? `${position}` : `Word ${position}`);
    this.node = make("div", { class: "word-field" }, label, this.input, this.troubled);
  }

  get word() {
    return this.input.value.normalize("NFKD").trim().toLowerCase();
  }

  set word(word) {
    this.input.value = word;
  }

  trouble(text) {
    this.troubled.textContent = text;
    if (text) this.input.setAttribute("aria-invalid", "true");
    else this.input.removeAttribute("aria-invalid");
  }
}
