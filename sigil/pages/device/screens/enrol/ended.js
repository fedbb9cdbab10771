// How an enrolment ends without a device, or stops: one heading, one sentence, one next step.

import { button, fill, mark } from "../../dom.js";
import { drop } from "./progress.js";

// An error's code, and for ENROLMENT_CLOSED the state, to the name of its texts.
const ENDS = {
  ENROLMENT_NOT_FOUND: "unknown_code",
  ENROLMENT_CLAIMED: "claimed",
  ENROLMENT_CLOSED: "used",
  ENROLMENT_EXPIRED: "expired",
  OFFER_EXPIRED: "expired",
  ATTESTATION_REQUIRED: "attestation",
  ATTESTATION_INVALID: "attestation",
  NOT_ELIGIBLE: "revoked",
  NOT_INITIALIZED: "not_ready",
  INVALID_SIGNATURE: "rejected",
  INVALID_PUBLIC_KEY: "rejected",
  INVALID_REQUEST: "rejected",
  OFFLINE: "offline",
  ANSWER_UNUSABLE: "untrusted",
};
const STATES = new Set(["failed", "expired", "cancelled"]);
const UNSUPPORTED = { attestation_required: "attestation", replaces_a_key: "replaces", not_ready: "not_ready" };
/** After these, the same request may succeed. */
const REPEATABLE = new Set(["offline", "busy", "broken", "not_ready"]);
/** Marked as bad: another party may have had a hand in it, or the server does not accept this device. */
const ALARMING = new Set(["untrusted", "claimed", "failed", "rejected", "revoked", "broken"]);

/** The name of the texts for an error. */
export function endOf(error) {
  if (error.name === "Refused") return ENDS[error.code] ?? "untrusted";
  if (error.name === "Unsupported") return UNSUPPORTED[error.reason] ?? "broken";
  if (error.name === "StorageRefused" || error.reason === "off" || error.reason === "full") return "storage";
  if (error.code === "ENROLMENT_CLOSED" && STATES.has(error.details?.status)) return error.details.status;
  if (Object.hasOwn(ENDS, error.code ?? "")) return ENDS[error.code];
  return error.isTemporary ? "busy" : "broken";
}

/** Shows the end for an error; `retry` is the state that repeats the request. */
export function showError(app, error, retry) {
  const end = endOf(error);
  if (end === "broken") console.error(error);
  return showEnd(app, end, REPEATABLE.has(end) ? retry : undefined);
}

/**
 * Shows an end. Without `retry` the enrolment cannot go on, and is removed from this browser.
 * @param {object} app
 * @param {string} end
 * @param {object} [retry]
 */
export async function showEnd(app, end, retry) {
  const { signal, t } = app;
  if (!retry) await drop(app).catch(() => {});
  if (signal.aborted) return;
  const again = button(t("enrol.end.again"), () => app.go({ screen: "code" }), retry ? {} : { kind: "primary" });
  const actions = retry ? [button(t("enrol.end.retry"), () => app.go(retry), { kind: "primary" }), again] : [again];
  fill(app, {
    title: t(`enrol.end.${end}.title`),
    mark: mark(ALARMING.has(end) ? "bad" : "plain"),
    lead: t(`enrol.end.${end}.text`),
    actions,
  });
}
