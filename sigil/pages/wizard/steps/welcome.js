// The first step: create a new identity, or restore an earlier one.

import { byId, showId, showPictogram } from "../../page.js";

export class Welcome {
  #wizard;

  constructor(wizard) {
    this.#wizard = wizard;
    byId("create").addEventListener("click", () => wizard.run(byId("create"), () => this.#create()));
    byId("restore").addEventListener("click", () => wizard.run(byId("restore"), () => this.#restore()));
  }

  enter() {
    const { memory } = this.#wizard;
    const expected = memory.initState.restore_only;
    byId("started-over").hidden = !memory.startedOver;
    byId("create").hidden = Boolean(expected);
    byId("expected").hidden = !expected;
    if (!expected) return;
    memory.flow = "restore";
    byId("restore").classList.add("primary");
    const list = byId("expected").querySelector("ul");
    showPictogram(list, expected.server_pictogram_speakable);
    showId(byId("expected").querySelector(".id"), expected.server_id);
  }

  leave() {
    this.#wizard.memory.startedOver = false;
  }

  async #create() {
    const { navigation, memory, server } = this.#wizard;
    // A person who only went back keeps the words, which may be on paper already.
    if (memory.flow !== "create" || !memory.words) {
      const words = (await server.words()).join(" ");
      // What the recovery kit shows; `identity` stays empty until the words are confirmed.
      memory.newIdentity = await server.check(words);
      Object.assign(memory, { words, identity: null });
    }
    memory.flow = "create";
    navigation.go("words");
  }

  #restore() {
    const { navigation, memory } = this.#wizard;
    Object.assign(memory, { flow: "restore", words: null, identity: null, newIdentity: null });
    navigation.go("restore");
  }
}
