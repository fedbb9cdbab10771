// The step that issues API keys. A key is in the page until the next one is issued or the step is left.

import { byId } from "../../page.js";
import { RequestError } from "../server.js";

export class Keys {
  #wizard;
  #earlierIds = [];
  #shownId = null;
  #expired = false;

  constructor(wizard) {
    this.#wizard = wizard;
    byId("make-key").addEventListener("click", () => wizard.run(byId("make-key"), () => this.#issue()));
    byId("keys-done").addEventListener("click", () => wizard.navigation.go("done"));
  }

  enter() {
    if (this.#expired) this.#showExpired();
  }

  leave() {
    this.#clear();
    byId("key").hidden = true;
  }

  async #issue() {
    const { memory, server } = this.#wizard;
    let issued;
    try {
      issued = await server.apiKey(memory.session);
    } catch (error) {
      // 404: the server has restarted since, and has no session.
      if (!(error instanceof RequestError) || ![401, 404].includes(error.status)) throw error;
      this.#expired = true;
      return this.#showExpired();
    }
    this.#clear();
    this.#shownId = issued.key_id;
    this.#show(issued.key_id, issued.api_key);
  }

  #showExpired() {
    byId("make-key").hidden = true;
    byId("more-keys").hidden = true;
    if (!this.#shownId && this.#earlierIds.length === 0) byId("keys-done").textContent = "Continue without a key";
    byId("keys-done").hidden = false;
    this.#wizard.showError(
      "This window can make no more keys: half an hour has passed, or the server was restarted. On the server, sigil keygen makes more.",
    );
  }

  #show(id, key) {
    const address = this.#wizard.memory.handover.baseUrl;
    byId("key-id").textContent = id;
    byId("key-text").textContent = key;
    byId("key-shell").textContent = ` export SIGIL_API_KEY='${key}'\n export SIGIL_SERVICE_URL='${address}'`;
    byId("key-env").textContent = `SIGIL_API_KEY=${key}\nSIGIL_SERVICE_URL=${address}`;
    byId("key-compose").textContent =
      "environment:   # the values come from .env next to this file\n" +
      "  SIGIL_API_KEY: ${SIGIL_API_KEY:?}\n  SIGIL_SERVICE_URL: ${SIGIL_SERVICE_URL:?}";
    byId("make-key").textContent = "Generate another key";
    byId("make-key").classList.remove("primary");
    byId("key").hidden = false;
    byId("keys-done").hidden = false;
    byId("key-title").focus();
  }

  #clear() {
    // "Copied" on a button would be untrue of the next key.
    this.#wizard.copyButtons.reset();
    if (this.#shownId) this.#earlierIds.push(this.#shownId);
    this.#shownId = null;
    for (const id of ["key-id", "key-text", "key-shell", "key-env", "key-compose"]) byId(id).replaceChildren();
    byId("earlier-keys").textContent = `Made earlier, not shown again: ${this.#earlierIds.join(", ")}.`;
    byId("earlier-keys").hidden = this.#earlierIds.length === 0;
  }
}
