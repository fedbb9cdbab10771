// Text for people: which characters it may hold, by the tables of one Unicode version (docs/protocol.md, 2.5), as
// sigil/protocol/encoding/display_text.py has it.

import * as tables from "./unicode_tables.js";

const MAX_MARKS = 4;

// One letter per class of code points. A later table overrides an earlier one.
const CLASSES = [
  ["G", tables.GRAPHIC],
  ["B", tables.BLANK],
  ["M", tables.MARK],
  ["V", tables.MARK_VIRAMA],
  ["W", tables.SPACING_VIRAMA],
  ["L", tables.JOINS_NEXT],
  ["R", tables.JOINS_PREVIOUS],
  ["D", tables.JOINS_BOTH],
  ["E", tables.EMOJI],
  ["S", "1f3fb-1f3ff"], // skin tones
  ["K", "23 2a 30-39"], // keycaps: # * 0-9
  ["C", "20e3"], // the mark that makes a keycap
  ["N", "200c"], // zero width non-joiner
  ["Z", "200d"], // zero width joiner
  ["P", "fe0f"], // emoji presentation
  ["T", "fe0e"], // text presentation
];
const NONE = "-";
const BEYOND = 0x40000; // No displayable character comes after plane 3.

const EMOJI = "E(?:P|S(?:[ZN](?=[VW]))?)?";
const MARKS = `[MVC]{0,${MAX_MARKS}}`;
const UNIT = new RegExp(
  [
    "B",
    // Persian separates letters that would join (RFC 5892, A.1), and many writers put the same character behind letters
    // that never join the next one.
    `[LRD]${MARKS}N(?=[LRD])`,
    // UAX 29, GB11: a sequence of emoji. RFC 5892, A.1 and A.2: Indic joiners after a virama; Bengali writes one before
    // it, too.
    `(?:(?<!Z)ET|${EMOJI}(?:Z${EMOJI})*|KP(?=C)|[GLRDSKW](?:[ZN](?=[VW]))?)${MARKS}(?:(?<=[VW])[ZN](?![MVC]))?`,
  ].join("|"),
  "y",
);

let classOfCode = null;

function classes(text) {
  classOfCode ??= classTable();
  return Array.from(text, (char) => {
    const code = char.codePointAt(0);
    return code < BEYOND ? String.fromCharCode(classOfCode[code]) : NONE;
  }).join("");
}

/** Made at the first text that is not ASCII: 256 KiB. */
function classTable() {
  const table = new Uint8Array(BEYOND).fill(NONE.charCodeAt(0));
  for (const [letter, ranges] of CLASSES) {
    for (const range of ranges.trim().split(/\s+/)) {
      const [low, high = low] = range.split("-").map((code) => Number.parseInt(code, 16));
      table.fill(letter.charCodeAt(0), low, high + 1);
    }
  }
  return table;
}

/** Whether a text may be shown to a person: all of it is visible, and at least one character is. */
export function isDisplayable(text) {
  if (/^[ -~]*$/.test(text)) return /[!-~]/.test(text);
  const found = classes(text);
  let at = 0;
  // Unit by unit, without a way back: the time is linear.
  while (at < found.length) {
    UNIT.lastIndex = at;
    const unit = UNIT.exec(found);
    if (!unit || !unit[0]) return false;
    at = UNIT.lastIndex;
  }
  return /[^B]/.test(found);
}

/** Characters, as docs/protocol.md counts them: code points. */
export const characters = (text) => [...text].length;
