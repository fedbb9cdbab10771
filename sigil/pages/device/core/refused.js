// The one error of all checks in core/. `code` is that of the Python device (sigil/device/errors.py,
// enrolment/errors.py).

/** A text, payload, offer or identity that failed a check: nothing of it may be shown or signed. */
export class Refused extends Error {
  /**
   * @param {string} code such as "SERVER_SIGNATURE_INVALID"
   * @param {string} [message] for a log, in English; it repeats no value
   */
  constructor(code, message = code) {
    super(message);
    this.name = "Refused";
    this.code = code;
  }
}
