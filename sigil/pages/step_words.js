// The 24 words, which are in the page only while they are asked for.

import { copied, make, part, say } from "./page.js";
import { COUNT } from "./mnemonic.js";

export class Words {
  #wizard;
  #seen = false;

  constructor(wizard) {
    this.#wizard = wizard;
    part("show-words").addEventListener("click", () => this.#show());
    part("hide-words").addEventListener("click", () => this.#hide());
    part("print-words").addEventListener("click", () => window.print());
    part("copy-words").addEventListener("click", () => this.#copy());
    part("words-written").addEventListener("click", () => this.#written());
    // The browser's own print command prints the same sheet.
    window.addEventListener("beforeprint", () => this.#layPaper());
    window.addEventListener("afterprint", () => part("paper").replaceChildren());
  }

  enter() {
    this.#seen = false;
    this.#cover();
  }

  leave() {
    this.#cover();
  }

  #list() {
    return this.#wizard.memory.words.split(" ").map((word) => make("li", {}, word));
  }

  #show() {
    this.#seen = true;
    part("words").replaceChildren(...this.#list());
    part("words").removeAttribute("aria-hidden");
    this.#covered(false);
    this.#wizard.trouble("");
    say("The words are shown");
    part("hide-words").focus();
  }

  #hide() {
    this.#cover();
    say("The words are hidden");
    part("show-words").focus();
  }

  #cover() {
    part("words").replaceChildren(...Array.from({ length: COUNT }, () => make("li")));
    part("words").setAttribute("aria-hidden", "true");
    part("paper").replaceChildren();
    part("copied-words").hidden = true;
    this.#covered(true);
  }

  #covered(yes) {
    part("curtain").hidden = !yes;
    part("word-tools").hidden = yes;
  }

  #layPaper() {
    if (!part("curtain").hidden || !this.#wizard.memory.words) return;
    const when = new Date().toLocaleDateString("en", { dateStyle: "long" });
    part("paper").replaceChildren(
      make("h1", {}, this.#wizard.memory.setting.server_name),
      make("p", {}, `The 24 words of this Sigil server. ${when}.`),
      make("ol", { class: "words" }, ...this.#list()),
    );
  }

  async #copy() {
    if (await copied(this.#wizard.memory.words)) {
      part("copied-words").hidden = false;
      say("Copied. Other programs can read the clipboard.");
    } else {
      this.#wizard.trouble("The browser did not allow copying. Write the words down by hand.");
    }
  }

  #written() {
    if (this.#seen) this.#wizard.journey.go("confirm");
    else this.#wizard.trouble("You have not seen the words yet: show them, and write them down.");
  }
}
