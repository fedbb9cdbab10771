// The setup token, from the address or from the person.

import { part } from "./page.js";

const FRAGMENT = "#token=";

export class Token {
  #wizard;
  #resume = "welcome";
  #presented = false;

  constructor(wizard) {
    this.#wizard = wizard;
    part("token-form").addEventListener("submit", (event) => {
      event.preventDefault();
      wizard.attempt(part("token-form").querySelector("button.primary"), () => this.#given());
    });
  }

  leave() {
    part("token").value = "";
    this.#mark(false);
  }

  /** Takes the token out of the address bar, before anybody can read or bookmark it. True when there was one. */
  takeFragment() {
    if (!location.hash.startsWith(FRAGMENT)) return false;
    const token = location.hash.slice(FRAGMENT.length);
    history.replaceState(history.state, "", location.pathname);
    this.#wizard.server.present(token);
    this.#presented = token !== "";
    return true;
  }

  /** A token in the address of a page that is open already. */
  arrived() {
    if (this.takeFragment() && !this.#wizard.memory.admitted) this.#wizard.open();
  }

  /** On to the step that waits behind the door, or to the question for the token. */
  async pass() {
    const { journey, memory, server } = this.#wizard;
    // Of an address that was opened while the server was asked: `replace` would take it away before its event comes.
    this.takeFragment();
    memory.admitted = !memory.setting.token_required;
    if (!memory.admitted && this.#presented) {
      memory.admitted = await server.admits();
      if (!memory.admitted) return this.refused();
    }
    journey.replace(memory.admitted ? this.#resume : "token");
  }

  /** The server does not take our token, or no longer. What was reached so far stays. */
  refused() {
    const { journey, memory } = this.#wizard;
    const reached = journey.section.dataset.step;
    if (!["opening", "token"].includes(reached)) this.#resume = reached;
    memory.admitted = false;
    if (reached !== "token") journey.replace("token");
    this.#mark(true);
    this.#wizard.trouble(
      "This is not the token of the server as it runs now. A new start writes a new one to the log.",
    );
    part("token").focus();
  }

  async #given() {
    const given = part("token").value.trim();
    const token = given.slice(given.lastIndexOf(FRAGMENT) === -1 ? 0 : given.lastIndexOf(FRAGMENT) + FRAGMENT.length);
    this.#mark(token === "");
    if (token === "") {
      this.#wizard.trouble("Enter the token first.");
      part("token").focus();
      return;
    }
    this.#wizard.server.present(token);
    this.#presented = true;
    await this.pass();
  }

  #mark(wrong) {
    if (wrong) part("token").setAttribute("aria-invalid", "true");
    else part("token").removeAttribute("aria-invalid");
  }
}
