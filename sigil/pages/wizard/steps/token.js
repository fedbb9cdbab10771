// The step for the setup token. It comes from the address, or the person enters it.

import { byId } from "../../page.js";

const FRAGMENT = "#token=";

export class Token {
  #wizard;
  #nextStep = "welcome";
  #hasToken = false;

  constructor(wizard) {
    this.#wizard = wizard;
    byId("token-form").addEventListener("submit", (event) => {
      event.preventDefault();
      wizard.run(byId("token-form").querySelector("button.primary"), () => this.#submit());
    });
  }

  leave() {
    byId("token").value = "";
    this.#markInvalid(false);
  }

  /** Removes the token from the address bar, so that it is not read or bookmarked. Returns true when there was one. */
  takeFragment() {
    if (!location.hash.startsWith(FRAGMENT)) return false;
    const token = location.hash.slice(FRAGMENT.length);
    history.replaceState(history.state, "", location.pathname);
    this.#wizard.server.setToken(token);
    this.#hasToken = token !== "";
    return true;
  }

  /** Takes a token from an address that is opened while this page is open. */
  onHashChange() {
    if (this.takeFragment() && !this.#wizard.memory.admitted) this.#wizard.open();
  }

  /** Opens the next step, or this one if the server requires a token that it has not accepted yet. */
  async proceed() {
    const { navigation, memory, server } = this.#wizard;
    // An address may have been opened during the request: `replace` would remove its token before the event arrives.
    this.takeFragment();
    memory.admitted = !memory.initState.token_required;
    if (!memory.admitted && this.#hasToken) {
      memory.admitted = await server.acceptsToken();
      if (!memory.admitted) return this.onRejected();
    }
    navigation.replace(memory.admitted ? this.#nextStep : "token");
  }

  /** The server does not accept the token, or no longer does. The step that was open is opened again later. */
  onRejected() {
    const { navigation, memory } = this.#wizard;
    const reached = navigation.section.dataset.step;
    if (!["opening", "token"].includes(reached)) this.#nextStep = reached;
    memory.admitted = false;
    if (reached !== "token") navigation.replace("token");
    this.#markInvalid(true);
    this.#wizard.showError(
      "This is not the current token of the server. Each start of the server writes a new token to its log.",
    );
    byId("token").focus();
  }

  async #submit() {
    const given = byId("token").value.trim();
    const token = given.slice(given.lastIndexOf(FRAGMENT) === -1 ? 0 : given.lastIndexOf(FRAGMENT) + FRAGMENT.length);
    this.#markInvalid(token === "");
    if (token === "") {
      this.#wizard.showError("Enter the token first.");
      byId("token").focus();
      return;
    }
    this.#wizard.server.setToken(token);
    this.#hasToken = true;
    await this.proceed();
  }

  #markInvalid(invalid) {
    if (invalid) byId("token").setAttribute("aria-invalid", "true");
    else byId("token").removeAttribute("aria-invalid");
  }
}
