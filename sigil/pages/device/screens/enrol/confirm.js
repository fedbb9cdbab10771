// The code of this enrolment, which the person types into the page where they began; then this device is enrolled.

import { button, element, fill, pictogram, text } from "../../dom.js";
import { untilEnrolled } from "../../client/enrolment.js";
import { endOf, showEnd, showError } from "./ended.js";
import { unfinished } from "./progress.js";

/** Between two attempts to reach the server. */
const PAUSE_MS = 2_000;

export async function show(app) {
  const { signal } = app;
  try {
    const row = await unfinished(app);
    if (signal.aborted) return;
    if (!row) return await showEnd(app, "expired");
    if (!row.completed) return app.go({ screen: "key" });
    const { record, status } = row.completed;
    if (status === "enrolled") return await enrolled(app, record);
    const state = showCode(app, row);
    await wait(app, row, state);
  } catch (error) {
    if (!signal.aborted) await showError(app, error, { screen: "confirm" });
  }
}

function showCode(app, row) {
  const { t } = app;
  const { code, pictogram: names } = row.completed;
  // Two groups of three are read at a glance. A screen reader reads single digits, not a number.
  const shown = element("p", { class: "big-code" });
  const digits = element("span", { "aria-hidden": "true" }, code.slice(0, 3), " ", code.slice(3));
  const spoken = element("span", { class: "visually-hidden" }, `${t("enrol.confirm.code")}: ${[...code].join(" ")}`);
  shown.append(digits, spoken);
  const state = element("p", { class: "waiting", role: "status" }, t("enrol.confirm.waiting"));
  fill(app, {
    title: t("enrol.confirm.title"),
    lead: t("enrol.confirm.lead"),
    step: [4, 4],
    body: [pictogram(names, t("enrol.confirm.pictures")), shown, text(t("enrol.confirm.never"), "quiet"), state],
    actions: [button(t("enrol.confirm.stop"), () => showStop(app))],
  });
  return state;
}

function showStop(app) {
  const { t } = app;
  fill(app, {
    title: t("enrol.stop.title"),
    lead: t("enrol.stop.text"),
    actions: [
      button(t("enrol.stop.no"), () => app.go({ screen: "confirm" }), { kind: "primary" }),
      button(t("enrol.stop.yes"), () => showEnd(app, "stopped"), { kind: "danger" }),
    ],
  });
}

async function wait(app, row, state) {
  const { signal, t } = app;
  const say = () => (state.textContent = t(navigator.onLine ? "enrol.confirm.waiting" : "enrol.confirm.offline"));
  for (const event of ["online", "offline"]) window.addEventListener(event, say, { signal });
  while (!signal.aborted) {
    try {
      if (state.textContent !== t("enrol.confirm.offline")) say();
      const end = await untilEnrolled(app.server, row.completed.record, signal);
      if (signal.aborted) return;
      return end === "enrolled" ? await enrolled(app, row.completed.record) : await showEnd(app, end);
    } catch (error) {
      if (signal.aborted) return;
      const end = endOf(error);
      // The server keeps a result for ten minutes: this page was suspended for longer.
      if (end === "unknown_code") return showUnclear(app, row);
      if (end !== "offline" && end !== "busy") throw error;
      state.textContent = t(`enrol.confirm.${end}`);
      await pause(error.retryAfter ? error.retryAfter * 1000 : PAUSE_MS, signal);
    }
  }
}

/** Nothing but the person can learn whether the key was enrolled. It works if it was. */
function showUnclear(app, row) {
  const { t } = app;
  fill(app, {
    title: t("enrol.end.unclear.title"),
    lead: t("enrol.end.unclear.text"),
    actions: [
      button(t("enrol.end.unclear.yes"), (event) => app.busy(event.currentTarget, enrolled(app, row.completed.record))),
      button(t("enrol.end.unclear.no"), () => showEnd(app, "expired")),
    ],
  });
}

async function enrolled(app, record) {
  await app.adopt(record);
  app.announce(app.t("enrol.confirm.enrolled"));
  app.go({ screen: "notify" });
}

function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, milliseconds);
    signal.addEventListener("abort", end);
  });
}
