// The deciding screen: what is decided, the time left, the two digits, and both buttons.

import { approve } from "../../client/decisions.js";
import { box, button, element, fill } from "../../dom.js";
import { keep } from "./done.js";
import { Gate } from "./gate.js";
import { requestNodes } from "./request.js";
import { timeLeft, watchPending } from "./watch.js";

/** @param {{item: object, more?: number}} state `more`: how many other requests are pending */
export function decide(app, state, { title, lead }) {
  const { item } = state;
  let { more = 0 } = state;
  const { signal } = app;
  let deciding = false;
  let refusedAtOnce = false;
  let gate = null;
  const request = requestNodes(app, item);
  const code = item.numberMatching ? codeField(app, () => approveButton.click(), () => update()) : null;
  const hint = element("p", { class: "hint", id: "ask-hint" });
  const read = button(app.t("ask.read_on"), () => scrollOn(), { kind: "quiet read-on" });
  const status = element("p", { class: "decide-status", role: "status" });
  const rejectButton = button(app.t("ask.reject"), () => app.go({ screen: "reason", item, more }), { kind: "reject" });
  const approveButton = button(app.t("ask.approve"), () => onApprove(), { kind: "primary" });
  approveButton.setAttribute("aria-describedby", "ask-hint");
  const left = timeLeft(app, item.expiresAt, () => deciding || expire());

  const others = element("p", { class: "quiet others" });
  showOthers(more);

  fill(app, {
    title,
    lead,
    body: [others, ...request.nodes, ...(code ? [code.node] : [])],
    actions: [box("decide", box("reading", left, read), hint, status, box("pair", rejectButton, approveButton))],
  });
  app.main.querySelector("h1").setAttribute("aria-describedby", "ask-description");

  gate = new Gate({ end: request.end, bar: app.main.querySelector(".actions"), signal, onChange: update });
  update();
  watchPending(app, item, () => deciding, showOthers);

  function update() {
    if (gate === null) return;
    const open = gate.state === "open" && !deciding && (code === null || code.value !== null);
    approveButton.setAttribute("aria-disabled", String(!open));
    rejectButton.setAttribute("aria-disabled", String(deciding));
    read.hidden = deciding || gate.state !== "unseen";
    hint.textContent = deciding ? "" : hintText();
    code?.lock(deciding);
  }

  function showOthers(count) {
    more = count;
    others.hidden = count === 0;
    const text = app.t("ask.more", { count });
    if (others.textContent !== text) others.textContent = text;
  }

  function hintText() {
    if (gate.state === "unseen") return app.t("ask.hint_unseen");
    if (gate.state === "unfocused") return app.t("ask.hint_unfocused");
    return code !== null && code.value === null ? app.t("ask.hint_code") : "";
  }

  function scrollOn() {
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const behavior = calm ? "instant" : "smooth";
    // The key End, or a window that is low, can skip the last line: below it there is nothing more to scroll to.
    if (request.end.getBoundingClientRect().bottom < 0) return request.end.scrollIntoView({ block: "center", behavior });
    const height = (window.innerHeight - app.main.querySelector(".actions").offsetHeight) * 0.8;
    window.scrollBy({ top: Math.max(80, height), behavior });
  }

  function onApprove() {
    // The conditions of this moment: the window may have lost the focus since the button opened.
    if (gate.state !== "open" || deciding || (code !== null && code.value === null)) return;
    deciding = true;
    status.textContent = app.t(app.device.kind === "plain" ? "ask.sending" : "ask.prompt");
    code?.clearError();
    // Nothing is awaited before this call: a browser opens the prompt only inside the click.
    approve(app.server, app.device, item, { matchCode: code?.value ?? undefined, signal }).then(onAnswer, onError);
    update();
  }

  async function onAnswer(answer) {
    await keep(app, item, "approved");
    if (!signal.aborted) app.go({ screen: "done", decision: "approved", item, answer });
  }

  async function onError(error) {
    const triesLeft = error.code === "MATCH_CODE_WRONG" ? error.details.triesLeft : null;
    if (triesLeft === 0) await keep(app, item, "rejected");
    if (signal.aborted) return;
    deciding = false;
    status.textContent = "";
    const calm = calmText(error);
    if (item.expiresAt <= app.now()) return expire();
    if (triesLeft > 0) code.reject(app.t("ask.wrong_code", { count: triesLeft }));
    else if (calm === null) return app.go({ screen: "trouble", error, retry: state, decision: "approved" });
    else status.textContent = calm;
    gate.restart();
  }

  /** The text of a prompt that ended without a signature; null for an error that this screen does not explain. */
  function calmText({ code: name, reason }) {
    if (name !== "AUTHENTICATOR_FAILED") return null;
    if (reason === "cancelled" || reason === "timeout") return app.t("ask.cancelled");
    // Browsers also refuse at once when the page had lost the focus: only a second time the key counts as gone.
    if (reason === "removed" && !refusedAtOnce) {
      refusedAtOnce = true;
      return app.t("ask.no_prompt");
    }
    return null;
  }

  function expire() {
    app.go({ screen: "trouble", error: { code: "CHALLENGE_EXPIRED" } });
  }
}

/** The two digits of number matching. `value` is null until there are two. */
function codeField(app, onEnter, onInput) {
  const attributes = { id: "ask-code", inputmode: "numeric", autocomplete: "off", maxlength: "2", pattern: "[0-9]{2}" };
  const input = element("input", { ...attributes, type: "text", class: "digits", "aria-describedby": "ask-code-help ask-code-error" });
  const error = element("p", { class: "error", id: "ask-code-error", role: "alert" });
  const label = element("label", { for: "ask-code" }, app.t("ask.code"));
  const help = element("p", { class: "help", id: "ask-code-help" }, app.t("ask.code_help"));
  const node = element("form", { class: "card code-form", novalidate: "" }, label, help, input, error);
  node.addEventListener("submit", (event) => {
    event.preventDefault();
    onEnter();
  });
  input.addEventListener("input", () => {
    input.value = input.value.replace(/[^0-9]/g, "");
    onInput();
  });
  return {
    node,
    get value() {
      return /^[0-9]{2}$/.test(input.value) ? input.value : null;
    },
    lock: (locked) => (input.readOnly = locked),
    clearError() {
      error.textContent = "";
      input.removeAttribute("aria-invalid");
    },
    reject(text) {
      input.value = "";
      input.setAttribute("aria-invalid", "true");
      error.textContent = text;
      input.focus();
      node.scrollIntoView({ block: "nearest" });
    },
  };
}
