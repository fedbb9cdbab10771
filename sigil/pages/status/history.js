// From the samples of successive scrapes to the readings of the figures: the same as `sigil/status/history.py`.

import { parse } from "./exposition.js";

const MAX_SCRAPES = 600;
const MAX_BUCKETS = 100;
const MAX_TEXT = 64;
const DAY = 86400;
const INCREASING = ["rate", "count", "quantile"];
const NOTHING = { value: null, also: null, level: "" };

export const figuresOf = (table) => [...table.header, ...table.groups.flatMap((group) => group.figures)];

export class History {
  #table;
  #figures;
  #names;
  #steps = [];
  #before = null;
  #at = 0;

  constructor(table) {
    this.#table = table;
    this.#figures = figuresOf(table);
    this.#names = new Set(this.#figures.flatMap(metricsOf));
    this.readings = new Map(this.#figures.map(({ id }) => [id, NOTHING]));
    this.past = new Map(this.#figures.map(({ id }) => [id, []]));
  }

  /** One answer of /metrics, `at` in monotonic seconds, `now` in Unix seconds. Returns false if it has no such metric. */
  add(text, at, now) {
    const samples = parse(text, this.#names);
    if (samples.size === 0) return false;
    if (this.#before !== null && at > this.#at) {
      const increasing = this.#figures.filter(({ kind }) => INCREASING.includes(kind));
      const increases = new Map(increasing.map((figure) => [figure.id, increase(figure, this.#before, samples)]));
      this.#steps.push({ began: this.#at, increases });
      if (this.#steps.length > MAX_SCRAPES) this.#steps.shift();
    }
    this.#before = samples;
    this.#at = at;
    for (const figure of this.#figures) {
      const reading = finite({ ...NOTHING, ...this.#reading(figure, samples, now) });
      this.readings.set(figure.id, { ...reading, level: levelOf(figure, reading) });
      if (typeof reading.value !== "number") continue;
      const past = this.past.get(figure.id);
      past.push(reading.value);
      if (past.length > this.#table.kept) past.shift();
    }
    return true;
  }

  #reading(figure, samples, now) {
    const found = matching(figure, samples);
    if (figure.kind === "label") {
      const sample = found.find(({ value }) => value === 1);
      return { value: sample ? [...(sample.labels.get(figure.name) ?? "")].slice(0, MAX_TEXT).join("") : null };
    }
    if (figure.kind === "quantile") {
      const [recent] = this.#recent(figure);
      return { value: quantile(0.99, recent), also: quantile(0.5, recent) };
    }
    // Of a counter whose labels appear with their first event, no sample is none of them.
    if (found.length === 0 && !(["rate", "count"].includes(figure.kind) && samples.has(figure.metric))) return NOTHING;
    const total = sum(found);
    const [recent, seconds] = INCREASING.includes(figure.kind) ? this.#recent(figure) : [null, 0];
    switch (figure.kind) {
      case "rate":
        return { value: seconds ? (recent.get("") ?? 0) / seconds : null };
      case "count":
        return { value: total, also: seconds ? (recent.get("") ?? 0) : null };
      case "ratio": {
        const over = sum(samples.get(figure.over) ?? []);
        return { value: over > 0 ? (100 * total) / over : null };
      }
      case "since":
        return { value: Math.max(0, now - total) };
      case "until":
        return { value: (total - now) / DAY };
      default:
        return { value: total };
    }
  }

  /** The increases in the window of the figure's kind, and the seconds that they cover. */
  #recent(figure) {
    const sums = new Map();
    let began = this.#at;
    for (const step of this.#steps.toReversed()) {
      if (this.#at - began >= this.#table.windows[figure.kind]) break;
      began = step.began;
      for (const [bound, value] of step.increases.get(figure.id)) sums.set(bound, (sums.get(bound) ?? 0) + value);
    }
    return [sums, this.#at - began];
  }
}

/** Sums and quotients of samples that are finite may not be. */
const finite = (reading) =>
  [reading.value, reading.also].every((value) => typeof value !== "number" || Number.isFinite(value)) ? reading : NOTHING;

function metricsOf(figure) {
  const name = figure.kind === "quantile" ? `${figure.metric}_bucket` : figure.metric;
  return figure.over ? [name, figure.over] : [name];
}

const sum = (samples) => samples.reduce((total, { value }) => total + value, 0);

function matching(figure, samples) {
  return (samples.get(metricsOf(figure)[0]) ?? []).filter(({ labels }) =>
    Object.entries(figure.where ?? {}).every(([label, values]) =>
      values.some((wanted) => equals(wanted, labels.get(label) ?? "")),
    ),
  );
}

const equals = (wanted, value) => (wanted.endsWith("*") ? value.startsWith(wanted.slice(0, -1)) : value === wanted);

/** A counter that is smaller than before began again at zero, and so did one that is new. */
function increase(figure, before, samples) {
  const known = new Map(matching(figure, before).map(({ series, value }) => [series, value]));
  const sums = new Map();
  for (const { series, labels, value } of matching(figure, samples)) {
    const earlier = known.get(series) ?? 0;
    const bound = figure.kind === "quantile" ? (labels.get("le") ?? "") : "";
    if (!sums.has(bound) && sums.size >= MAX_BUCKETS) continue;
    sums.set(bound, (sums.get(bound) ?? 0) + value - (earlier <= value ? earlier : 0));
  }
  return sums;
}

/** Linear within a bucket, as histogram_quantile of Prometheus; beyond the last bound, that bound. */
function quantile(share, increases) {
  const buckets = [...increases].map(([text, count]) => [boundOf(text), count]).sort(([a], [b]) => (a < b ? -1 : +(a > b)));
  const last = buckets.at(-1);
  if (buckets.length < 2 || last[0] !== Infinity || last[1] <= 0) return null;
  const rank = share * last[1];
  let [lower, below] = [0, 0];
  for (const [bound, count] of buckets) {
    if (bound === Infinity) break;
    if (count >= rank) return count > below ? lower + ((bound - lower) * (rank - below)) / (count - below) : bound;
    [lower, below] = [bound, count];
  }
  return lower;
}

function boundOf(text) {
  const bound = text.trim() === "" ? Infinity : Number(text);
  return Number.isNaN(bound) ? Infinity : bound;
}

function levelOf(figure, { value, also }) {
  if (typeof value === "string") return value === figure.warn_text ? "warn" : "";
  const judged = figure.kind === "count" ? also : value;
  if (judged === null) return "";
  if (beyond(judged, figure.bad_above, figure.bad_below)) return "bad";
  return beyond(judged, figure.warn_above, figure.warn_below) ? "warn" : "";
}

/** An offset counts in both directions. A limit that a figure does not have is undefined, and no number is beyond it. */
const beyond = (value, above, below) => Math.abs(value) >= above || value < below;
