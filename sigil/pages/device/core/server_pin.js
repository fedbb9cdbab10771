// The server of a device, and the checks of `/info` before it is pinned (docs/protocol.md, 1 and 5.1), as
// sigil/device/server_pin.py has them.

import { fromBase64 } from "./encoding/bytes.js";
import { membersOf } from "./encoding/members.js";
import { Es256Key } from "./keys/public_key.js";
import { Refused } from "./refused.js";
import * as signedBytes from "./signed_bytes.js";

// A web device verifies with the ES256 key alone. Of the others it checks that they have the form of their suite; the
// signature over all of them is verified.
const OTHER_SUITES = [
  ["ES256K", 35, [0xe7, 0x01]],
  ["Ed25519", 34, [0xed, 0x01]],
];
const UNUSABLE = "SERVER_KEY_UNUSABLE";

/** @typedef {{ serverId: string, baseUrl: string, key: Es256Key }} Pin baseUrl is a canonical origin */

/**
 * The pin of a server whose `/info` is `info`; Refused.
 *
 * @param {Map<string, *>} info strictly parsed
 * @param {string} baseUrl
 * @param {string | null} expected the full server_id, from a link; without it a person must compare
 * @returns {Promise<Pin>}
 */
export async function verifyInfo(info, baseUrl, expected) {
  // In init mode most members are missing: report the mode, not the first missing member.
  if (info instanceof Map && info.get("mode") === "init") throw new Refused("NOT_INITIALIZED");
  const types = { server_id: "string", server_name: "string", server_public_key: "string", keys_signature: "string" };
  const members = membersOf(info, { ...types, server_public_keys: "object", mode: "string" }, "INFO_MALFORMED");
  const keys = members.server_public_keys;
  if (![...keys.values()].every((key) => typeof key === "string")) throw new Refused("INFO_MALFORMED");
  const key = es256Key(keys);
  for (const suite of OTHER_SUITES) checkForm(keys, ...suite);
  if (keys.get("ES256") !== members.server_public_key) throw new Refused("SERVER_KEYS_DISAGREE");
  if (key.fingerprint !== members.server_id) throw new Refused("SERVER_ID_MISMATCH");
  const signature = fromBase64(members.keys_signature, 64);
  if (!signature || !(await key.verify(signedBytes.serverKeys(keys), signature))) {
    throw new Refused("KEYS_SIGNATURE_INVALID");
  }
  // The full server_id: the pictogram is 30 bits, and a key with the same pictogram is found in minutes.
  if (expected !== null && expected !== members.server_id) throw new Refused("PIN_MISMATCH");
  return { serverId: members.server_id, baseUrl, key };
}

/**
 * The pin of a stored device record; Refused where the record is damaged.
 * @param {{ serverId: string, serverKeys: { ES256: string }, baseUrl: string }} record
 * @returns {Pin}
 */
export function pinOf(record) {
  const key = es256Key(new Map(Object.entries(record.serverKeys)));
  if (key.fingerprint !== record.serverId) throw new Refused("SERVER_ID_MISMATCH");
  return { serverId: record.serverId, baseUrl: record.baseUrl, key };
}

function es256Key(keys) {
  const wire = fromBase64(keys.get("ES256") ?? "");
  const key = wire && Es256Key.parse(wire);
  if (!key) throw new Refused(UNUSABLE, "the server's ES256 key is missing or malformed");
  return key;
}

function checkForm(keys, suite, length, prefix) {
  const wire = fromBase64(keys.get(suite) ?? "", length);
  if (!wire || prefix.some((byte, at) => wire[at] !== byte)) {
    throw new Refused(UNUSABLE, `the server's ${suite} key is missing or malformed`);
  }
}
