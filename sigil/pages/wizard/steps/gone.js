// The step for a server that is set up already: by another window, or by this window, whose answer was lost.

import { byId, showPictogram } from "../../page.js";

export class Gone {
  #wizard;

  constructor(wizard) {
    this.#wizard = wizard;
  }

  /** Gets the server's identity and shows, as the last step, whether it is that of this window's words. */
  async show() {
    const { navigation, memory, server } = this.#wizard;
    const info = await server.info();
    const known = [...memory.committedIds, memory.identity?.server_id, memory.handover?.serverId];
    const same = known.includes(info.server_id);
    memory.words = null;
    for (const outcome of document.querySelectorAll("[data-outcome]")) {
      outcome.hidden = (outcome.dataset.outcome === "same") !== same;
    }
    // For a reload of this step, which shows it again.
    memory.handover = same ? { serverId: info.server_id, choices: memory.handover?.choices ?? {} } : null;
    if (same) this.#showSame(info);
    navigation.end("gone");
  }

  #showSame(info) {
    const list = document.querySelector('[data-outcome="same"] .pictogram');
    showPictogram(list, info.server_pictogram_speakable);
    // There is no list to tick off here.
    byId("tick-restart").hidden = true;
    byId("gone-restart").append(byId("restart"));
  }
}
