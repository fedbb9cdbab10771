// The enrolment that this browser has begun. It is stored before each step that cannot be repeated: the claim_id before the
// claim, the key before it is sent. So a page that is suspended, reloaded or closed goes on where it was.

import { newClaimId } from "../../client/enrolment.js";

const NAME = "enrolment";
/** Of an enrolment whose offer is not known yet: no enrolment lives longer (docs/protocol.md, 5.5). */
const LONGEST_MS = 900_000;

/**
 * @typedef {object} Progress
 * @property {import("../../client/enrolment.js").Code} code
 * @property {string} claimId
 * @property {boolean} plain A key of this browser alone, without WebAuthn.
 * @property {number} begunAt
 * @property {import("../../client/enrolment.js").Meeting} [meeting] The offer and its server, once claimed.
 * @property {boolean} [agreed] The person goes on with this server and account.
 * @property {import("../../client/enrolment.js").Key} [key]
 * @property {boolean} [sent] The key was sent: the server may have enrolled it.
 * @property {{record: object, code: string | null, pictogram: string[] | null, status: string}} [completed]
 */

/** Begins an enrolment. The same token again is the same enrolment: its claim_id must not change. */
export async function begin(app, code) {
  const former = await app.store.get(NAME);
  if (former?.code.token === code.token && !isPast(former, app.now())) return former;
  const row = { code, claimId: newClaimId(), plain: app.plain, begunAt: app.now() };
  await app.store.set(NAME, row);
  return row;
}

/** The unfinished enrolment, null without one. One whose time has passed is removed, unless its key was sent. */
export async function unfinished(app) {
  const row = await app.store.get(NAME);
  if (!row) return null;
  if (!isPast(row, app.now())) return row;
  await drop(app);
  return null;
}

/** Adds to the stored enrolment; false if another tab has begun another one. */
export async function keep(app, row, changes) {
  const stored = await app.store.get(NAME);
  if (stored?.claimId !== row.claimId) return false;
  await app.store.set(NAME, Object.assign(row, changes));
  return true;
}

export function drop(app) {
  return app.store.remove(NAME);
}

/** The screen on which an enrolment goes on. */
export function screenOf(row) {
  if (row.completed) return "confirm";
  return row.agreed ? "key" : "meet";
}

// The server may have enrolled a key that was sent, so only the server's answer ends that enrolment.
function isPast(row, now) {
  if (row.sent) return false;
  return now >= (row.meeting?.expiresAt ?? row.begunAt + LONGEST_MS);
}
