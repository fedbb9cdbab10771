// 24 fields for words that somebody wrote down once.

import { make, part, say } from "./page.js";
import { COUNT, WordList, split } from "./mnemonic.js";
import { COMBOBOX, Suggestions } from "./suggestions.js";
import { WordField } from "./word_field.js";
import { wrongWords } from "./refusals.js";
import { Refusal } from "./server.js";

export class Restore {
  #wizard;
  #form = part("restore-form");
  #grid = this.#form.querySelector(".word-fields");
  #fields = [];
  #list = new WordList();
  #suggestions = new Suggestions((word) => this.#accept(this.#current(), word));

  constructor(wizard) {
    this.#wizard = wizard;
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      wizard.attempt(this.#form.querySelector("button.primary"), () => this.#check());
    });
    this.#grid.addEventListener("input", (event) => this.#typed(this.#of(event.target)));
    this.#grid.addEventListener("keydown", (event) => this.#pressed(event, this.#of(event.target)));
    this.#grid.addEventListener("paste", (event) => this.#pasted(event, this.#of(event.target)));
    this.#grid.addEventListener("focusout", (event) => this.#left(this.#of(event.target)));
  }

  async enter() {
    this.#fields = Array.from(
      { length: COUNT },
      (_, index) => new WordField(index + 1, { spoken: "Word ", attributes: COMBOBOX }),
    );
    this.#grid.replaceChildren(...this.#fields.map((field) => make("li", {}, field.node)));
    this.#count();
    if (this.#list.words.length > 0) return;
    // Without the list the fields stay plain, and the server judges.
    this.#list = await WordList.fetched().catch(() => new WordList());
    this.#catchUp();
  }

  /** With what was typed while the list was on its way. */
  #catchUp() {
    const current = this.#current();
    for (const field of this.#fields) if (field !== current) this.#left(field);
    if (current && current.word !== "") this.#typed(current);
  }

  leave() {
    this.#suggestions.hide();
    this.#fields = [];
    this.#grid.replaceChildren();
  }

  #of(input) {
    return this.#fields.find((field) => field.input === input);
  }

  #current() {
    return this.#of(document.activeElement);
  }

  #typed(field) {
    if (/\S\s+\S/.test(field.input.value)) return this.#spread(field, split(field.input.value));
    if (/\S\s$/.test(field.input.value)) return this.#accept(field, this.#list.completed(field.word));
    const candidates = this.#list.startingWith(field.word);
    const finished = candidates.length === 1 && candidates[0] === field.word;
    field.trouble(field.word !== "" && candidates.length === 0 && this.#list.objectsTo(field.word) ? "Not in the list" : "");
    this.#suggestions.show(field.input, finished ? [] : candidates);
    this.#count();
  }

  #pressed(event, field) {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      if (this.#suggestions.move(event.key === "ArrowDown" ? 1 : -1)) event.preventDefault();
    } else if (event.key === "Escape") {
      this.#suggestions.hide();
    } else if (event.key === "Enter" && (this.#suggestions.active || field.position < COUNT)) {
      event.preventDefault();
      if (field.word !== "") this.#accept(field, this.#suggestions.active ?? this.#list.completed(field.word));
    }
  }

  #pasted(event, field) {
    const words = split(event.clipboardData.getData("text"));
    if (words.length < 2) return;
    event.preventDefault();
    this.#spread(field, words);
  }

  /** All of them, or none: half a list in the wrong place would be hard to see. */
  #spread(field, words) {
    const first = words.length === COUNT ? 1 : field.position;
    if (first - 1 + words.length > COUNT) {
      if (field.input.value.includes(" ")) field.word = "";
      this.#wizard.trouble(`That is ${words.length} words, which do not fit from here on. An identity has ${COUNT}.`);
      return;
    }
    this.#suggestions.hide();
    words.forEach((word, index) => {
      this.#fields[first - 1 + index].word = word;
      this.#judge(this.#fields[first - 1 + index]);
    });
    this.#wizard.trouble("");
    this.#count();
    say(`${words.length} words filled in`);
    this.#fields[Math.min(first - 1 + words.length, COUNT) - 1].input.focus();
  }

  #accept(field, word) {
    field.word = word;
    this.#suggestions.hide();
    this.#judge(field);
    this.#count();
    (this.#fields[field.position]?.input ?? this.#form.querySelector("button.primary")).focus();
  }

  #left(field) {
    if (!field) return; // the step is being left
    this.#suggestions.hide();
    field.word = this.#list.completed(field.word);
    this.#judge(field);
    this.#count();
  }

  #judge(field) {
    const wrong = field.word !== "" && this.#list.objectsTo(field.word);
    field.trouble(wrong ? "Not in the list" : "");
    if (wrong) say(`Word ${field.position} is not in the list`);
  }

  #count() {
    const filled = this.#fields.filter((field) => field.word !== "").length;
    part("restore-count").textContent = `${filled} of ${COUNT} words`;
  }

  async #check() {
    const { journey, memory, server } = this.#wizard;
    for (const field of this.#fields) field.word = this.#list.completed(field.word);
    const words = this.#fields.map((field) => field.word);
    const empty = words.findIndex((word) => word === "");
    if (empty !== -1) return this.#point([empty + 1], `Word ${empty + 1} is missing.`);
    const unknown = this.#fields.filter((field) => this.#list.objectsTo(field.word)).map((field) => field.position);
    if (unknown.length > 0) return this.#point(unknown, wrongWords({ unknown }));
    try {
      memory.identity = await server.check(words.join(" "));
    } catch (refusal) {
      if (!(refusal instanceof Refusal) || refusal.code !== "INVALID_REQUEST") throw refusal;
      const { unknown: strange = [], likely = [] } = refusal.details;
      return this.#point(strange.length > 0 ? strange : likely, wrongWords(refusal.details));
    }
    memory.words = words.join(" ");
    journey.go("identity");
  }

  /** To the first of the fields that want a look. */
  #point(positions, told) {
    this.#wizard.trouble(told);
    for (const position of positions) this.#fields[position - 1].trouble("Look here");
    if (positions.length > 0) this.#fields[positions[0] - 1].input.focus();
  }
}
