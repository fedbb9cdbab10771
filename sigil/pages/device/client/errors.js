// The errors of the client, one class for each thing that a screen must distinguish. Each has `code`; the texts for
// people belong to the screens. A check of `core/` that fails is `Refused` (core/refused.js).

export { Refused } from "../core/refused.js";

/** The server or the relay answered with an error (docs/protocol.md, 4). `details` is an object, possibly empty. */
export class Problem extends Error {
  /**
   * @param {number} status of HTTP
   * @param {string} code of the protocol, or `HTTP_<status>` for an answer that is none of it
   * @param {{ details?: Object<string, *>, retryAfter?: number }} [more] retryAfter in seconds, null without one
   */
  constructor(status, code, { details = {}, retryAfter = null } = {}) {
    super(code);
    this.name = "Problem";
    this.status = status;
    this.code = code;
    this.details = details;
    this.retryAfter = retryAfter;
  }

  /** Whether the same request may succeed later: overload, rate limits, a restart. */
  get isTemporary() {
    return this.status === 429 || this.status >= 500;
  }
}

/**
 * No answer: no network, a time-out, a connection that broke. The server may have received the request.
 * `resend`, if there is one, sends the same signed bytes once more without a new prompt.
 */
export class Offline extends Error {
  /** @param {"network" | "timeout"} reason @param {(() => Promise<*>) | null} [resend] */
  constructor(reason, resend = null) {
    super(reason);
    this.name = "Offline";
    this.code = "OFFLINE";
    this.reason = reason;
    this.resend = resend;
  }
}

/** An answer that is not of the documented form, too large, or contradicts the request. Not shown, not stored. */
export class AnswerUnusable extends Error {
  /** @param {string} why for a log, in English */
  constructor(why) {
    super(why);
    this.name = "AnswerUnusable";
    this.code = "ANSWER_UNUSABLE";
  }
}

/** What was scanned, pasted or typed is no code of this server. */
export class BadCode extends Error {
  /** @param {"form" | "other_server"} reason */
  constructor(reason) {
    super(reason);
    this.name = "BadCode";
    this.code = "BAD_CODE";
    this.reason = reason;
  }
}

/** This enrolment needs something that a web device does not have. No key was made. */
export class Unsupported extends Error {
  /**
   * @param {"attestation_required" | "replaces_a_key" | "not_ready" | "plain_keys"} reason not_ready: the server is in
   *   init mode; plain_keys: the operator permits none
   */
  constructor(reason) {
    super(reason);
    this.name = "Unsupported";
    this.code = "UNSUPPORTED";
    this.reason = reason;
  }
}

/**
 * The browser's authenticator made no key or no signature.
 *
 * - cancelled: the person closed the prompt, or the browser did not say why (NotAllowedError means both)
 * - timeout: the prompt stayed open for its whole time
 * - none: there is no authenticator with user verification on this device
 * - removed: the browser refused at once, faster than a person can: it has no such credential any more (or the page
 *   had no focus). Offer another attempt first, then to enrol again
 * - failed: another error; `message` has the browser's name of it
 */
export class AuthenticatorFailed extends Error {
  /** @param {"cancelled" | "timeout" | "none" | "removed" | "failed"} reason @param {string} [message] */
  constructor(reason, message = reason) {
    super(message);
    this.name = "AuthenticatorFailed";
    this.code = "AUTHENTICATOR_FAILED";
    this.reason = reason;
  }
}
