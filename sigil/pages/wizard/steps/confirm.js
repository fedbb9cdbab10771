// The step in which the person types three of the words from paper.

import { byId } from "../../page.js";
import { randomPositions } from "../mnemonic.js";
import { WordField } from "../word_field.js";

const WORDS_TO_CONFIRM = 3;

export class Confirm {
  #wizard;
  #fields = [];

  constructor(wizard) {
    this.#wizard = wizard;
    byId("confirm-form").addEventListener("submit", (event) => {
      event.preventDefault();
      wizard.run(byId("confirm-form").querySelector("button.primary"), () => this.#confirm());
    });
  }

  enter() {
    this.#fields = randomPositions(WORDS_TO_CONFIRM).map((position) => new WordField(position));
    byId("confirm-form").querySelector(".three").replaceChildren(...this.#fields.map((field) => field.node));
  }

  leave() {
    this.#fields = [];
    byId("confirm-form").querySelector(".three").replaceChildren();
  }

  async #confirm() {
    const { navigation, memory, server } = this.#wizard;
    const words = memory.words.split(" ");
    const wrong = this.#fields.filter((field) => field.word !== words[field.position - 1]);
    for (const field of this.#fields) {
      field.showError(wrong.includes(field) ? (field.word ? "Not the word that was shown" : "Still empty") : "");
    }
    if (wrong.length > 0) {
      this.#wizard.showError(
        wrong.length === 1
          ? `Word ${wrong[0].position} is not right yet. Check your paper; you can show the words again.`
          : "Some words are not right yet. Check your paper; you can show the words again.",
      );
      wrong[0].input.focus();
      return;
    }
    memory.identity = await server.check(memory.words);
    navigation.go("identity");
  }
}
