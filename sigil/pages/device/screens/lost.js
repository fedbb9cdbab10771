// The key is gone, or the server does not accept it any more: enrol again.

import { button, fill, mark, text } from "../dom.js";

/** @param {{why?: "key" | "server" | "unknown"}} state */
export async function show(app, { why = "key" }) {
  const { t } = app;
  const enrol = button(t("lost.button"), () => app.go({ screen: "code", text: "", plain: app.plain }), { kind: "primary" });
  fill(app, {
    title: t("lost.title"),
    lead: t(`lost.${why}`),
    mark: mark("key"),
    body: [text(t("lost.how"))],
    actions: [enrol, button(t("lost.retry"), () => app.go({ screen: "ready" }))],
  });
}
