// Somebody finished: another window, or this one and its answer was lost on the way.

import { part, showPictogram } from "./page.js";

export class Gone {
  #wizard;

  constructor(wizard) {
    this.#wizard = wizard;
  }

  /** Asks the server who it is now, and ends the journey with what that means for the words of this window. */
  async find() {
    const { journey, memory, server } = this.#wizard;
    const info = await server.info();
    const same = memory.posted.has(info.server_id) || memory.identity?.server_id === info.server_id;
    memory.words = null;
    for (const told of document.querySelectorAll("[data-told]")) told.hidden = (told.dataset.told === "same") !== same;
    if (same) this.#welcome(info);
    journey.end("gone");
  }

  #welcome(info) {
    const list = document.querySelector('[data-told="same"] .pictogram');
    showPictogram(list, info.server_pictogram, info.server_pictogram_speakable);
    part("gone-restart").append(part("restart"));
  }
}
