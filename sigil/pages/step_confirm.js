// Three of the words, typed from paper.

import { part } from "./page.js";
import { drawPositions } from "./mnemonic.js";
import { WordField } from "./word_field.js";

const ASKED = 3;

export class Confirm {
  #wizard;
  #fields = [];

  constructor(wizard) {
    this.#wizard = wizard;
    part("confirm-form").addEventListener("submit", (event) => {
      event.preventDefault();
      wizard.attempt(part("confirm-form").querySelector("button.primary"), () => this.#confirm());
    });
  }

  enter() {
    this.#fields = drawPositions(ASKED).map((position) => new WordField(position));
    part("confirm-form").querySelector(".three").replaceChildren(...this.#fields.map((field) => field.node));
  }

  leave() {
    this.#fields = [];
    part("confirm-form").querySelector(".three").replaceChildren();
  }

  async #confirm() {
    const { journey, memory, server } = this.#wizard;
    const words = memory.words.split(" ");
    const wrong = this.#fields.filter((field) => field.word !== words[field.position - 1]);
    for (const field of this.#fields) {
      field.trouble(wrong.includes(field) ? (field.word ? "Not the word that was shown" : "Still empty") : "");
    }
    if (wrong.length > 0) {
      this.#wizard.trouble(
        wrong.length === 1
          ? `Word ${wrong[0].position} is not right yet. Look at your paper; the words can be shown again.`
          : "Some words are not right yet. Look at your paper; the words can be shown again.",
      );
      wrong[0].input.focus();
      return;
    }
    memory.identity = await server.check(memory.words);
    journey.go("identity");
  }
}
