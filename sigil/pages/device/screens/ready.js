// The list: what is pending, the last decisions, and which server this is. It fetches every few seconds while it is visible.

import { fetchPending } from "../client/inbox.js";
import { announce, box, button, element, fill, isolated, mark, notice, text } from "../dom.js";
import { closeNotifications, expectPushes, notificationState, openNotifications, refreshRegistration } from "../notifications.js";
import { decisionRows } from "./history.js";
import { serverFacts } from "./identity.js";

const EVERY_MS = 3_000;
const LONGEST_PAUSE_MS = 60_000;
const HOUR_MS = 3_600_000;
const RECENT = 3;

export async function show(app) {
  const { signal } = app;
  const screen = new Ready(app, signal);
  // Another tab may have removed or replaced the device.
  app.device = await app.store.device();
  if (signal.aborted) return;
  if (!app.device) return app.root();
  await screen.open();
  screen.poll().catch((error) => signal.aborted || app.fail(error, { screen: "ready" }));
}

class Ready {
  #app;
  #signal;
  #problem = box("problem");
  #list = element("ul", { class: "rows" });
  #unusable = box("unusable");
  #mark = mark("calm");
  #lead;
  #shown = "";
  #wait = EVERY_MS;
  #refreshedAt = 0;

  constructor(app, signal) {
    this.#app = app;
    this.#signal = signal;
    // A screen reader would find it on the next screen, where it is no longer true.
    signal.addEventListener("abort", () => announce(""));
  }

  async open() {
    const { t } = this.#app;
    const recent = await this.#app.store.decisions(RECENT);
    const body = [this.#problem, this.#list, this.#unusable, ...this.#offers()];
    if (recent.length > 0) body.push(this.#recent(recent));
    body.push(box("card", element("h2", {}, t("ready.server")), ...serverFacts(this.#app)));
    this.#list.hidden = true;
    fill(this.#app, { title: t("ready.fetching"), lead: t("ready.lead"), mark: this.#mark, body });
    this.#lead = this.#app.main.querySelector(".lead");
  }

  async poll() {
    while (!this.#signal.aborted) {
      if (document.visibilityState === "visible") {
        this.#refreshRegistration();
        await this.#fetch();
      }
      await this.#pause();
    }
  }

  /** Also of an app that stays open for days. In the background: a relay that does not answer holds up nothing. */
  #refreshRegistration() {
    if (Math.abs(Date.now() - this.#refreshedAt) < HOUR_MS) return;
    this.#refreshedAt = Date.now();
    refreshRegistration(this.#app).catch(() => {});
  }

  async #fetch() {
    this.#wait = EVERY_MS;
    try {
      // Those that are open by now: one that a push shows during the request may be of a later challenge.
      const open = await openNotifications();
      const { items, rejected } = await fetchPending(this.#app.server, this.#app.device);
      if (this.#signal.aborted) return;
      this.#showProblem("");
      closeNotifications(open, items);
      expectPushes(this.#app, items);
      this.#showItems(items);
      this.#showUnusable(rejected.length);
      this.#openWanted(items);
    } catch (error) {
      if (!this.#signal.aborted) await this.#onError(error);
    }
  }

  async #onError(error) {
    this.#wait = Math.min(Math.max(EVERY_MS, (error.retryAfter ?? 0) * 1000), LONGEST_PAUSE_MS);
    if (error.code === "OFFLINE") return this.#showProblem("offline");
    // Refused: the stored identity contradicts itself.
    if (error.status === 401 || error.name === "Refused") return this.#onUnauthorised();
    if (error.code === "INVALID_PUBLIC_KEY") return this.#app.go({ screen: "lost", why: "unknown" });
    // The local key of a record that the browser has damaged or emptied.
    if (error instanceof DOMException) return this.#app.go({ screen: "lost", why: "key" });
    if (error.status || error.code) return this.#showProblem("busy");
    throw error;
  }

  /** A clock that is wrong, or another server at this address: its id distinguishes them. */
  async #onUnauthorised() {
    const info = await this.#app.server.info().catch(() => null);
    if (this.#signal.aborted) return;
    if (info && info.get("server_id") !== this.#app.device.serverId) this.#app.go({ screen: "lost", why: "server" });
    else this.#showProblem("clock");
  }

  #showItems(items) {
    const ids = items.map((item) => item.id).join(" ");
    this.#lead.hidden = items.length > 0;
    this.#mark.classList.toggle("none", items.length > 0);
    if (ids === this.#shown && ids !== "") return;
    const { t } = this.#app;
    const heading = items.length === 0 ? t("ready.title") : t("ready.some", { count: items.length });
    if (this.#setHeading(heading) && ids !== this.#shown) announce(heading);
    this.#shown = ids;
    this.#list.hidden = items.length === 0;
    this.#list.replaceChildren(...items.map((item) => this.#row(item)));
  }

  #setHeading(content) {
    const heading = this.#app.main.querySelector("h1");
    if (heading.textContent === content) return false;
    heading.textContent = content;
    document.title = `${content} – ${this.#app.serverName}`;
    return true;
  }

  #row(item) {
    const until = new Intl.DateTimeFormat(this.#app.locale, { timeStyle: "short" }).format(item.expiresAt);
    const open = button("", () => this.#openItem(item));
    open.append(
      isolated(item.description, { class: "main-text" }),
      element("span", { class: "side-text" }, this.#app.t("ready.until", { time: until })),
    );
    return element("li", {}, open);
  }

  #openItem(item) {
    this.#app.opened.add(item.id);
    this.#app.go({ screen: item.type === "challenge" ? "ask" : "ask_many", item });
  }

  /** What a notification named, or the only request, opens at once; but what a person has left stays in the list. */
  #openWanted(items) {
    const { wanted, opened } = this.#app;
    this.#app.wanted = null;
    const named = items.find((item) => item.id === wanted);
    const only = items.length === 1 && !opened.has(items[0].id) ? items[0] : null;
    if (named ?? only) this.#openItem(named ?? only);
    else if (wanted) this.#problem.replaceChildren(notice("note", text(this.#app.t("ready.gone"))));
  }

  #showUnusable(count) {
    if (this.#unusable.dataset.count === String(count)) return;
    this.#unusable.dataset.count = String(count);
    this.#unusable.replaceChildren(
      ...(count > 0 ? [notice("warning", text(this.#app.t("ready.unusable", { count })))] : []),
    );
  }

  /** @param {"" | "offline" | "busy" | "clock"} kind */
  #showProblem(kind) {
    if ((this.#problem.dataset.kind ?? "") === kind) return;
    this.#problem.dataset.kind = kind;
    if (!kind) return this.#problem.replaceChildren();
    const { t, serverName } = this.#app;
    const content = t(`ready.${kind}.text`, { name: serverName });
    if (this.#shown === "") this.#setHeading(t(kind === "offline" ? "ready.offline.title" : "ready.problem.title"));
    this.#mark.classList.add("none");
    this.#lead.hidden = true;
    this.#problem.replaceChildren(notice("warning", text(content)));
    announce(content);
  }

  #offers() {
    const { t } = this.#app;
    if (notificationState(this.#app) === "default") {
      const turnOn = button(t("ready.notifications.button"), () => this.#app.go({ screen: "notify" }));
      return [notice("note", text(t("ready.notifications.off")), turnOn)];
    }
    const offer = this.#app.installation;
    if (!offer || this.#app.installed) return [];
    const box_ = notice("note", text(t("ready.install")));
    box_.append(
      button(t("ready.install.button"), async () => {
        this.#app.installation = null;
        await offer.prompt();
        box_.remove();
      }),
    );
    return [box_];
  }

  #recent(decisions) {
    const { t } = this.#app;
    const all = button(t("ready.all"), () => this.#app.go({ screen: "history" }), { kind: "quiet" });
    return element("section", {}, element("h2", {}, t("ready.recent")), decisionRows(this.#app, decisions), all);
  }

  /** Until the next fetch is due, the page becomes visible again, or the connection is back. */
  #pause() {
    return new Promise((resolve) => {
      const stop = new AbortController();
      const end = () => {
        clearTimeout(timer);
        stop.abort();
        resolve();
      };
      const timer = setTimeout(end, this.#wait);
      const options = { signal: stop.signal };
      document.addEventListener("visibilitychange", end, options);
      window.addEventListener("online", end, options);
      window.addEventListener("sigil-push", end, options);
      this.#signal.addEventListener("abort", end, options);
    });
  }
}
