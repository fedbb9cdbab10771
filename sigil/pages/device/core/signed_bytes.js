// Every byte string that a device signs or verifies (docs/protocol.md, 2.4): `tag ‖ message`, each ending a tag with
// one zero byte. Hashes are 32 raw bytes.

import { base64, concat, utf8 } from "./encoding/bytes.js";
import { jcs, jcsOf } from "./encoding/jcs.js";
import { sha256 } from "./encoding/sha256.js";
import { formatTime } from "./encoding/time.js";

const tag = (name) => utf8(`${name}\0`);

/**
 * The 32 bytes that bind a challenge to every member that a device relies on.
 * @param {{ challengeId: string, expiresAt: number, fingerprint: string, nonce: Uint8Array, numberMatching: boolean,
 *   respondTo: string, serverId: string }} bound expiresAt in Unix seconds
 */
export function challengeBytes({ challengeId, expiresAt, fingerprint, nonce, numberMatching, respondTo, serverId }) {
  const members = jcsOf({
    challenge_id: challengeId,
    expires_at: formatTime(expiresAt),
    fingerprint,
    nonce: base64(nonce),
    number_matching: numberMatching,
    respond_to: respondTo,
    server_id: serverId,
  });
  return sha256(concat(tag("SIGIL-CHALLENGE-BIND-V1"), utf8(members)));
}

/** By the server when it creates a challenge, and by the device when it approves. */
export function approval(challenge, actionJcs) {
  return concat(tag("SIGIL-AUTH-V1"), challenge, sha256(utf8(actionJcs)));
}

/** An approval with number matching; `matchCode` is two ASCII digits. */
export function matchedApproval(challenge, actionJcs, matchCode) {
  return concat(tag("SIGIL-AUTH-MATCH-V1"), challenge, sha256(utf8(actionJcs)), utf8(matchCode));
}

export function rejection(challenge, actionJcs) {
  return concat(tag("SIGIL-AUTH-REJECT-V1"), challenge, sha256(utf8(actionJcs)));
}

/** @param {string} contextJcs the canonical text of an action_context */
export function mpaApproval(contextJcs) {
  return concat(tag("SIGIL-MPA-V1"), utf8(contextJcs));
}

export function mpaRejection(contextJcs) {
  return concat(tag("SIGIL-MPA-REJECT-V1"), utf8(contextJcs));
}

export function pending(serverId, timestamp) {
  return concat(tag("SIGIL-PENDING-V1"), utf8(`${serverId}\0${timestamp}`));
}

/** By the server's ES256 key. @param {Map<string, string>} serverPublicKeys */
export function serverKeys(serverPublicKeys) {
  return concat(tag("SIGIL-SERVER-KEYS-V1"), utf8(jcs(serverPublicKeys)));
}

export function relayRegister(relayOrigin, platform, nonce, pushToken) {
  return concat(tag("SIGIL-RELAY-REGISTER-V1"), utf8(`${relayOrigin}\0${platform}\0`), nonce, utf8(pushToken));
}

export function relayUnregister(relayOrigin, nonce) {
  return concat(tag("SIGIL-RELAY-UNREGISTER-V1"), utf8(`${relayOrigin}\0`), nonce);
}

/** By the server's ES256 key. @param {string} offerJcs */
export function enrolmentOffer(offerJcs) {
  return concat(tag("SIGIL-ENROL-OFFER-V1"), utf8(offerJcs));
}

/** By the new key; `digest` is `enrolmentDigest`. */
export function enrolmentCompletion(digest) {
  return concat(tag("SIGIL-ENROL-V1"), digest);
}

/** D, 96 bytes: the offer, the new key as on the wire, and the empty string: a web device attests nothing. */
export function enrolmentDigest(offerJcs, wire) {
  return concat(sha256(utf8(offerJcs)), sha256(wire), sha256(new Uint8Array()));
}

export function enrolmentTokenSha256(token) {
  return sha256(concat(tag("SIGIL-ENROL-TOKEN-V1"), utf8(token)));
}

export function enrolmentCommitment(sasNonce) {
  return sha256(concat(tag("SIGIL-ENROL-COMMIT-V1"), sasNonce));
}

/** The 32 bytes of the short authentication string. */
export function enrolmentSas(digest, sasNonce) {
  return sha256(concat(tag("SIGIL-ENROL-SAS-V1"), digest, sasNonce));
}
