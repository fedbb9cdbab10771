// The first screen of an enrolment: the code, by a link, by the camera, from the clipboard or by hand.

import { box, button, element, fill, notice, text } from "../../dom.js";
import { parseCode } from "../../client/enrolment.js";
import { CameraProblem, scan } from "./camera.js";
import { CodeField, mistake } from "./code_field.js";
import { showError } from "./ended.js";
import { begin, screenOf, unfinished } from "./progress.js";

/**
 * @param {object} app
 * @param {{text?: string, resume?: boolean}} state text: the fragment of the link that opened the app; resume: the app was
 *   opened while an enrolment is unfinished
 */
export async function show(app, state) {
  const { signal } = app;
  try {
    const found = state.text ? read(app, state.text) : {};
    if (found.code) return await go(app, found.code);
    const former = await unfinished(app);
    if (signal.aborted) return;
    // The time of the unfinished enrolment may have passed: a browser with a device has nothing to do here then.
    if (state.resume) return former ? app.go({ screen: screenOf(former) }) : app.root();
    new CodeScreen(app, former).show(found.problem);
  } catch (error) {
    if (!signal.aborted) await showError(app, error, { screen: "code" });
  }
}

/** The code of a text, or what is wrong with it as a key of texts. */
function read(app, text) {
  try {
    return { code: parseCode(text.trim(), { baseUrl: app.server.baseUrl }) };
  } catch (error) {
    if (error.name !== "BadCode") throw error;
    return { problem: error.reason === "other_server" ? "enrol.code.other_server" : "enrol.code.bad_form" };
  }
}

async function go(app, code) {
  const { signal } = app;
  const row = await begin(app, code);
  if (!signal.aborted) app.go({ screen: screenOf(row) });
}

class CodeScreen {
  #app;
  #former;
  #field;
  #continue;
  #scan;

  /** `former`: the enrolment that the person left with the browser's back, null without one. */
  constructor(app, former) {
    this.#app = app;
    this.#former = former;
    this.#field = new CodeField(app);
  }

  show(problem) {
    const { t } = this.#app;
    const form = element("form", { class: "code-form", novalidate: "" }, this.#field.node);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    const tools = [];
    // Firefox before 125 has none.
    if (navigator.clipboard?.readText) tools.push(button(t("enrol.code.paste"), () => this.#paste()));
    this.#continue = element("button", { type: "submit" }, t("enrol.code.continue"));
    form.append(box("tools", ...tools, this.#continue));
    this.#scan = button(t("enrol.code.scan"), () => new CameraScreen(this.#app, this.#former).show());
    this.#field.input.addEventListener("input", () => this.#rank());
    this.#rank();
    fill(this.#app, {
      title: t("enrol.code.title"),
      lead: t("enrol.code.lead"),
      step: [1, 4],
      body: [...this.#unfinished(), form],
      actions: [this.#scan],
    });
    if (problem) this.#field.showError(t(problem));
  }

  #unfinished() {
    const { t } = this.#app;
    if (!this.#former?.meeting) return [];
    const again = button(t("enrol.code.resume"), () => this.#app.go({ screen: screenOf(this.#former) }));
    return [notice("note", text(t("enrol.code.unfinished", { account: this.#former.meeting.account })), again)];
  }

  /** One button of the first rank: the one for what the person has begun. */
  #rank() {
    const typed = this.#field.text !== "";
    this.#continue.className = typed ? "primary" : "";
    this.#scan.className = typed ? "" : "primary";
  }

  async #paste() {
    const { t, signal } = this.#app;
    let pasted;
    try {
      pasted = await navigator.clipboard.readText();
    } catch {
      pasted = null;
    }
    if (signal.aborted) return;
    if (pasted === null || pasted.trim() === "") {
      this.#field.showError(t(pasted === null ? "enrol.code.no_paste" : "enrol.code.no_clipboard"));
      this.#field.input.focus();
      return;
    }
    this.#field.text = pasted;
    this.#submit();
  }

  #submit() {
    const { t } = this.#app;
    const { code, problem } = read(this.#app, this.#field.text);
    if (code) {
      this.#app.busy(this.#continue, go(this.#app, code).catch((error) => showError(this.#app, error)));
      return;
    }
    const [key, values] = problem === "enrol.code.bad_form" ? mistake(this.#field.text) : [problem, {}];
    this.#field.showError(t(key, values));
    this.#field.input.focus();
  }
}

class CameraScreen {
  #app;
  #former;
  #hint;

  constructor(app, former) {
    this.#app = app;
    this.#former = former;
  }

  show() {
    const app = this.#app;
    const { t } = app;
    // Without playsinline Safari opens its own player.
    const video = element("video", { playsinline: "", muted: "", "aria-label": t("enrol.camera.view") });
    video.muted = true;
    this.#hint = element("p", { class: "camera-hint", role: "status" }, t("enrol.camera.starting"));
    const stopped = new AbortController();
    const type = button(t("enrol.code.type"), () => {
      stopped.abort();
      new CodeScreen(app, this.#former).show();
    });
    fill(app, {
      title: t("enrol.camera.title"),
      step: [1, 4],
      body: [box("camera", video, box("camera-frame")), this.#hint],
      actions: [type],
    });
    app.signal.addEventListener("abort", () => stopped.abort());
    this.#run(video, stopped);
  }

  async #run(video, stopped) {
    const app = this.#app;
    const { t } = app;
    const { signal } = stopped;
    let found = false;
    try {
      await scan(video, {
        signal,
        onPlaying: () => (this.#hint.textContent = t("enrol.camera.hint")),
        onText: (scanned) => {
          if (found) return;
          const { code, problem } = read(app, scanned);
          if (!code) {
            this.#say(t(problem === "enrol.code.bad_form" ? "enrol.camera.foreign" : problem));
            return;
          }
          found = true;
          stopped.abort();
          navigator.vibrate?.(50);
          go(app, code).catch((error) => showError(app, error));
        },
      });
      // The page was hidden, or the camera was taken from it.
      if (!found && !signal.aborted) new CodeScreen(app, this.#former).show();
    } catch (error) {
      if (!(error instanceof CameraProblem)) throw error;
      if (signal.aborted) return;
      new CodeScreen(app, this.#former).show(`enrol.camera.${error.reason}`);
    }
  }

  // The same code is read many times a second: a screen reader hears it once.
  #say(sentence) {
    if (this.#hint.textContent !== sentence) this.#hint.textContent = sentence;
  }
}
