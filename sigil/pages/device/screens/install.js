// iOS: the app must be on the home screen before it makes its key. The code travels through the clipboard.

import { box, button, copyToClipboard, element, fill, isolated, mark, text } from "../dom.js";

/** @param {{text: string}} state `text`: the fragment of the link, with the code; empty without one. */
export async function show(app, state) {
  const { t } = app;
  const parts = [];
  if (state.text) parts.push(element("h2", {}, t("install.code.title")), text(t("install.code.text")), copyCode(app, state.text));
  parts.push(
    element("h2", {}, t("install.share.title")),
    element("ol", { class: "how" }, element("li", {}, t("install.share.one")), element("li", {}, t("install.share.two"))),
    element("h2", {}, t("install.open.title")),
    text(t("install.open.text", { name: app.serverName })),
  );
  fill(app, { title: t("install.title"), lead: t("install.lead"), mark: mark("phone"), body: parts });
}

/** The whole link, not the token alone: with it the app knows which server is meant. */
function copyCode(app, fragment) {
  const link = `${location.origin}/device/${fragment}`;
  const result = element("div", { role: "status" });
  const copy = button(
    app.t("install.code.button"),
    async () => {
      const copied = await copyToClipboard(link);
      if (copied) result.replaceChildren(text(app.t("install.code.copied"), "quiet"));
      else result.replaceChildren(text(app.t("install.code.shown")), element("p", { class: "code" }, isolated(link)));
    },
    { kind: "primary" },
  );
  return box("tools", copy, result);
}
