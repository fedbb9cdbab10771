// The requests to the server of this page's origin.

import { AnswerUnusable } from "./errors.js";
import { exchange } from "./http.js";

// `Date` has whole seconds, and the answer travels: within this, the device's clock is right.
const CLOCK_TOLERANCE_MS = 2000;

export class Server {
  #ahead = 0;

  /** @param {string} baseUrl the canonical origin: `location.origin` */
  constructor(baseUrl) {
    this.baseUrl = baseUrl;
  }

  /** Milliseconds since 1970 by the server's clock, as its last `Date` header had it. @returns {number} */
  now() {
    return Date.now() + this.#ahead;
  }

  /** `GET /info`. @returns {Promise<Map<string, *>>} */
  async info() {
    return (await this.#exchange("/info")).json;
  }

  /**
   * `POST /enrolment/claim`
   * @param {string} token @param {string} claimId 32 hex characters
   * @returns {Promise<{ offer: string, serverSignature: string }>} offer: its text as received
   */
  async claim(token, claimId) {
    const { json, texts } = await this.#exchange("/enrolment/claim", { body: { token, claim_id: claimId } });
    const offer = texts.get(json).get("offer");
    if (offer === undefined) throw new AnswerUnusable("offer is missing");
    return { offer, serverSignature: text(json, "server_signature") };
  }

  /**
   * `POST /enrolment/complete`
   * @param {Object} body
   * @returns {Promise<{ sasNonce: string, status: "confirming" | "enrolled" }>}
   */
  async complete(body) {
    const { json } = await this.#exchange("/enrolment/complete", { body });
    return { sasNonce: text(json, "sas_nonce"), status: text(json, "status", ["confirming", "enrolled"]) };
  }

  /**
   * `POST /enrolment/wait`
   * @param {string} enrolmentId @param {string} claimId @param {number} seconds 0..25
   * @param {AbortSignal} [signal]
   * @returns {Promise<{ status: string }>}
   */
  async wait(enrolmentId, claimId, seconds, signal) {
    const body = { enrolment_id: enrolmentId, claim_id: claimId, wait: seconds };
    const { json } = await this.#exchange("/enrolment/wait", { body, wait: seconds, signal });
    return { status: text(json, "status") };
  }

  /**
   * `POST /device/pending`
   * @param {{ device_public_key: string, timestamp: string, signature: string }} body
   * @returns {Promise<{ challenges: string[], approvals: string[] }>} the payloads as received
   */
  async pending(body) {
    const { json, texts } = await this.#exchange("/device/pending", { body });
    const listOf = (name) => {
      const list = json.get(name) ?? [];
      if (!Array.isArray(list)) throw new AnswerUnusable(`${name} is no list`);
      return texts.get(list) ?? [];
    };
    return { challenges: listOf("challenges"), approvals: listOf("mpa") };
  }

  /**
   * `POST /respond`
   * @param {Object} body
   * @returns {Promise<{ status: "verified" | "rejected" }>} AnswerUnusable when it is not the decision of the body
   */
  async respond(body) {
    const { json } = await this.#exchange("/respond", { body });
    const status = text(json, "status", ["verified", "rejected"]);
    const isApproved = body.decision === "approved";
    if (json.get("verified") !== isApproved || (status === "verified") !== isApproved) throw otherDecision();
    return { status };
  }

  /**
   * `POST /mpa/respond`
   * @param {Object} body
   * @returns {Promise<{ status: "recorded" | "approved" | "rejected" | "already_satisfied", groupsSatisfied: number,
   *   groupsRequired: number, quorumReached: boolean }>} AnswerUnusable when it is the opposite of the body's decision
   */
  async respondMpa(body) {
    const { json } = await this.#exchange("/mpa/respond", { body });
    const status = text(json, "status", ["recorded", "approved", "rejected", "already_satisfied"]);
    // An approval never ends a request as rejected, and a rejection never as approved.
    if (status === (body.decision === "approved" ? "rejected" : "approved")) throw otherDecision();
    const [groupsSatisfied, groupsRequired] = [json.get("groups_satisfied"), json.get("groups_required")];
    if (typeof groupsSatisfied !== "number" || typeof groupsRequired !== "number") {
      throw new AnswerUnusable("the counts of groups are missing");
    }
    return { status, groupsSatisfied, groupsRequired, quorumReached: json.get("quorum_reached") === true };
  }

  async #exchange(path, options) {
    const begun = Date.now();
    const answer = await exchange(this.baseUrl + path, options);
    // A long poll's `Date` is of its end or its begin: only a short exchange sets the clock.
    if (answer.date !== null && Date.now() - begun < CLOCK_TOLERANCE_MS) {
      const ahead = answer.date + 500 - (begun + Date.now()) / 2;
      this.#ahead = Math.abs(ahead) > CLOCK_TOLERANCE_MS ? ahead : 0;
    }
    return answer;
  }
}

function text(json, name, values) {
  const value = json.get(name);
  if (typeof value !== "string" || (values && !values.includes(value))) {
    throw new AnswerUnusable(`${name} is missing or unknown`);
  }
  return value;
}

function otherDecision() {
  return new AnswerUnusable("the server recorded another decision than the signed one");
}
