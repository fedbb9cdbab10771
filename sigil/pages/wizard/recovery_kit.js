// The printed page with the 24 words: all that a person needs to restore the server, years later, on paper alone.

import { element, showId, showPictogram } from "../page.js";

const RESTORING = [
  "Start Sigil: “make up”, or “SIGIL_MODE=init sigil serve”. Open the address in its log.",
  "Choose “Restore from 24 words” and type the words of this page in their order.",
  "Compare the server ID and the five names with this page, then set up the server.",
];

export class RecoveryKit {
  #facts;
  #pictogram = element("ul", { class: "pictogram" });

  /** `facts`: server_name, base_url, and of the identity server_id and server_pictogram_speakable. */
  constructor(facts) {
    this.#facts = facts;
    // Now, not when the browser prints: it does not wait for pictures then.
    showPictogram(this.#pictogram, facts.server_pictogram_speakable);
  }

  fill(sheet, words) {
    const { server_name: name, base_url: address, server_id: serverId } = this.#facts;
    const id = element("dd", { class: "code id" });
    showId(id, serverId);
    sheet.replaceChildren(
      element("h1", {}, name),
      element("p", { class: "kit-purpose" }, "Recovery kit of this Sigil server"),
      element(
        "dl",
        { class: "facts" },
        ...fact("Address", element("dd", { class: "code" }, address)),
        ...fact("Server ID", id),
        ...fact("Pictures", element("dd", {}, this.#pictogram)),
        ...fact("Date", element("dd", {}, new Date().toLocaleDateString("en", { dateStyle: "long" }))),
        ...fact("Kept at", element("dd", { class: "kit-line" })),
      ),
      element("h2", {}, "The 24 words, in this order"),
      element("ol", { class: "words" }, ...words.map((word) => element("li", {}, word))),
      element("h2", {}, "To restore the server"),
      element("ol", { class: "kit-steps" }, ...RESTORING.map((text) => element("li", {}, text))),
      element(
        "p",
        { class: "kit-warning" },
        "Anyone who has this page can pretend to be this server. Lock it away, and do not photograph or scan it. The words do not " +
          "restore the list of revoked API keys: keep that list too.",
      ),
    );
  }
}

function fact(label, value) {
  return [element("dt", {}, label), value];
}
