// Puts the wizard together. All it knows lives in `memory`, and ends with the window: no storage, no cookie, no URL.

import { Confirm } from "./step_confirm.js";
import { Done } from "./step_done.js";
import { Gone } from "./step_gone.js";
import { Identity } from "./step_identity.js";
import { Journey } from "./journey.js";
import { Keys } from "./step_keys.js";
import { Restore } from "./step_restore.js";
import { Token } from "./step_token.js";
import { Welcome } from "./step_welcome.js";
import { Words } from "./step_words.js";
import { copied, part, say } from "./page.js";
import { inPlainWords } from "./refusals.js";
import { Refusal, Server } from "./server.js";

const UNFINISHED = new Set(["restore", "words", "confirm", "identity"]);

class Wizard {
  constructor() {
    this.memory = {
      admitted: false, // the server wants no token, or took ours
      road: "create",
      setting: null, // what GET /init/state told
      words: null, // the 24 in one string, until the commit
      identity: null,
      posted: new Set(), // IDs of the identities that this window has asked the server to take
      session: null, // opens the making of API keys, after the commit
      certificate: null, // its path on the server's disk, after the commit, where the server has one
      startedOver: UNFINISHED.has(history.state?.step), // before a reload, which keeps the history
    };
    this.server = new Server();
    this.journey = new Journey(this.memory);
    this.steps = {
      token: new Token(this),
      welcome: new Welcome(this),
      restore: new Restore(this),
      words: new Words(this),
      confirm: new Confirm(this),
      identity: new Identity(this),
      keys: new Keys(this),
      done: new Done(this),
      gone: new Gone(this),
    };
    this.journey.take(this.steps);
    part("open-again").addEventListener("click", () => this.open());
    for (const button of document.querySelectorAll("[data-back]")) {
      button.addEventListener("click", () => this.journey.back());
    }
    for (const button of document.querySelectorAll("[data-copy]")) {
      button.addEventListener("click", () => this.#copy(button));
    }
    // An address with a token that is opened while the page is here changes the fragment and loads nothing.
    window.addEventListener("hashchange", () => this.steps.token.arrived());
    // Browsers keep a page that was left, with all that it knows, to show it again at once. Not this one.
    window.addEventListener("pagehide", () => this.#forget());
    window.addEventListener("pageshow", (event) => event.persisted && location.reload());
  }

  async open() {
    this.steps.token.takeFragment();
    await this.attempt(part("open-again"), async () => {
      this.memory.setting = await this.server.state();
      part("server-name").textContent = this.memory.setting.server_name;
      await this.steps.token.pass();
    });
    part("open-again").parentElement.hidden = false;
  }

  /** Runs what a button stands for, one at a time, with the step held open; a refusal ends as words beside it. */
  async attempt(button, work) {
    if (this.journey.held) return;
    this.journey.held = true;
    button.setAttribute("aria-disabled", "true");
    this.trouble("");
    try {
      await work();
    } catch (refusal) {
      await this.#refused(refusal);
    } finally {
      this.journey.held = false;
      button.removeAttribute("aria-disabled");
    }
  }

  /** Tells it in the step that is open. */
  trouble(text) {
    this.journey.section.querySelector(".trouble").textContent = text;
  }

  async #refused(refusal) {
    if (!(refusal instanceof Refusal)) throw refusal;
    // With a session, nothing but the making of keys is asked for, and its step knows what a refusal means.
    if (refusal.status === 401) this.steps.token.refused();
    else if (refusal.status === 404 || refusal.code === "ALREADY_INITIALIZED") await this.#setUp();
    else if (refusal.code === "IDENTITY_MISMATCH") this.trouble(this.#mismatch(refusal.details));
    else this.trouble(inPlainWords(refusal));
  }

  #mismatch({ pictogram = [], server_id: serverId = "" }) {
    return `These are the words of another server. Expected is ${pictogram.join(" ")} with the ID ${serverId}.`;
  }

  async #setUp() {
    try {
      await this.steps.gone.find();
    } catch (refusal) {
      // Whose words these are is not known, so nothing is told of them: the same button asks again.
      if (!(refusal instanceof Refusal)) throw refusal;
      this.trouble(inPlainWords(refusal));
    }
  }

  #forget() {
    this.server.present("");
    Object.assign(this.memory, { admitted: false, words: null, identity: null, session: null });
    this.journey.leave();
  }

  async #copy(button) {
    const done = await copied(part(button.dataset.copy).textContent);
    say(done ? "Copied" : "The browser did not allow copying. Select the text and copy it yourself.");
    const label = button.textContent;
    if (!done || label === "Copied") return;
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = label), 2000);
  }
}

document.querySelector(".late").remove();
await new Wizard().open();
