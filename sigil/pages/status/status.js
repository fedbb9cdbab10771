// The page /status: asks for the token if the server requires one, then shows the figures and refreshes them.

import { announce, byId } from "../page.js";
import { Board } from "./board.js";
import { History } from "./history.js";
import { Metrics } from "./metrics.js";

const SECONDS = 2;
const MAX_SECONDS = 60;
const HIDDEN_MILLISECONDS = 15 * 60 * 1000;
const ACCESS = document.body.dataset.access;
const PARTS = ["connecting", "off", "local", "token-form"];
const FAULTS = {
  401: "The server no longer accepts this request.",
  200: "The answer has no metrics of a Sigil server.",
  404: "There is no /metrics here: a proxy hides it, or SIGIL_TELEMETRY is none.",
  429: "Too many wrong tokens came from this address.",
  503: "The server is starting, stopping or overloaded.",
};

class Status {
  #metrics = new Metrics();
  #table;
  #board;
  #history;
  #timer = 0;
  #hidden = 0;
  #running = false;
  #paused = false;
  #failures = 0;
  #updated = 0;
  // Answers of an earlier run are dropped.
  #run = 0;

  async start() {
    byId("script-fallback").remove();
    this.#listen();
    if (ACCESS === "none") {
      this.#showPart("off");
      return;
    }
    this.#table = await tableOfFigures();
    if (this.#table === null) {
      this.#showPart("connecting");
      byId("connecting").textContent = "A part of this page was not loaded: the server is unreachable or overloaded. Reload the page.";
      return;
    }
    this.#board = new Board(this.#table);
    this.#close();
  }

  #listen() {
    byId("token-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    byId("again").addEventListener("click", () => this.#open());
    byId("forget").addEventListener("click", () => {
      this.#close();
      announce("The token is forgotten.");
    });
    byId("pause").addEventListener("click", () => this.#pause(!this.#paused));
    document.addEventListener("visibilitychange", () => this.#visibilityChanged());
    // A page that the browser keeps for the Back button keeps its variables too.
    addEventListener("pagehide", () => this.#board && this.#close({ wait: true }));
    addEventListener("pageshow", (event) => event.persisted && this.#board && this.#close());
  }

  #submit() {
    const given = byId("token").value.trim();
    if (!this.#metrics.setToken(given)) {
      const text = given === "" ? "Enter the token first." : "A metrics token has at least 16 letters, digits or signs.";
      this.#showTokenError(text);
      return;
    }
    byId("token").value = "";
    this.#open();
  }

  #open() {
    this.#history = new History(this.#table);
    this.#running = true;
    this.#failures = 0;
    this.#pause(false, { quiet: true });
  }

  /** Forgets the token and the figures, and shows what the server requires. */
  #close({ wait = false } = {}) {
    this.#run += 1;
    clearTimeout(this.#timer);
    this.#running = false;
    this.#metrics.forget();
    this.#history = null;
    this.#updated = 0;
    byId("token").value = "";
    this.#board.clear();
    byId("board").hidden = true;
    if (wait) return;
    if (ACCESS === "token") {
      this.#showPart("token-form");
      byId("token").focus();
    } else {
      this.#showPart("connecting");
      this.#open();
    }
  }

  #pause(paused, { quiet = false } = {}) {
    this.#paused = paused;
    byId("pause").textContent = paused ? "Resume" : "Pause";
    if (paused) {
      this.#stop();
      this.#showConnection("off", "Paused.");
    } else {
      this.#next(0);
    }
    if (!quiet) announce(paused ? "Paused." : "The figures are refreshed again.");
  }

  #stop() {
    this.#run += 1;
    clearTimeout(this.#timer);
  }

  #next(seconds) {
    this.#stop();
    this.#timer = setTimeout(() => this.#refresh(this.#run), seconds * 1000);
  }

  #visibilityChanged() {
    clearTimeout(this.#hidden);
    if (!this.#running) return;
    if (document.hidden) {
      this.#stop();
      if (this.#metrics.hasToken) this.#hidden = setTimeout(() => this.#close(), HIDDEN_MILLISECONDS);
    } else if (!this.#paused) {
      this.#next(0);
    }
  }

  async #refresh(run) {
    const answer = await this.#metrics.read();
    if (run !== this.#run) return;
    if (answer.status === 200 && this.#history.add(answer.text, performance.now() / 1000, answer.now)) {
      this.#showFigures();
      this.#next(SECONDS);
    } else if (answer.status === 401) {
      this.#rejected();
    } else if (this.#updated === 0 && answer.status === 429 && this.#metrics.hasToken) {
      this.#metrics.forget();
      const wait = answer.pause ? ` Wait ${answer.pause} seconds` : " Wait a minute";
      this.#askAgain(`${FAULTS[429]}${wait}, then enter the token again.`);
    } else {
      this.#failed(answer);
    }
  }

  #showFigures() {
    const restored = this.#failures > 0;
    const first = this.#updated === 0;
    this.#failures = 0;
    this.#updated = Date.now();
    const news = this.#board.update(this.#history);
    byId("closed").hidden = true;
    byId("board").hidden = false;
    byId("board").dataset.old = "false";
    byId("forget").hidden = !this.#metrics.hasToken;
    const time = new Date().toLocaleTimeString();
    this.#showConnection("good", `Updated at ${time}, every ${SECONDS} seconds.`);
    if (first) document.querySelector("h1").focus();
    const texts = [...(first ? ["The figures are shown."] : restored ? ["The server answers again."] : []), ...news];
    if (texts.length > 0) announce(texts.join(" "));
  }

  #rejected() {
    if (ACCESS !== "token" && !this.#metrics.hasToken) {
      this.#close({ wait: true });
      this.#showPart("local");
      return;
    }
    this.#close({ wait: true });
    this.#askAgain(
      "The server does not accept this token. Use the value of METRICS_TOKEN with which it runs. After ten wrong tokens in a " +
        "minute it rejects this address for a while.",
    );
  }

  #askAgain(text) {
    this.#running = false;
    this.#stop();
    byId("board").hidden = true;
    this.#showPart("token-form");
    this.#showTokenError(text);
  }

  #failed({ status, pause = 0, fault }) {
    this.#failures += 1;
    const seconds = Math.max(pause, Math.min(MAX_SECONDS, SECONDS * 2 ** Math.min(this.#failures - 1, 5)));
    const reason = fault ? `${fault}.` : (FAULTS[status] ?? `The server answered with ${status}.`);
    const age = this.#updated ? ` The figures are of ${new Date(this.#updated).toLocaleTimeString()}.` : "";
    byId("closed").hidden = true;
    byId("board").hidden = false;
    byId("board").dataset.old = "true";
    byId("forget").hidden = !this.#metrics.hasToken;
    this.#showConnection("bad", `${reason}${age} Next attempt in ${seconds} seconds.`);
    if (this.#failures === 1) announce(reason);
    this.#next(seconds);
  }

  #showConnection(state, text) {
    byId("connection").dataset.state = state;
    byId("connection").textContent = text;
  }

  #showPart(shown) {
    byId("closed").hidden = false;
    for (const part of PARTS) byId(part).hidden = part !== shown;
    this.#showTokenError("", { focus: false });
  }

  #showTokenError(text, { focus = true } = {}) {
    byId("token-error").textContent = text;
    if (text) byId("token").setAttribute("aria-invalid", "true");
    else byId("token").removeAttribute("aria-invalid");
    if (focus) byId("token").focus();
  }
}

/** Null if the server does not send it. */
async function tableOfFigures() {
  try {
    const response = await fetch("/assets/status/figures.json", { cache: "no-store", credentials: "omit" });
    return response.ok ? await response.json() : null;
  } catch {
    return null;
  }
}

await new Status().start();
