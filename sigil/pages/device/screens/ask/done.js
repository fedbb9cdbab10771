// What became of the decision.

import { button, element, fill, mark } from "../../dom.js";

const RETURN_MS = 10_000;

/** Keeps a decision for the list of this browser. A browser that keeps nothing must not hide the outcome. */
export async function keep(app, item, outcome) {
  const { id, description } = item;
  try {
    await app.store.addDecision({ id, type: item.action, outcome, description, at: app.now() });
  } catch (error) {
    console.warn("this browser did not keep the decision", error);
  }
}

/** @param {{decision: "approved" | "rejected", reason?: string, item: object, answer: object}} state */
export async function show(app, state) {
  const { decision, item, answer } = state;
  const key = outcomeKey(state);
  const body = [element("p", { class: "summary", dir: "auto" }, item.description)];
  if (item.type === "approval") body.push(quorum(app, answer));
  if (state.reason === "unknown_trigger") body.push(element("p", { class: "note" }, app.t("done.paused")));
  fill(app, {
    mark: markOf(decision, key),
    title: app.t(`done.${key}`),
    lead: app.t(`done.${key}_text`),
    body,
    actions: [button(app.t("done.ready"), () => app.go({ screen: "ready" }), { kind: "primary" })],
  });
  returnLater(app);
}

function markOf(decision, key) {
  if (decision === "approved") return mark(key === "approved" ? "good" : "wait");
  const cross = mark("bad");
  // A rejection that arrived is no fault: the cross is not in the colour of danger.
  cross.setAttribute("class", "mark plain");
  return cross;
}

function outcomeKey({ decision, item, answer }) {
  if (item.type !== "approval") return decision;
  if (answer.status === "approved") return decision === "approved" ? "approved" : "overruled";
  if (answer.status === "rejected") return decision === "rejected" ? "rejected" : "ended_rejected";
  if (decision === "rejected") return "vote_rejected";
  return answer.status === "already_satisfied" ? "already_satisfied" : "vote_approved";
}

function quorum(app, { groupsSatisfied: satisfied, groupsRequired: required }) {
  const meter = element("progress", { max: String(required), value: String(satisfied), "aria-label": app.t("done.quorum_label") });
  return element("div", { class: "card quorum" }, element("p", {}, app.t("done.quorum", { satisfied, required })), meter);
}

/** Back to the list after some seconds, unless the person uses the page: reading has no time limit. */
function returnLater(app) {
  const { signal } = app;
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  const timer = setTimeout(() => document.visibilityState === "visible" && app.go({ screen: "ready" }), RETURN_MS);
  const stop = () => clearTimeout(timer);
  for (const name of ["pointerdown", "pointermove", "keydown", "scroll"]) window.addEventListener(name, stop, { signal });
  signal.addEventListener("abort", stop);
}
