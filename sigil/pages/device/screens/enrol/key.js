// The key: one prompt makes it, a second one is the rehearsal, which signs the completion.

import { box, button, fill, mark, notice, text } from "../../dom.js";
import { complete, makeKey } from "../../client/enrolment.js";
import { endOf, showEnd, showError } from "./ended.js";
import { keep, unfinished } from "./progress.js";

export async function show(app) {
  const { signal } = app;
  try {
    const row = await unfinished(app);
    if (signal.aborted) return;
    if (!row) return await showEnd(app, "expired");
    if (!row.agreed) return app.go({ screen: "meet" });
    if (row.completed) return app.go({ screen: "confirm" });
    if (row.key) new Rehearsal(app, row).show();
    else new Making(app, row).show();
  } catch (error) {
    if (!signal.aborted) await showError(app, error, { screen: "key" });
  }
}

/** A screen with one button, which opens the prompt of the browser, and a sentence when that failed. */
class Attempt {
  constructor(app, row) {
    this.app = app;
    this.row = row;
    this.signal = app.signal;
    this.problem = notice("warning");
    this.problem.setAttribute("role", "alert");
    this.problem.hidden = true;
  }

  /** Runs in the click, with nothing awaited before: browsers open the prompt only there. */
  run(node, work) {
    this.problem.hidden = true;
    // An alert that shows the same sentence again is read again only if it was empty.
    this.problem.replaceChildren();
    this.app.busy(node, work()).catch((error) => this.failed(error));
  }

  failed(error) {
    if (!this.signal.aborted) showError(this.app, error, { screen: "key" });
  }

  say(key) {
    this.problem.replaceChildren(text(this.app.t(key)));
    this.problem.hidden = false;
  }
}

class Making extends Attempt {
  show() {
    const { app, row } = this;
    const kind = row.plain ? "plain_" : row.meeting.isPlatform ? "" : "roaming_";
    const make = button(app.t("enrol.key.make"), () => this.run(make, () => this.#make()), { kind: "primary" });
    fill(app, {
      title: app.t("enrol.key.title"),
      lead: app.t(`enrol.key.${kind}lead`),
      step: [3, 4],
      mark: mark("key"),
      body: [text(app.t(row.plain ? "enrol.key.plain_why" : "enrol.key.why")), this.problem],
      actions: [make],
    });
  }

  async #make() {
    const { app, row, signal } = this;
    const key = await makeKey(row.meeting, { plain: row.plain });
    // Before anything else: a key that is lost now would stay among the passkeys of this device for ever.
    const kept = await keep(app, row, { key });
    if (signal.aborted) return;
    if (kept) new Rehearsal(app, row).show();
    else app.go({ screen: "code" });
  }

  failed(error) {
    const { app, row, signal } = this;
    if (signal.aborted) return;
    if (error.name !== "AuthenticatorFailed") return super.failed(error);
    if (error.reason === "none" && row.meeting.plainKeys && !row.plain) {
      row.plain = true;
      return this.show();
    }
    this.say(`enrol.key.${["cancelled", "timeout", "none"].includes(error.reason) ? error.reason : "failed"}`);
  }
}

class Rehearsal extends Attempt {
  #tries = 0;

  show() {
    const { app, row } = this;
    const lead = app.t(row.key.kind === "plain" ? "enrol.try.plain_lead" : "enrol.try.lead");
    this.button = button(app.t("enrol.try.button"), () => this.run(this.button, () => this.#send()), { kind: "primary" });
    this.other = box("");
    fill(app, {
      title: app.t("enrol.try.title"),
      lead,
      step: [3, 4],
      mark: mark("phone"),
      body: [this.problem, this.other],
      actions: [this.button],
    });
  }

  async #send() {
    const { app, row, signal } = this;
    // As soon as it is sent, only the server knows whether the key is enrolled.
    const remember = () => keep(app, row, { sent: true });
    const completed = await complete(app.server, row.meeting, row.key, { remember, signal });
    await keep(app, row, { completed });
    if (!signal.aborted) app.go({ screen: "confirm" });
  }

  failed(error) {
    if (this.signal.aborted) return;
    if (error.name === "AuthenticatorFailed") return this.#notSigned(error.reason);
    const end = endOf(error);
    if (end !== "offline" && end !== "busy") return super.failed(error);
    // The same key makes the same completion, so the server answers as before.
    this.say(`enrol.try.${end}`);
  }

  #notSigned(reason) {
    const { app, row } = this;
    this.say(`enrol.try.${["cancelled", "timeout", "removed"].includes(reason) ? reason : "failed"}`);
    this.#tries += 1;
    // The key may be gone from the device: then only a new one helps.
    if (this.#tries < 2 || row.sent || this.other.hasChildNodes()) return;
    const again = button(app.t("enrol.try.new_key"), () => this.run(again, () => this.#forgetKey()), { kind: "quiet" });
    this.other.append(again);
  }

  async #forgetKey() {
    const { app, row, signal } = this;
    await keep(app, row, { key: undefined });
    if (!signal.aborted) app.go({ screen: "key" });
  }
}
