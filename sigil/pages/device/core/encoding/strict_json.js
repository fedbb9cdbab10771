// Strict parsing of untrusted JSON (RFC 8259, 7493). JSON.parse does not suffice: it keeps the last of two members of
// one name, reads -0 and 1.0 as integers, reorders members whose names are numbers, and does not give the text of a
// member.

export const MAX_DEPTH = 64;

/** A number that is no integer within ±(2^53-1), or that has another spelling of one: 1.0, 1e3, -0. */
export class OtherNumber {
  constructor(text) {
    this.text = text;
    Object.freeze(this);
  }
}

/** The message names no value. */
export class NotStrictJson extends Error {}

/**
 * Objects become a Map in the order of the text, lists an Array, numbers a number or an OtherNumber.
 *
 * @param {string} text
 * @param {WeakMap<Map | Array, Map<string, string> | string[]>} [texts] gets the text of each member of each Map, and
 *   of each item of each Array
 * @throws {NotStrictJson}
 */
export function parseJson(text, texts) {
  return new Reader(text, texts).whole();
}

/** `parseJson` of UTF-8; a byte order mark is no JSON. @param {Uint8Array} bytes */
export function parseJsonBytes(bytes, texts) {
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new NotStrictJson("the text is not UTF-8");
  }
  return parseJson(text, texts);
}

const BLANK = /[ \t\n\r]*/y;
const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
const STRING = /"[^"\\\u0000-\u001f]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\u0000-\u001f]*)*"/y;
const WORDS = new Map([
  ["t", ["true", true]],
  ["f", ["false", false]],
  ["n", ["null", null]],
]);

class Reader {
  #text;
  #texts;
  #at = 0;

  constructor(text, texts) {
    this.#text = text;
    this.#texts = texts;
  }

  whole() {
    this.#blank();
    const value = this.#value(0);
    this.#blank();
    if (this.#at !== this.#text.length) this.#fail("there is more after the value");
    return value;
  }

  #fail(why) {
    throw new NotStrictJson(`${why}, at character ${this.#at + 1}`);
  }

  #take(pattern) {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text);
    if (!found) return null;
    this.#at = pattern.lastIndex;
    return found[0];
  }

  #blank() {
    this.#take(BLANK);
  }

  #accept(char) {
    this.#blank();
    if (this.#text[this.#at] !== char) return false;
    this.#at += 1;
    this.#blank();
    return true;
  }

  #expect(char) {
    if (!this.#accept(char)) this.#fail(`${char} is missing`);
  }

  #value(depth) {
    const char = this.#text[this.#at];
    if (char === '"') return this.#string();
    if (char === "{" || char === "[") {
      if (depth === MAX_DEPTH) this.#fail("the nesting is too deep");
      return char === "{" ? this.#object(depth + 1) : this.#list(depth + 1);
    }
    const [word, value] = WORDS.get(char) ?? [];
    if (word === undefined) return this.#number();
    if (!this.#text.startsWith(word, this.#at)) this.#fail("there is no value");
    this.#at += word.length;
    return value;
  }

  #string() {
    const text = this.#take(STRING);
    if (text === null) this.#fail("a string is malformed");
    // The grammar above is that of JSON, so this only resolves the escapes.
    const value = text.includes("\\") ? JSON.parse(text) : text.slice(1, -1);
    if (!value.isWellFormed()) this.#fail("a string contains half of a surrogate pair");
    return value;
  }

  #number() {
    const text = this.#take(NUMBER);
    if (text === null) this.#fail("there is no value");
    const value = Number(text);
    return Number.isSafeInteger(value) && String(value) === text ? value : new OtherNumber(text);
  }

  #list(depth) {
    const items = [];
    const texts = [];
    this.#expect("[");
    if (!this.#accept("]")) {
      do {
        const begin = this.#at;
        items.push(this.#value(depth));
        texts.push(this.#text.slice(begin, this.#at));
      } while (this.#accept(","));
      this.#expect("]");
    }
    this.#texts?.set(items, texts);
    return items;
  }

  #object(depth) {
    const members = new Map();
    const texts = new Map();
    this.#expect("{");
    if (!this.#accept("}")) {
      do {
        const name = this.#string();
        if (members.has(name)) this.#fail("two members of one object have the same name");
        this.#expect(":");
        const begin = this.#at;
        members.set(name, this.#value(depth));
        texts.set(name, this.#text.slice(begin, this.#at));
      } while (this.#accept(","));
      this.#expect("}");
    }
    this.#texts?.set(members, texts);
    return members;
  }
}
