// A sparkline: from 0 to the highest value. Its text alternative has the range.

import { inUnit } from "./units.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 120;
const HEIGHT = 24;
const FEWEST_POINTS = 30;

export class Plot {
  #figure;
  #line = shape("polyline", { class: "line" });
  #area = shape("polygon", { class: "area" });

  constructor(figure) {
    this.#figure = figure;
    this.node = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    this.node.append(this.#area, this.#line);
  }

  draw(past) {
    const usable = past.length > 1 && this.#figure.kind !== "until";
    this.node.setAttribute("aria-hidden", String(!usable));
    const points = usable ? pointsOf(past, this.#figure.unit === "percent" ? 100 : 0) : [];
    this.#line.setAttribute("points", points.join(" "));
    this.#area.setAttribute("points", usable ? `${points.join(" ")} ${WIDTH},${HEIGHT} ${left(past)},${HEIGHT}` : "");
    if (!usable) return;
    this.node.setAttribute("role", "img");
    const [low, high] = [Math.min(...past), Math.max(...past)].map((value) => inUnit(this.#figure, value));
    this.node.setAttribute("aria-label", low === high ? `steady at ${low}` : `from ${low} to ${high}`);
  }
}

/** The newest value is at the right edge. A short past does not fill the width: that would look like a long one. */
const stepOf = (past) => WIDTH / (Math.max(FEWEST_POINTS, past.length) - 1);
const left = (past) => WIDTH - (past.length - 1) * stepOf(past);

function pointsOf(past, least) {
  const top = Math.max(least, ...past) || 1;
  const step = stepOf(past);
  return past.map((value, at) => {
    const y = HEIGHT - 1 - (Math.max(0, value) / top) * (HEIGHT - 2);
    return `${(left(past) + at * step).toFixed(1)},${y.toFixed(1)}`;
  });
}

function shape(tag, attributes) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}
