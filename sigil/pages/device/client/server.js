// The requests to the server of this page's origin.

/** @typedef {{ text: string, json: Map<string, *> }} Answer the text as received, and its strictly parsed object */

export class Server {
  /** @param {string} baseUrl the canonical origin: `location.origin` */
  constructor(baseUrl) {
    this.baseUrl = baseUrl;
  }

  /** Milliseconds since 1970 by the server's clock, as its last `Date` header had it. @returns {number} */
  now() {
    return Date.now();
  }

  /** `GET /info`. @returns {Promise<Map<string, *>>} */
  async info() {
    throw new Error("not yet");
  }

  /** @param {string} token @param {string} claimId 32 hex characters */
  async claim(token, claimId) {
    throw new Error("not yet");
  }

  /** `POST /enrolment/complete` */
  async complete(body) {
    throw new Error("not yet");
  }

  /** `POST /enrolment/wait`; `signal` ends it. @returns {Promise<{status: string}>} */
  async wait(enrolmentId, claimId, seconds, signal) {
    throw new Error("not yet");
  }

  /** `POST /device/pending` */
  async pending(body) {
    throw new Error("not yet");
  }

  /** `POST /respond` */
  async respond(body) {
    throw new Error("not yet");
  }

  /** `POST /mpa/respond` */
  async respondMpa(body) {
    throw new Error("not yet");
  }
}
