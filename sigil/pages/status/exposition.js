// The text format of Prometheus: the samples of some metrics. `sigil/serving/probes/exposition.py` has the same rules.

const MAX_LINE = 4096;
const MAX_SAMPLES = 20000;
const SAMPLE = new RegExp(
  "^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\\{(.*)\\})?[ \\t]+" +
    "([+-]?(?:[0-9]+(?:\\.[0-9]*)?|\\.[0-9]+)(?:[eE][+-]?[0-9]+)?)(?:[ \\t]+-?[0-9]+)?[ \\t\\r]*$",
  "s",
);
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"(?:,|$)/gs;

/** By name, the samples `{series, labels, value}`. `series` tells the samples of one metric apart. */
export function parse(text, names) {
  const found = new Map();
  let count = 0;
  for (const line of text.split("\n")) {
    if (line.length > MAX_LINE || line.startsWith("#")) continue;
    const match = SAMPLE.exec(line);
    if (match === null || !names.has(match[1])) continue;
    const value = Number(match[3]);
    if (!Number.isFinite(value)) continue;
    if (!found.has(match[1])) found.set(match[1], []);
    found.get(match[1]).push({ series: match[2] ?? "", labels: labelsOf(match[2] ?? ""), value });
    count += 1;
    if (count === MAX_SAMPLES) break;
  }
  return found;
}

function labelsOf(text) {
  const labels = new Map();
  for (const [, name, value] of text.matchAll(LABEL)) {
    labels.set(name, value.replace(/\\(.)/gs, (_, character) => (character === "n" ? "\n" : character)));
  }
  return labels;
}
