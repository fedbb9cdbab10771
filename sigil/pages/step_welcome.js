// A new identity, or one that existed before.

import { part, showId, showPictogram } from "./page.js";

export class Welcome {
  #wizard;

  constructor(wizard) {
    this.#wizard = wizard;
    part("create").addEventListener("click", () => wizard.attempt(part("create"), () => this.#create()));
    part("restore").addEventListener("click", () => wizard.attempt(part("restore"), () => this.#restore()));
  }

  enter() {
    const { memory } = this.#wizard;
    const expected = memory.setting.restore_only;
    part("started-over").hidden = !memory.startedOver;
    part("create").hidden = Boolean(expected);
    part("expected").hidden = !expected;
    if (!expected) return;
    memory.road = "restore";
    const list = part("expected").querySelector("ul");
    showPictogram(list, expected.server_pictogram, expected.server_pictogram_speakable);
    showId(part("expected").querySelector(".id"), expected.server_id);
  }

  leave() {
    this.#wizard.memory.startedOver = false;
  }

  async #create() {
    const { journey, memory, server } = this.#wizard;
    // Who only went back to read again keeps the words that are on paper by now.
    if (memory.road !== "create" || !memory.words) {
      memory.words = (await server.words()).join(" ");
      memory.identity = null;
    }
    memory.road = "create";
    journey.go("words");
  }

  #restore() {
    const { journey, memory } = this.#wizard;
    Object.assign(memory, { road: "restore", words: null, identity: null });
    journey.go("restore");
  }
}
