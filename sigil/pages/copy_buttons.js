// Buttons that copy the text of another element, and show for a moment that they did.

import { announce, byId, copyToClipboard } from "./page.js";

const SHOWN_MS = 2000;

export class CopyButtons {
  #shown = new Map();

  constructor() {
    for (const button of document.querySelectorAll("[data-copy]")) {
      button.addEventListener("click", () => this.#copy(button));
    }
  }

  /** Ends every "Copied": what was copied is not what is shown from now on. */
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
    announce(copied ? "Copied" : "The browser did not allow copying. Select the text and copy it yourself.");
    if (copied) this.#show(button);
  }

  #show(button) {
    const former = this.#shown.get(button);
    clearTimeout(former?.timer);
    const label = former?.label ?? button.textContent;
    const timer = setTimeout(() => {
      button.textContent = label;
      this.#shown.delete(button);
    }, SHOWN_MS);
    this.#shown.set(button, { label, timer });
    button.textContent = "Copied";
  }
}
