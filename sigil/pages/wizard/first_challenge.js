// Waits for the first challenge of the server: it polls until there is one, or until the session of the setup has ended.

import { RequestError } from "./server.js";

// For the first minute every 3 s, then every 10 s: far below the rate that a server allows an address.
const SOON_MS = 3000;
const LATER_MS = 10_000;
const SOON_COUNT = 20;

export class FirstChallenge {
  #server;
  #show;
  #timer = null;
  #count = 0;
  // Of the latest start: the answer to a request of an earlier one changes nothing.
  #run = 0;

  /** `show(state)` gets "waiting", "received" or "ended". */
  constructor(server, show) {
    this.#server = server;
    this.#show = show;
  }

  /** `session` is the token of the commit. */
  start(session) {
    this.stop();
    this.#count = 0;
    this.#show("waiting");
    this.#poll(session, this.#run);
  }

  stop() {
    clearTimeout(this.#timer);
    this.#run += 1;
  }

  async #poll(session, run) {
    let wait = this.#count < SOON_COUNT ? SOON_MS : LATER_MS;
    // A hidden window waits without requests.
    if (!document.hidden) {
      this.#count += 1;
      const outcome = await this.#ask(session);
      if (run !== this.#run) return;
      if (outcome.state) return this.#show(outcome.state);
      wait = Math.max(wait, outcome.wait);
    }
    this.#timer = setTimeout(() => this.#poll(session, run), wait);
  }

  /** The final state, if there is one, and for how many milliseconds the server wants no more requests. */
  async #ask(session) {
    try {
      return { state: (await this.#server.hasFirstChallenge(session)) ? "received" : null, wait: 0 };
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      // 404: the server has restarted since, with the words from their file.
      return { state: [401, 404].includes(error.status) ? "ended" : null, wait: 1000 * Number(error.retryAfter ?? 0) || 0 };
    }
  }
}
