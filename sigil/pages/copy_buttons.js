// Buttons that copy the text of another element, and show for a moment that they did. Outside of a secure context, and
// where a policy forbids it, a page cannot copy: then the text is selected.

import { announce, byId, copyToClipboard } from "./page.js";

const SHOWN_MS = 2000;

export class CopyButtons {
  #shown = new Map();

  constructor() {
    for (const button of document.querySelectorAll("[data-copy]")) {
      button.addEventListener("click", () => this.#copy(button));
    }
  }

  /** Gives every button its own text again: what was copied is not what is shown from now on. */
  reset() {
    for (const [button, { label, timer }] of this.#shown) {
      clearTimeout(timer);
      button.textContent = label;
    }
    this.#shown.clear();
  }

  async #copy(button) {
    const source = byId(button.dataset.copy);
    const text = source.textContent;
    const copied = await copyToClipboard(text);
    // Another key may have been issued in the meantime.
    if (source.textContent !== text) return;
    if (copied) announce("Copied");
    else {
      announce("The browser did not allow copying. The text is selected: copy it yourself.");
      getSelection().selectAllChildren(source);
    }
    this.#show(button, copied ? "Copied" : "Selected: copy it");
  }

  #show(button, text) {
    const former = this.#shown.get(button);
    clearTimeout(former?.timer);
    const label = former?.label ?? button.textContent;
    const timer = setTimeout(() => {
      button.textContent = label;
      this.#shown.delete(button);
    }, SHOWN_MS);
    this.#shown.set(button, { label, timer });
    button.textContent = text;
  }
}
