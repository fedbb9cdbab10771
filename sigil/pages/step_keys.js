// API keys: each is in the page until the next one, or until the step is left.

import { part } from "./page.js";
import { Refusal } from "./server.js";

export class Keys {
  #wizard;
  #earlier = [];
  #shown = null;
  #over = false;

  constructor(wizard) {
    this.#wizard = wizard;
    part("make-key").addEventListener("click", () => wizard.attempt(part("make-key"), () => this.#make()));
    part("keys-done").addEventListener("click", () => wizard.journey.go("done"));
  }

  enter() {
    if (this.#over) this.#tellOver();
  }

  leave() {
    this.#forget();
    part("key").hidden = true;
  }

  async #make() {
    const { memory, server } = this.#wizard;
    let made;
    try {
      made = await server.apiKey(memory.session);
    } catch (refusal) {
      // 404: the server has started again since, and knows of no session.
      if (!(refusal instanceof Refusal) || ![401, 404].includes(refusal.status)) throw refusal;
      this.#over = true;
      return this.#tellOver();
    }
    this.#forget();
    this.#shown = made.key_id;
    this.#show(made.key_id, made.api_key);
  }

  #tellOver() {
    part("make-key").parentElement.hidden = true;
    part("keys-onward").hidden = false;
    this.#wizard.trouble("The time in which this window could make keys is over. On the server, sigil keygen makes more.");
  }

  #show(id, key) {
    const address = this.#wizard.memory.setting.base_url;
    part("key-id").textContent = id;
    part("key-text").textContent = key;
    part("key-shell").textContent = ` export SIGIL_API_KEY='${key}'\n export SIGIL_SERVICE_URL='${address}'`;
    part("key-env").textContent = `SIGIL_API_KEY=${key}\nSIGIL_SERVICE_URL=${address}`;
    part("key-compose").textContent =
      "environment:   # the values come from .env beside the file\n" +
      "  SIGIL_API_KEY: ${SIGIL_API_KEY:?}\n  SIGIL_SERVICE_URL: ${SIGIL_SERVICE_URL:?}";
    part("make-key").textContent = "Generate another key";
    part("make-key").classList.remove("primary");
    part("key").hidden = false;
    part("keys-onward").hidden = false;
    part("key-title").focus();
  }

  #forget() {
    if (this.#shown) this.#earlier.push(this.#shown);
    this.#shown = null;
    for (const id of ["key-id", "key-text", "key-shell", "key-env", "key-compose"]) part(id).replaceChildren();
    part("earlier-keys").textContent = `Made before, and not shown again: ${this.#earlier.join(", ")}.`;
    part("earlier-keys").hidden = this.#earlier.length === 0;
  }
}
