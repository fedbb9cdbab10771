// The step that shows the 24 words. They are in the page only while they are shown.

import { announce, byId, copyToClipboard, element } from "../../page.js";
import { COUNT } from "../mnemonic.js";
import { RecoveryKit } from "../recovery_kit.js";

export class Words {
  #wizard;
  #seen = false;
  #kit = null;

  constructor(wizard) {
    this.#wizard = wizard;
    byId("show-words").addEventListener("click", () => this.#show());
    byId("hide-words").addEventListener("click", () => this.#hide());
    byId("print-words").addEventListener("click", () => window.print());
    byId("copy-words").addEventListener("click", () => this.#copy());
    byId("words-written").addEventListener("click", () => this.#confirmWritten());
    // The browser's own print command prints the same sheet as the button.
    window.addEventListener("beforeprint", () => this.#fillPrintSheet());
    window.addEventListener("afterprint", () => byId("print-sheet").replaceChildren());
  }

  enter() {
    this.#setSeen(false);
    const { initState, newIdentity } = this.#wizard.memory;
    this.#kit = new RecoveryKit({ ...initState, ...newIdentity });
    this.#clearWords();
  }

  leave() {
    this.#clearWords();
  }

  #list() {
    return this.#wizard.memory.words.split(" ").map((word) => element("li", {}, word));
  }

  #show() {
    this.#setSeen(true);
    byId("words").replaceChildren(...this.#list());
    byId("words").removeAttribute("aria-hidden");
    this.#setCovered(false);
    this.#wizard.showError("");
    announce("The words are shown");
    byId("hide-words").focus();
  }

  #hide() {
    this.#clearWords();
    announce("The words are hidden");
    byId("show-words").focus();
  }

  #clearWords() {
    byId("words").replaceChildren(...Array.from({ length: COUNT }, () => element("li")));
    byId("words").setAttribute("aria-hidden", "true");
    byId("print-sheet").replaceChildren();
    byId("copied-words").hidden = true;
    this.#setCovered(true);
  }

  #setSeen(seen) {
    this.#seen = seen;
    // Until then the button to press is the one that shows them.
    byId("words-written").classList.toggle("primary", seen);
  }

  #setCovered(covered) {
    byId("words-cover").hidden = !covered;
    byId("word-tools").hidden = covered;
    byId("print-note").hidden = covered;
  }

  #fillPrintSheet() {
    if (!byId("words-cover").hidden || !this.#wizard.memory.words) return;
    this.#kit.fill(byId("print-sheet"), this.#wizard.memory.words.split(" "));
  }

  async #copy() {
    if (await copyToClipboard(this.#wizard.memory.words)) {
      byId("copied-words").hidden = false;
      announce("Copied. Other programs can read the clipboard.");
    } else {
      this.#wizard.showError("The browser did not allow copying. Write the words down by hand.");
    }
  }

  #confirmWritten() {
    if (this.#seen) this.#wizard.navigation.go("confirm");
    else this.#wizard.showError("You have not seen the words yet. Show them and write them down.");
  }
}
