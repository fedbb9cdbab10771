// The decisions that were made in this browser, which alone keeps them.

import { element, fill, isolated, text } from "../dom.js";

export async function show(app) {
  const { signal } = app;
  const decisions = await app.store.decisions();
  if (signal.aborted) return;
  const body = decisions.length > 0 ? [decisionRows(app, decisions)] : [text(app.t("history.none"))];
  fill(app, { title: app.t("history.title"), lead: app.t("history.lead"), back: true, body });
}

/** The decisions as a list: what was decided, how, and when. */
export function decisionRows(app, decisions) {
  const time = new Intl.DateTimeFormat(app.locale, { dateStyle: "medium", timeStyle: "short" });
  const list = element("ul", { class: "rows", role: "list" });
  for (const { description, outcome, at } of decisions) {
    list.append(
      element(
        "li",
        { class: "row" },
        isolated(description, { class: "main-text" }),
        element("span", { class: "side-text", "data-outcome": outcome }, `${app.t(`outcome.${outcome}`)}, ${time.format(at)}`),
      ),
    );
  }
  return list;
}
