// Who the server will be, before it is.

import { part, showId, showPictogram } from "./page.js";

export class Identity {
  #wizard;

  constructor(wizard) {
    this.#wizard = wizard;
    part("commit").addEventListener("click", () => wizard.attempt(part("commit"), () => this.#commit()));
  }

  enter() {
    const { identity, road } = this.#wizard.memory;
    const list = this.#wizard.journey.section.querySelector(".pictogram");
    showPictogram(list, identity.server_pictogram, identity.server_pictogram_speakable);
    showId(part("identity-id"), identity.server_id);
    part("identity-key").textContent = identity.server_public_key;
    part("identity-restored").hidden = road !== "restore";
  }

  async #commit() {
    const { journey, memory, server } = this.#wizard;
    memory.posted.add(memory.identity.server_id);
    const committed = await server.commit(memory.words);
    const { identity, session, tls_cert_path: certificate = null } = committed;
    Object.assign(memory, { words: null, identity, session, certificate });
    server.present("");
    journey.go("keys");
  }
}
