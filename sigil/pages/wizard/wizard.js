// Assembles the wizard. Its state is in `memory` and ends with the window: no storage, no cookie, no URL. Only the handover,
// which has no secret, is also in the entries of the history: a reload of the last step shows it again.

import { StepNavigation } from "./journey.js";
import { errorText } from "./refusals.js";
import { RequestError, Server } from "./server.js";
import { Confirm } from "./steps/confirm.js";
import { Done } from "./steps/done.js";
import { Gone } from "./steps/gone.js";
import { Identity } from "./steps/identity.js";
import { Keys } from "./steps/keys.js";
import { Restore } from "./steps/restore.js";
import { Token } from "./steps/token.js";
import { Welcome } from "./steps/welcome.js";
import { Words } from "./steps/words.js";
import { CopyButtons } from "../copy_buttons.js";
import { byId } from "../page.js";
import { Tabs } from "../tabs.js";

const UNFINISHED = new Set(["restore", "words", "confirm", "identity"]);

class Wizard {
  constructor() {
    this.memory = {
      admitted: false, // the server requires no token, or has accepted ours
      flow: "create",
      initState: null, // the answer to GET /init/state
      words: null, // the mnemonic as one string, until the commit
      identity: null,
      newIdentity: null, // of new words that are not confirmed yet
      committedIds: new Set(), // IDs of the identities for which this window has sent a commit
      session: null, // the token that authorises making API keys, after the commit
      // After the commit, what the last step shows. `certificate` is its path on the server's disk, null without one.
      handover: null,
      startedOver: UNFINISHED.has(history.state?.step), // before a reload, which keeps the history
    };
    this.server = new Server();
    this.navigation = new StepNavigation(this.memory);
    this.copyButtons = new CopyButtons();
    this.tabs = new Tabs((group, choice) => this.#onChoose(group, choice));
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
    this.navigation.setSteps(this.steps);
    byId("open-again").addEventListener("click", () => this.open());
    for (const button of document.querySelectorAll("[data-back]")) {
      button.addEventListener("click", () => this.navigation.back());
    }
    // Opening an address with a token while the page is open only changes the fragment: nothing is loaded.
    window.addEventListener("hashchange", () => this.steps.token.onHashChange());
    // Browsers keep a left page with its whole state to show it again at once. This page clears itself and reloads.
    window.addEventListener("pagehide", () => this.#clear());
    window.addEventListener("pageshow", (event) => event.persisted && location.reload());
  }

  async open() {
    this.steps.token.takeFragment();
    if (document.documentElement.dataset.setup === "closed") return this.#resume();
    await this.run(byId("open-again"), async () => {
      this.memory.initState = await this.server.state();
      await this.steps.token.proceed();
    });
    byId("open-again").parentElement.hidden = false;
  }

  /** The setup is closed. This window may be the one that did it, before a reload: then its last step opens. */
  async #resume() {
    const { step, handover } = history.state ?? {};
    if (!handover) return;
    const info = await this.server.info().catch(() => null);
    if (info?.server_id !== handover.serverId) return;
    this.memory.handover = handover;
    for (const [group, choice] of Object.entries(handover.choices)) this.tabs.choose(group, choice);
    if (step === "gone") return this.steps.gone.show();
    this.memory.flow = handover.flow;
    this.navigation.replace("done");
  }

  /** Changes the handover, so that a reload keeps the change. */
  keepHandover(changes) {
    Object.assign(this.memory.handover, changes);
    this.navigation.keep();
  }

  #onChoose(group, choice) {
    const { handover } = this.memory;
    if (handover) this.keepHandover({ choices: { ...handover.choices, [group]: choice } });
  }

  /** Runs the action of a button. Only one runs at a time, the step stays open, and an error is shown in it. */
  async run(button, work) {
    if (this.navigation.busy) return;
    this.navigation.busy = true;
    button.setAttribute("aria-disabled", "true");
    this.showError("");
    try {
      await work();
    } catch (error) {
      await this.#handle(error);
    } finally {
      this.navigation.busy = false;
      button.removeAttribute("aria-disabled");
    }
  }

  /** Shows an error in the open step. */
  showError(text) {
    this.navigation.section.querySelector(".error").textContent = text;
  }

  async #handle(error) {
    if (!(error instanceof RequestError)) throw error;
    // With a session the wizard only requests keys, and that step handles a 401 or 404 itself.
    if (error.status === 401) this.steps.token.onRejected();
    else if (error.status === 404 || error.code === "ALREADY_INITIALIZED") await this.#showAlreadySetUp();
    else if (error.code === "IDENTITY_MISMATCH") this.showError(this.#mismatchText(error.details));
    else this.showError(errorText(error));
  }

  #mismatchText({ pictogram_speakable: names = "", server_id: serverId = "" }) {
    return `These are the words of another server. The words of “${names}” with the ID ${serverId} are expected.`;
  }

  async #showAlreadySetUp() {
    try {
      await this.steps.gone.show();
    } catch (error) {
      // The identity of the server is unknown, so nothing is shown about the words: the same button tries again.
      if (!(error instanceof RequestError)) throw error;
      this.showError(errorText(error));
    }
  }

  #clear() {
    this.server.setToken("");
    Object.assign(this.memory, { admitted: false, words: null, identity: null, newIdentity: null, session: null });
    this.navigation.leave();
  }
}

document.querySelector(".script-fallback").remove();
await new Wizard().open();
