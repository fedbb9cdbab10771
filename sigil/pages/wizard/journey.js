// Which step is open, and navigation between the steps: with the buttons, and with the browser's back and forward.

import { announce, byId } from "../page.js";

const FLOWS = {
  create: ["welcome", "words", "confirm", "identity", "keys", "done"],
  restore: ["welcome", "restore", "identity", "keys", "done"],
};

// The condition under which the browser's back and forward may open a step.
const CAN_OPEN = {
  welcome: (memory) => memory.admitted && !memory.session,
  restore: (memory) => memory.admitted && memory.flow === "restore" && !memory.session,
  words: (memory) => memory.flow === "create" && memory.words,
  confirm: (memory) => memory.flow === "create" && memory.words,
  identity: (memory) => memory.words && memory.identity,
  keys: (memory) => memory.session,
  done: (memory) => memory.handover,
};

// Leaving the page in these steps would lose data that cannot be recovered.
const UNSAVED = new Set(["words", "confirm", "identity", "keys"]);

export class StepNavigation {
  #memory;
  #steps = {};
  #current = "opening";
  /** While a request is in flight, the step stays open: otherwise the answer would arrive in another step. */
  busy = false;
  #ended = false;

  constructor(memory) {
    this.#memory = memory;
    window.addEventListener("popstate", (event) => this.#onPopState(event.state?.step));
  }

  /** `steps` by name; each may have enter() and leave(). */
  setSteps(steps) {
    this.#steps = steps;
  }

  get section() {
    return document.querySelector(`[data-step="${this.#current}"]`);
  }

  /** Opens the next step. */
  go(name) {
    history.pushState(this.#entry(name), "", location.pathname);
    this.#open(name);
  }

  /** Opens a step in place of the current one: there is no way back to that. */
  replace(name) {
    history.replaceState(this.#entry(name), "", location.pathname);
    this.#open(name);
  }

  /** Writes the handover into the entry of the open step, after a change. */
  keep() {
    history.replaceState(this.#entry(this.#current), "", location.pathname);
  }

  /** What the history holds: the name of the step, and after the commit the handover, which has no secret. */
  #entry(name) {
    const { handover } = this.#memory;
    return handover ? { step: name, handover } : { step: name };
  }

  /** Opens the last step: after it the page opens no other. */
  end(name) {
    this.replace(name);
    this.#ended = true;
  }

  back() {
    history.back();
  }

  /** Clears the open step. */
  leave() {
    this.#steps[this.#current]?.leave?.();
  }

  #onPopState(name) {
    if (!name) return; // a fragment that a person typed
    if (!this.busy && !this.#ended && CAN_OPEN[name]?.(this.#memory)) this.#open(name);
    // Stay in this step: restore the history entry that the browser has left.
    else history.pushState(this.#entry(this.#current), "", location.pathname);
  }

  #open(name) {
    this.leave();
    this.#current = name;
    for (const section of document.querySelectorAll("[data-step]")) section.hidden = section !== this.section;
    this.section.querySelector(".error").replaceChildren();
    this.#steps[name]?.enter?.();
    this.#showProgress(name);
    window.onbeforeunload = UNSAVED.has(name) ? (event) => event.preventDefault() : null;
    window.scrollTo(0, 0);
    this.#focus();
  }

  /** The first field, or the heading of a step without fields. */
  #focus() {
    const field = this.section.querySelector("form input");
    (field ?? this.section.querySelector("h1")).focus({ preventScroll: true });
    // A screen reader reads the heading that gets the focus, but not one above a field.
    if (field) announce(document.title);
  }

  #showProgress(name) {
    const flow = FLOWS[this.#memory.flow];
    const number = flow.indexOf(name) + 1;
    const text = `Step ${number} of ${flow.length}`;
    byId("progress").hidden = number === 0;
    byId("progress-text").textContent = text;
    byId("progress-bar").max = flow.length;
    byId("progress-bar").value = number;
    const heading = this.section.querySelector("h1");
    // A screen reader announces the step after the heading, which gets the focus.
    if (number > 0) heading.setAttribute("aria-describedby", "progress-text");
    document.title = `${number > 0 ? `${text}: ` : ""}${heading.textContent} – Sigil`;
  }
}
