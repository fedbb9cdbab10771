// This browser, or this address, cannot be an authenticator: why, and what to do.

import { button, copyToClipboard, element, fill, isolated, mark, notice, text } from "../dom.js";
import { isIos } from "../fitness.js";

const MARKS = { in_app: "window", blocked: "window" };

/** @param {{reason: string, text?: string}} state `text`: the fragment with the code, which goes along to the other browser. */
export async function show(app, state) {
  const { reason } = state;
  const values = { host: location.hostname, browser: isIos() ? "Safari" : "Chrome" };
  const result = element("div", { role: "status" });
  const actions = reason === "in_app" ? [copyButton(app, `${location.origin}/device/${state.text ?? ""}`, result)] : [reloadButton(app)];
  fill(app, {
    title: app.t(`unfit.${reason}.title`),
    lead: app.t(`unfit.${reason}.text`, values),
    mark: mark(MARKS[reason] ?? "plain"),
    body: [result],
    actions,
  });
}

function copyButton(app, address, result) {
  const copy = async () => {
    if (await copyToClipboard(address)) result.replaceChildren(notice("note", text(app.t("unfit.copied"))));
    else result.replaceChildren(text(app.t("unfit.not_copied")), element("p", { class: "code" }, isolated(address)));
  };
  return button(app.t("unfit.copy"), copy, { kind: "primary" });
}

function reloadButton(app) {
  return button(app.t("reload"), () => location.reload(), { kind: "primary" });
}
