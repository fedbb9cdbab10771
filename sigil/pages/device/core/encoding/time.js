// Times on the wire: `YYYY-MM-DDTHH:MM:SSZ` alone (docs/protocol.md, introduction), in Unix seconds here.

const FORM = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/;

export function formatTime(seconds) {
  return `${new Date(seconds * 1000).toISOString().slice(0, 19)}Z`;
}

/** @returns {number | null} Unix seconds; null for every other spelling, and for times before 1970 */
export function parseTime(text) {
  if (!FORM.test(text)) return null;
  const seconds = Date.parse(text) / 1000;
  // Date.parse accepts 24:00:00 and, in some browsers, 31 February.
  return seconds >= 0 && formatTime(seconds) === text ? seconds : null;
}
