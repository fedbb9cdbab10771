// The app's state machine: which screen is open, what the browser's back does, and what all screens share.
//
// The history has two levels: the root (the list of requests, or before enrolment the field for the code),
// and one screen above it. Back closes that screen; it never answers a request.

import { unregister } from "./client/registration.js";
import { Server } from "./client/server.js";
import { announce, box, element } from "./dom.js";
import { isInstalled, mustInstall, unfitReason } from "./fitness.js";
import { keepFiles, startWorker } from "./notifications.js";
import { keepStorage, Store } from "./storage/store.js";
import { chooseLanguage } from "./texts/language.js";
import { loadTexts } from "./texts/texts.js";

const SCREENS = {
  unfit: () => import("./screens/unfit.js"),
  install: () => import("./screens/install.js"),
  code: () => import("./screens/enrol/code.js"),
  meet: () => import("./screens/enrol/meet.js"),
  key: () => import("./screens/enrol/key.js"),
  confirm: () => import("./screens/enrol/confirm.js"),
  notify: () => import("./screens/notify.js"),
  ready: () => import("./screens/ready.js"),
  ask: () => import("./screens/ask/ask.js"),
  ask_many: () => import("./screens/ask/ask_many.js"),
  reason: () => import("./screens/ask/reason.js"),
  done: () => import("./screens/ask/done.js"),
  trouble: () => import("./screens/ask/trouble.js"),
  settings: () => import("./screens/settings.js"),
  lost: () => import("./screens/lost.js"),
  history: () => import("./screens/history.js"),
};
// Screens that stand at the bottom of the history.
const ROOTS = new Set(["unfit", "install", "code", "ready", "lost"]);
const HOUR_MS = 3_600_000;
const ID = /^#([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})$/;

class App {
  #leaving = new AbortController();
  #state = { screen: "" };
  #afterBack = null;
  #checkedAt = Date.now();

  constructor() {
    this.main = document.querySelector("main");
    this.serverName = document.querySelector("meta[name=sigil-server]").content;
    this.version = document.querySelector("meta[name=sigil-version]").content;
    this.server = new Server(location.origin);
    this.store = null;
    /** The stored record of this device, null before enrolment. */
    this.device = null;
    this.language = "en";
    this.t = (key) => key;
    this.announce = announce;
    /** Id of the request that a notification named: the list opens it as soon as it knows it. */
    this.wanted = null;
    /** Ids of requests that were open once: they do not open by themselves again. */
    this.opened = new Set();
    /** Whether this browser has no WebAuthn and the server permits plain keys. */
    this.plain = false;
    /** The browser's offer to install the app, null without one. */
    this.installation = null;
  }

  /** Aborted when the open screen is left. A screen takes it at its begin. */
  get signal() {
    return this.#leaving.signal;
  }

  /** The state of the open screen. */
  get state() {
    return this.#state;
  }

  /** The server's time in milliseconds: its answers correct the clock of the device. */
  now() {
    return this.server.now?.() ?? Date.now();
  }

  async start() {
    window.addEventListener("popstate", () => this.#onBack());
    document.addEventListener("visibilitychange", () => this.#renew());
    window.addEventListener("hashchange", () => this.#onFragment());
    window.addEventListener("beforeinstallprompt", (event) => {
      event.preventDefault();
      this.installation = event;
    });
    navigator.serviceWorker?.addEventListener("message", ({ data }) => this.#onWorker(data));
    history.replaceState({ level: 0 }, "");
    // First of all: a token must not stay in the address while something else takes its time.
    const fragment = this.#takeFragment();
    const opened = await Store.open().catch((error) => error);
    if (opened instanceof Store) this.store = opened;
    await this.useLanguage(await this.store?.get("language").catch(() => undefined));
    if (!this.store) return this.go({ screen: "unfit", reason: opened.reason === "blocked" ? "blocked" : "storage" });
    this.device = await this.store.device();
    const reason = await unfitReason(this);
    if (reason) return this.go({ screen: "unfit", reason, text: fragment });
    startWorker(this);
    if (this.device) keepStorage();
    // An enrolment that this browser has begun goes on where the page was closed.
    const unfinished = !fragment && !this.wanted && (await this.store.get("enrolment"));
    if (unfinished) await this.go({ screen: "code", resume: true });
    else await this.root(fragment);
    this.#loadAll();
  }

  /** Opens the screen at the bottom: the requests, or without a device the field for the code. */
  root(text = "") {
    // A link to enrol replaces the device after the person agrees; the pages of enrolment show that.
    if (text) return this.go({ screen: mustInstall() ? "install" : "code", text, plain: this.plain });
    if (this.device) return this.go(this.device.localKey ? { screen: "ready" } : { screen: "lost", why: "key" });
    return this.go({ screen: mustInstall() ? "install" : "code", text: "", plain: this.plain });
  }

  /** Opens another screen. */
  async go(state) {
    const level = ROOTS.has(state.screen) ? 0 : 1;
    const before = history.state?.level ?? 0;
    // The entry above the root is being left: a second `back` would leave the app.
    if (this.#afterBack) {
      this.#afterBack = state;
      return;
    }
    if (level > before) history.pushState({ level }, "");
    if (level < before) {
      // The entry of the closed screen is left, so that back does not open it again.
      this.#afterBack = state;
      history.back();
      return;
    }
    await this.#open(state);
  }

  /** What the browser's back does. */
  back() {
    if ((history.state?.level ?? 0) === 0) this.root();
    else if (!this.#afterBack) history.back();
  }

  #onBack() {
    // A fragment that was typed or opened: #onFragment takes it.
    if (history.state === null) return;
    const state = this.#afterBack;
    this.#afterBack = null;
    const level = history.state?.level ?? 0;
    // Forward after back: the screen that was there is closed for good.
    if (level > 0) history.back();
    else if (state) this.go(state);
    else if (!ROOTS.has(this.#state.screen)) this.root();
  }

  async #open(state) {
    this.#leaving.abort();
    this.#leaving = new AbortController();
    const { signal } = this.#leaving;
    this.#state = state;
    document.documentElement.dataset.screen = state.screen;
    try {
      const { show } = await SCREENS[state.screen]();
      if (!signal.aborted) await show(this, state);
    } catch (error) {
      if (signal.aborted) return;
      console.warn("screen", state.screen, error?.name ?? "", error?.message ?? "");
      await this.fail(error, state);
    }
  }

  /** Opens the screen that explains an error. `retry` is the state that its button opens. */
  async fail(error, retry) {
    if (this.#state.screen === "trouble") return this.#lastResort();
    return this.go({ screen: "trouble", error, retry });
  }

  /** A text without a module of its own: the module of the screen may be what failed to load. */
  #lastResort() {
    const reload = element("button", { type: "button", class: "primary" }, this.t("reload"));
    reload.addEventListener("click", () => location.reload());
    const heading = element("h1", { tabindex: "-1" }, this.t("broken.title"));
    this.main.replaceChildren(box("content", heading, element("p", {}, this.t("broken.text"))), box("actions", reload));
    heading.focus();
  }

  /** Marks a button as busy until the work ends, and returns the work's result. Its clicks do nothing meanwhile. */
  async busy(node, work) {
    node.setAttribute("aria-disabled", "true");
    node.classList.add("busy");
    try {
      return await work;
    } finally {
      node.removeAttribute("aria-disabled");
      node.classList.remove("busy");
    }
  }

  /** Stores a new device, which is from now on the one of this browser. */
  async adopt(record) {
    const former = this.device;
    await this.store.saveDevice(record);
    await this.store.remove("enrolment");
    this.device = record;
    keepStorage();
    // Requests for the replaced key would wake this device, which cannot answer them any more.
    if (former?.registration) unregister(former.relayUrl, former).catch(() => {});
  }

  /** Changes members of the stored record. */
  async change(changes) {
    const changed = await this.store.changeDevice(this.device.fingerprint, changes);
    if (changed) this.device = changed;
    return changed !== null;
  }

  /** Uses a language from now on; undefined is the browser's. */
  async useLanguage(set) {
    this.language = chooseLanguage(set);
    this.t = await loadTexts(this.language);
    document.documentElement.lang = this.language;
    this.#fillShell();
  }

  /** The language with its region, for dates: the browser's, where it has this language. */
  get locale() {
    return navigator.languages.find((tag) => tag.split("-")[0] === this.language) ?? this.language;
  }

  get installed() {
    return isInstalled();
  }

  #fillShell() {
    const settings = document.querySelector("#open-settings");
    settings.setAttribute("aria-label", this.t("settings.title"));
    settings.onclick = () => this.#state.screen === "settings" || this.go({ screen: "settings" });
    document.querySelector("noscript, .script-fallback")?.remove();
  }

  /** The fragment of the address, which is removed from it: a reload must not enrol again. */
  #takeFragment() {
    const text = location.hash;
    if (!text) return "";
    history.replaceState(history.state, "", location.pathname);
    const id = ID.exec(text);
    if (id) this.wanted = id[1];
    return id ? "" : text;
  }

  #onFragment() {
    if (!location.hash) return;
    // A changed fragment makes an entry of the history, which has no level yet.
    history.replaceState({ level: ROOTS.has(this.#state.screen) ? 0 : 1 }, "");
    const text = this.#takeFragment();
    if (text || this.wanted) this.root(text);
  }

  /** Loads the other screens, so that the worker can keep them for a time without a connection. */
  async #loadAll() {
    await Promise.allSettled(Object.values(SCREENS).map((load) => load()));
    // Without a worker the app works, only not without a connection.
    await keepFiles().catch(() => {});
  }

  /** An installed app stays open for days: after an update of the server it loads itself again when it is shown. */
  async #renew() {
    if (document.visibilityState !== "visible" || Date.now() - this.#checkedAt < HOUR_MS) return;
    this.#checkedAt = Date.now();
    const info = await this.server.info().catch(() => null);
    if (info && info.get("version") !== this.version && ROOTS.has(this.#state.screen)) location.reload();
  }

  /** The worker names the request of a notification that a person has opened, or reports a push. */
  #onWorker({ type, id }) {
    if (type === "open" && this.device) {
      this.wanted = id;
      this.root();
    }
    if (type === "pushed") window.dispatchEvent(new Event("sigil-push"));
  }
}

export const app = new App();
await app.start();
