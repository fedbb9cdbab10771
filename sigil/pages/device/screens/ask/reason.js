// After Reject: why. Each choice rejects at once; only "back" sends nothing.

import { reject } from "../../client/decisions.js";
import { box, button, element, fill } from "../../dom.js";
import { keep } from "./done.js";
import { askState, timeLeft, watchPending } from "./watch.js";

const REASONS = ["cancelled", "unknown_trigger", undefined];

export async function show(app, state) {
  const { item, more } = state;
  const { signal } = app;
  let deciding = false;
  const status = element("p", { class: "decide-status", role: "status" });
  const choices = REASONS.map((reason) => choice(app, reason, () => choose(reason)));
  const back = button(app.t("reason.back"), () => deciding || app.go(askState(item, more)));
  const expire = () => deciding || app.go({ screen: "trouble", error: { code: "CHALLENGE_EXPIRED" } });
  const summary = element("p", { class: "summary", dir: "auto" }, item.description);
  // The choices are not where Reject was: a second tap of the same finger must not choose one.
  fill(app, {
    title: app.t("reason.title"),
    body: [summary, box("reasons", ...choices)],
    actions: [box("decide", timeLeft(app, item.expiresAt, expire), status, back)],
  });
  watchPending(app, item, () => deciding);

  function choose(reason) {
    if (deciding) return;
    deciding = true;
    status.textContent = app.t("reason.sending");
    for (const node of [...choices, back]) node.setAttribute("aria-disabled", "true");
    reject(app.server, app.device, item, reason).then(
      async (answer) => {
        await keep(app, item, reason === "unknown_trigger" ? "unknown_trigger" : "rejected");
        if (!signal.aborted) app.go({ screen: "done", decision: "rejected", reason, item, answer });
      },
      (error) => {
        if (signal.aborted) return;
        app.go({ screen: "trouble", error, retry: state, decision: "rejected", reason });
      },
    );
  }
}

function choice(app, reason, onClick) {
  const key = reason ?? "plain";
  const node = button("", onClick, { kind: "choice" });
  node.append(element("strong", {}, app.t(`reason.${key}`)), element("span", {}, app.t(`reason.${key}_text`)));
  return node;
}
