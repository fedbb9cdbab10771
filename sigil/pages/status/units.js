// A reading as text: the same as `sigil/status/units.py`.

const BYTES = ["B", "KiB", "MiB", "GiB", "TiB"];
export const ABSENT = "-";

export function textOf(figure, { value, also }) {
  if (value === null) return ABSENT;
  if (typeof value === "string") return value;
  const shown = UNITS[figure.unit](value);
  if (figure.kind === "quantile") return `p50 ${also === null ? ABSENT : UNITS[figure.unit](also)}, p99 ${shown}`;
  if (figure.kind === "count" && also) return `${shown}, +${number(also)} in 5 min`;
  return shown;
}

/** A value of the figure in its unit, for a sparkline. */
export const inUnit = (figure, value) => UNITS[figure.unit](value);

/** Two decimals below 1, one below 10, then none. */
function number(value) {
  const size = Math.abs(value);
  if (size === Math.floor(size)) return value.toFixed(0);
  if (size < 0.01) return "<0.01";
  const digits = size < 1 ? 2 : size < 10 ? 1 : 0;
  const rounded = Math.floor(size * 10 ** digits + 0.5) / 10 ** digits;
  return `${value < 0 ? "-" : ""}${rounded.toFixed(digits)}`;
}

function seconds(value) {
  const size = Math.abs(value);
  if (size > 0 && size < 1) return `${number(value * 1000)} ms`;
  if (size < 60) return `${number(value)} s`;
  const [sign, whole] = [value < 0 ? "-" : "", Math.floor(size)];
  if (whole < 3600) return `${sign}${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86400) return `${sign}${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${sign}${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

function bytes(value) {
  let at = 0;
  while (Math.abs(value) >= 1024 && at < BYTES.length - 1) {
    value /= 1024;
    at += 1;
  }
  return `${number(value)} ${BYTES[at]}`;
}

function days(value) {
  if (value < 0) return "expired";
  const whole = Math.floor(value);
  return `${whole} day${whole === 1 ? "" : "s"} left`;
}

const UNITS = {
  count: number,
  per_second: (value) => `${number(value)}/s`,
  seconds,
  bytes,
  percent: (value) => `${number(value)} %`,
  cores: (value) => `${number(value)} cores`,
  days,
  up: (value) => (value >= 1 ? "up" : "down"),
  done: (value) => (value >= 1 ? "successful" : "failed"),
};
