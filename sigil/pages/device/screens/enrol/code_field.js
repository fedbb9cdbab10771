// The field for the code of an enrolment: groups of four as the person types, and a sentence for each mistake.

import { element } from "../../dom.js";

const LENGTH = 12;
const GROUP = 4;
const SIGNIFICANT = /[^\s-]/g;

/** XXXX-XXXX-XXXX of what was typed so far. Links stay as they are. */
function grouped(text) {
  if (text.includes(":")) return text.trim();
  const characters = (text.match(SIGNIFICANT) ?? []).join("").toUpperCase();
  return characters.match(/.{1,4}/gu)?.join("-") ?? "";
}

/**
 * What is wrong with a text that is no code, as a key of texts with its values.
 * @returns {[string, Record<string, unknown>]}
 */
export function mistake(text) {
  if (text.trim() === "") return ["enrol.code.empty", {}];
  if (text.includes(":")) return ["enrol.code.bad_link", {}];
  const characters = text.match(SIGNIFICANT) ?? [];
  const foreign = characters.find((character) => !/^[0-9A-TV-Z]$/i.test(character));
  if (foreign) return ["enrol.code.bad_character", { character: foreign.toUpperCase() }];
  return ["enrol.code.bad_length", { length: LENGTH, count: characters.length }];
}

/** The field with its label and its error. */
export class CodeField {
  /** @param {object} app */
  constructor(app) {
    this.input = element("input", {
      id: "code",
      type: "text",
      class: "code-field",
      autocapitalize: "characters",
      autocomplete: "off",
      autocorrect: "off",
      spellcheck: "false",
      enterkeyhint: "go",
      maxlength: "1024",
      placeholder: "XXXX-XXXX-XXXX",
      "aria-describedby": "code-error",
    });
    this.error = element("p", { id: "code-error", class: "field-error", role: "alert" });
    this.node = element("div", {}, element("label", { for: "code" }, app.t("enrol.code.label")), this.input, this.error);
    this.input.addEventListener("input", (event) => event.isComposing || this.#group());
    this.input.addEventListener("compositionend", () => this.#group());
  }

  get text() {
    return this.input.value;
  }

  set text(text) {
    this.input.value = grouped(text);
    this.input.dispatchEvent(new Event("input", { bubbles: true }));
  }

  /** Shows an error, none with an empty text. */
  showError(text) {
    this.error.textContent = text;
    if (text) this.input.setAttribute("aria-invalid", "true");
    else this.input.removeAttribute("aria-invalid");
  }

  #group() {
    const { value, selectionStart } = this.input;
    const shown = grouped(value);
    if (shown !== value) {
      // The caret stays behind the character that was typed.
      const before = (value.slice(0, selectionStart).match(SIGNIFICANT) ?? []).length;
      this.input.value = shown;
      const caret = before === 0 ? 0 : before + Math.floor((before - 1) / GROUP);
      this.input.setSelectionRange(caret, caret);
    }
    this.showError("");
  }
}
