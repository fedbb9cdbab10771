// The figures in the page: made once from the table, then only texts and plots change.

import { byId, element } from "../page.js";
import { figuresOf } from "./history.js";
import { Plot } from "./plot.js";
import { ABSENT, textOf } from "./units.js";

const LEVELS = { warn: "Warning", bad: "Critical" };

export class Board {
  #table;
  #rows = new Map();
  #shown = "";

  constructor(table) {
    this.#table = table;
    for (const figure of table.header) this.#addFact(figure);
    byId("groups").replaceChildren(...table.groups.map((group, at) => this.#group(group, at)));
  }

  /** Returns the sentences about figures that are beyond their limits since the last call. */
  update(history) {
    for (const figure of figuresOf(this.#table)) {
      this.#rows.get(figure.id)(history.readings.get(figure.id), history.past.get(figure.id));
    }
    return this.#showAttention(history);
  }

  clear() {
    this.#shown = "";
    byId("attention").replaceChildren();
    for (const show of this.#rows.values()) show({ value: null, also: null, level: "" }, []);
  }

  #addFact(figure) {
    const value = element("dd", {});
    byId("header").append(element("div", {}, element("dt", {}, figure.label), value));
    this.#rows.set(figure.id, (reading) => setText(value, textOf(figure, reading)));
  }

  #group(group, at) {
    const heading = element("h2", { id: `group-${at}` }, group.title);
    const rows = group.figures.map((figure) => this.#row(figure));
    const list = element("dl", {}, ...rows);
    return element("section", { class: "group", "aria-labelledby": heading.id }, heading, list);
  }

  #row(figure) {
    const plot = new Plot(figure);
    const level = element("span", { class: "level" });
    const value = element("span", {}, ABSENT);
    const row = element(
      "div",
      { class: "row" },
      element("dt", {}, figure.label),
      element("dd", { class: "plot" }, plot.node),
      element("dd", { class: "value" }, level, value),
    );
    this.#rows.set(figure.id, (reading, past) => {
      setParts(value, textOf(figure, reading));
      setText(level, LEVELS[reading.level] ?? "");
      row.dataset.level = reading.level;
      row.dataset.absent = String(reading.value === null);
      plot.draw(past);
    });
    return row;
  }

  #showAttention(history) {
    const found = figuresOf(this.#table)
      .map((figure) => ({ figure, reading: history.readings.get(figure.id) }))
      .filter(({ reading }) => reading.level !== "")
      .sort((a, b) => Number(b.reading.level === "bad") - Number(a.reading.level === "bad"));
    byId("no-attention").hidden = found.length > 0;
    const key = found.map(({ figure, reading }) => `${figure.id} ${reading.level}`).join();
    const items = found.map(({ figure, reading }) => {
      const title = element("strong", {}, `${LEVELS[reading.level]}: ${figure.label} ${textOf(figure, reading)}`);
      const more = figure.alert ? ` (${figure.alert} in docs/runbook.md)` : "";
      return element("li", { "data-level": reading.level }, title, element("span", {}, `${figure.advice}${more}`));
    });
    byId("attention").replaceChildren(...items);
    const before = this.#shown.split(",");
    this.#shown = key;
    return found
      .filter(({ figure, reading }) => !before.includes(`${figure.id} ${reading.level}`))
      .map(({ figure, reading }) => `${LEVELS[reading.level]}: ${figure.label} ${textOf(figure, reading)}. ${figure.advice}`);
  }
}

/** Lines break between "p50 4 ms" and "p99 12 ms", and nowhere else. */
function setParts(node, text) {
  if (node.textContent === text) return;
  const parts = text.split(/(?<=,) /);
  node.replaceChildren(...parts.flatMap((part, at) => [at ? " " : "", element("span", { class: "part" }, part)]));
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
