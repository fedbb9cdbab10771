// The step with 24 fields for the words of an earlier identity.

import { announce, byId, element } from "../../page.js";
import { COUNT, WordList, splitWords } from "../mnemonic.js";
import { COMBOBOX, Suggestions } from "../suggestions.js";
import { WordField } from "../word_field.js";
import { missingWordsText, mnemonicErrorText } from "../refusals.js";
import { RequestError } from "../server.js";

export class Restore {
  #wizard;
  #form = byId("restore-form");
  #grid = this.#form.querySelector(".word-fields");
  #fields = [];
  #list = new WordList();
  #suggestions = new Suggestions((word) => this.#accept(this.#current(), word));

  constructor(wizard) {
    this.#wizard = wizard;
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      wizard.run(this.#form.querySelector("button.primary"), () => this.#check());
    });
    this.#grid.addEventListener("input", (event) => this.#onInput(this.#fieldOf(event.target)));
    this.#grid.addEventListener("keydown", (event) => this.#onKeydown(event, this.#fieldOf(event.target)));
    this.#grid.addEventListener("paste", (event) => this.#onPaste(event, this.#fieldOf(event.target)));
    this.#grid.addEventListener("focusout", (event) => this.#onFocusOut(this.#fieldOf(event.target)));
  }

  async enter() {
    this.#fields = Array.from(
      { length: COUNT },
      (_, index) => new WordField(index + 1, { spoken: "Word ", attributes: COMBOBOX }),
    );
    this.#grid.replaceChildren(...this.#fields.map((field) => element("li", {}, field.node)));
    this.#showCount();
    if (this.#list.words.length > 0) return;
    // Without the list the fields have no suggestions, and the server validates the words.
    this.#list = await WordList.load().catch(() => new WordList());
    this.#validateTyped();
  }

  /** Validates words that were typed before the list arrived. */
  #validateTyped() {
    const current = this.#current();
    for (const field of this.#fields) if (field !== current) this.#onFocusOut(field);
    if (current && current.word !== "") this.#onInput(current);
  }

  leave() {
    this.#suggestions.hide();
    this.#fields = [];
    this.#grid.replaceChildren();
  }

  #fieldOf(input) {
    return this.#fields.find((field) => field.input === input);
  }

  #current() {
    return this.#fieldOf(document.activeElement);
  }

  #onInput(field) {
    if (/\S\s+\S/.test(field.input.value)) return this.#fillFrom(field, splitWords(field.input.value));
    if (/\S\s$/.test(field.input.value)) return this.#accept(field, this.#list.complete(field.word));
    const candidates = this.#list.startingWith(field.word);
    const finished = candidates.length === 1 && candidates[0] === field.word;
    field.showError(field.word !== "" && candidates.length === 0 && this.#list.rejects(field.word) ? "Not in the list" : "");
    this.#suggestions.show(field.input, finished ? [] : candidates);
    this.#showCount();
  }

  #onKeydown(event, field) {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      if (this.#suggestions.move(event.key === "ArrowDown" ? 1 : -1)) event.preventDefault();
    } else if (event.key === "Escape") {
      this.#suggestions.hide();
    } else if (event.key === "Enter" && (this.#suggestions.active || field.position < COUNT)) {
      event.preventDefault();
      if (field.word !== "") this.#accept(field, this.#suggestions.active ?? this.#list.complete(field.word));
    }
  }

  #onPaste(event, field) {
    const words = splitWords(event.clipboardData.getData("text"));
    if (words.length < 2) return;
    event.preventDefault();
    this.#fillFrom(field, words);
  }

  /** Fills in all words or none: half a list in the wrong place would be hard to notice. */
  #fillFrom(field, words) {
    const first = words.length === COUNT ? 1 : field.position;
    if (first - 1 + words.length > COUNT) {
      if (field.input.value.includes(" ")) field.word = "";
      this.#wizard.showError(`That is ${words.length} words, too many from this field on. An identity has ${COUNT} words.`);
      return;
    }
    this.#suggestions.hide();
    words.forEach((word, index) => {
      this.#fields[first - 1 + index].word = word;
      this.#validate(this.#fields[first - 1 + index]);
    });
    this.#wizard.showError("");
    this.#showCount();
    announce(words.length === 1 ? "1 word filled in" : `${words.length} words filled in`);
    this.#fields[Math.min(first - 1 + words.length, COUNT) - 1].input.focus();
  }

  #accept(field, word) {
    field.word = word;
    this.#suggestions.hide();
    this.#validate(field);
    this.#showCount();
    (this.#fields[field.position]?.input ?? this.#form.querySelector("button.primary")).focus();
  }

  #onFocusOut(field) {
    if (!field) return; // the step is being left
    this.#suggestions.hide();
    field.word = this.#list.complete(field.word);
    this.#validate(field);
    this.#showCount();
  }

  #validate(field) {
    const wrong = field.word !== "" && this.#list.rejects(field.word);
    field.showError(wrong ? "Not in the list" : "");
    if (wrong) announce(`Word ${field.position} is not in the list`);
  }

  #showCount() {
    const filled = this.#fields.filter((field) => field.word !== "").length;
    byId("restore-count").textContent = `${filled} of ${COUNT} words`;
  }

  async #check() {
    const { navigation, memory, server } = this.#wizard;
    for (const field of this.#fields) field.word = this.#list.complete(field.word);
    const words = this.#fields.map((field) => field.word);
    const empty = this.#fields.filter((field) => field.word === "").map((field) => field.position);
    if (empty.length > 0) return this.#showErrorAt(empty, missingWordsText(empty), "Missing");
    const unknown = this.#fields.filter((field) => this.#list.rejects(field.word)).map((field) => field.position);
    if (unknown.length > 0) return this.#showErrorAt(unknown, mnemonicErrorText({ unknown }));
    try {
      memory.identity = await server.check(words.join(" "));
    } catch (error) {
      if (!(error instanceof RequestError) || error.code !== "INVALID_REQUEST") throw error;
      return this.#showErrorAt(error.details.unknown ?? [], mnemonicErrorText(error.details));
    }
    memory.words = words.join(" ");
    navigation.go("identity");
  }

  /** Marks the fields that are wrong, and focuses the first. */
  #showErrorAt(positions, text, mark = "Check this") {
    this.#wizard.showError(text);
    for (const position of positions) this.#fields[position - 1].showError(mark);
    if (positions.length > 0) this.#fields[positions[0] - 1].input.focus();
  }
}
