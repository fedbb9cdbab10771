// Which step is open, and how a person gets from one to another: by the buttons, and by the browser's own.

import { part } from "./page.js";

const ROADS = {
  create: ["welcome", "words", "confirm", "identity", "keys", "done"],
  restore: ["welcome", "restore", "identity", "keys", "done"],
};

// What must hold for a step to be opened by the browser's back and forward.
const MAY_OPEN = {
  welcome: (memory) => memory.admitted && !memory.session,
  restore: (memory) => memory.admitted && memory.road === "restore" && !memory.session,
  words: (memory) => memory.road === "create" && memory.words,
  confirm: (memory) => memory.road === "create" && memory.words,
  identity: (memory) => memory.words && memory.identity,
  keys: (memory) => memory.session,
  done: (memory) => memory.session,
};

// Leaving the page here would lose what cannot be had again.
const RISKY = new Set(["words", "confirm", "identity", "keys"]);

export class Journey {
  #memory;
  #steps = {};
  #now = "opening";
  /** While an answer is awaited, nobody goes anywhere: it would arrive in a step that it is not for. */
  held = false;
  #over = false;

  constructor(memory) {
    this.#memory = memory;
    window.addEventListener("popstate", (event) => this.#travelled(event.state?.step));
  }

  /** `steps` by name; each may have enter() and leave(). */
  take(steps) {
    this.#steps = steps;
  }

  get section() {
    return document.querySelector(`[data-step="${this.#now}"]`);
  }

  /** The next step, by the person's own act. History holds the names of steps, and nothing of what was in them. */
  go(name) {
    history.pushState({ step: name }, "", location.pathname);
    this.#open(name);
  }

  /** In place of the present step: there is no way back to it. */
  replace(name) {
    history.replaceState({ step: name }, "", location.pathname);
    this.#open(name);
  }

  /** The last thing this page shows. */
  end(name) {
    this.replace(name);
    this.#over = true;
  }

  back() {
    history.back();
  }

  /** Empties the step that is open. */
  leave() {
    this.#steps[this.#now]?.leave?.();
  }

  #travelled(name) {
    if (!name) return; // a fragment that somebody typed
    if (!this.held && !this.#over && MAY_OPEN[name]?.(this.#memory)) this.#open(name);
    // Stay, and let the browser's back lead here again.
    else history.pushState({ step: this.#now }, "", location.pathname);
  }

  #open(name) {
    this.leave();
    this.#now = name;
    for (const section of document.querySelectorAll("[data-step]")) section.hidden = section !== this.section;
    this.section.querySelector(".trouble").replaceChildren();
    this.#steps[name]?.enter?.();
    this.#showProgress(name);
    window.onbeforeunload = RISKY.has(name) ? (event) => event.preventDefault() : null;
    window.scrollTo(0, 0);
    this.section.querySelector("h1").focus({ preventScroll: true });
  }

  #showProgress(name) {
    const road = ROADS[this.#memory.road];
    const at = road.indexOf(name) + 1;
    const text = `Step ${at} of ${road.length}`;
    part("progress").hidden = at === 0;
    part("progress-text").textContent = text;
    part("progress-bar").max = road.length;
    part("progress-bar").value = at;
    const heading = this.section.querySelector("h1");
    // Who listens hears the step after the heading, which gets the focus.
    if (at > 0) heading.setAttribute("aria-describedby", "progress-text");
    document.title = `${at > 0 ? `${text}: ` : ""}${heading.textContent} – Sigil`;
  }
}
