// What went wrong, and the one next step.

import { button, element, fill, mark } from "../../dom.js";
import { keep } from "./done.js";

/** Error codes (docs/protocol.md, 4, and those of client/) by what they mean for the person. */
const MEANINGS = {
  CHALLENGE_EXPIRED: "expired",
  MPA_EXPIRED: "expired",
  CHALLENGE_ALREADY_USED: "answered",
  ALREADY_ANSWERED: "answered",
  MPA_CLOSED: "ended",
  CHALLENGE_NOT_FOUND: "ended",
  MPA_NOT_FOUND: "ended",
  NO_LONGER_PENDING: "elsewhere",
  NOT_ELIGIBLE: "not_eligible",
  ATTESTATION_REQUIRED: "attestation",
  ATTESTATION_INVALID: "attestation",
  MATCH_CODE_WRONG: "wrong_code",
  RATE_LIMITED: "busy",
  OFFLINE: "offline",
  CHECK_FAILED: "unsigned",
  INVALID_SIGNATURE: "signature",
  INVALID_PUBLIC_KEY: "signature",
};
/** Of AUTHENTICATOR_FAILED, by its reason. The others are unexpected. */
const OF_THE_KEY = { removed: "key_gone", none: "no_lock" };
/** The next step: again (the same request) or enrol (a new key); without an entry, the list. */
const STEPS = { busy: "again", server: "again", offline: "again", no_lock: "again", unexpected: "again", key_gone: "enrol", signature: "enrol" };
const MARKS = { unsigned: "bad", wrong_code: "bad", expired: "wait", answered: "wait", ended: "wait", elsewhere: "wait" };

/**
 * @param {{error: {code?: string, status?: number, retryAfter?: number, details?: object, resend?: () => Promise<object>},
 *   retry?: object, decision?: "approved" | "rejected", reason?: string}} state `retry` opens the same request again;
 *   `decision` is what the person had decided
 */
export async function show(app, state) {
  const { error, retry } = state;
  const meaning = meaningOf(error);
  const hasEnded = retry?.item && retry.item.expiresAt <= app.now();
  const step = STEPS[meaning] === "again" && (!retry || hasEnded) ? "list" : (STEPS[meaning] ?? "list");
  const next = { again: retry, enrol: { screen: "lost", why: meaning === "key_gone" ? "key" : "unknown" }, list: { screen: "ready" } }[step];
  const goOn = step === "again" && error.resend ? () => resend(app, state, action) : () => app.go(next);
  const action = button(app.t(`trouble.step_${step}`), goOn, { kind: "primary" });
  const body = [];
  if (error.retryAfter > 0) body.push(element("p", {}, app.t("trouble.wait", { count: Math.ceil(error.retryAfter) })));
  // Where the server reports what became of the request, that is what a person wants to know.
  if (error.details?.decision) body.push(element("p", {}, app.t(`trouble.was_${error.details.decision}`)));
  const code = error.details?.why ?? (meaning === "unexpected" ? (error.code ?? error.name) : null);
  if (code) body.push(element("p", { class: "quiet support" }, `${app.t("trouble.code")} `, element("code", {}, String(code))));
  fill(app, {
    mark: mark(MARKS[meaning] ?? "plain"),
    title: app.t(`trouble.${meaning}`),
    lead: app.t(`trouble.${meaning}_text`),
    body,
    actions: [action],
  });
}

/** @returns {string} the part of the text's key that names what `error` means */
function meaningOf({ code = "", status = 0, reason = "" }) {
  if (code === "AUTHENTICATOR_FAILED") return OF_THE_KEY[reason] ?? "unexpected";
  if (Object.hasOwn(MEANINGS, code)) return MEANINGS[code];
  return status >= 500 ? "server" : "unexpected";
}

/** Sends the signed bytes once more: the person confirmed them already. */
async function resend(app, { error, retry, decision, reason }, action) {
  const { signal } = app;
  const { item } = retry;
  try {
    const answer = await app.busy(action, error.resend());
    await keep(app, item, reason === "unknown_trigger" ? reason : decision);
    if (!signal.aborted) app.go({ screen: "done", decision, reason, item, answer });
  } catch (again) {
    if (!signal.aborted) app.go({ screen: "trouble", error: again, retry, decision, reason });
  }
}
