// The step that shows the identity before the commit.

import { byId, showId, showPictogram } from "../../page.js";

export class Identity {
  #wizard;

  constructor(wizard) {
    this.#wizard = wizard;
    byId("commit").addEventListener("click", () => wizard.run(byId("commit"), () => this.#commit()));
  }

  enter() {
    const { identity, flow } = this.#wizard.memory;
    const list = this.#wizard.navigation.section.querySelector(".pictogram");
    showPictogram(list, identity.server_pictogram_speakable);
    showId(byId("identity-id"), identity.server_id);
    byId("identity-key").textContent = identity.server_public_key;
    byId("identity-restored").hidden = flow !== "restore";
  }

  async #commit() {
    const { navigation, memory, server } = this.#wizard;
    memory.committedIds.add(memory.identity.server_id);
    const committed = await server.commit(memory.words);
    const { identity, session, tls_cert_path: certificate = null } = committed;
    const { server_name: serverName, base_url: baseUrl } = memory.initState;
    const { server_id: serverId, server_pictogram_speakable: speakable } = identity;
    const handover = { flow: memory.flow, serverId, speakable, serverName, baseUrl, certificate, ticked: [], choices: {} };
    Object.assign(memory, { words: null, identity, session, handover });
    server.setToken("");
    navigation.go("keys");
  }
}
