// Words as values: nothing here touches the page or the server.

export const COUNT = 24;

/** The words of a text, in lower case; the numbers of a numbered list are left out. */
export function split(text) {
  return text
    .normalize("NFKD")
    .toLowerCase()
    .split(/\s+/)
    .map((word) => word.replace(/^\d+[.):]?/, ""))
    .filter((word) => word !== "");
}

/** `count` different positions of 1..24, ascending, from the system's generator. */
export function drawPositions(count) {
  const drawn = new Set();
  while (drawn.size < count) {
    const [byte] = crypto.getRandomValues(new Uint8Array(1));
    // 240 is the largest multiple of 24 in a byte: above it, low positions would come more often.
    if (byte < 240) drawn.add((byte % COUNT) + 1);
  }
  return [...drawn].sort((a, b) => a - b);
}

/** The BIP-39 list. An empty one knows nothing and objects to nothing: then the server alone judges. */
export class WordList {
  constructor(words = []) {
    this.words = words;
    this.known = new Set(words);
  }

  static async fetched() {
    const answer = await fetch("/assets/words.txt", { credentials: "omit" });
    if (!answer.ok) throw new Error("no word list");
    return new WordList((await answer.text()).trim().split("\n"));
  }

  startingWith(prefix) {
    return prefix === "" ? [] : this.words.filter((word) => word.startsWith(prefix));
  }

  objectsTo(word) {
    return this.words.length > 0 && !this.known.has(word);
  }

  /** The word that is meant, when what was typed can only become that one. */
  completed(typed) {
    const candidates = this.known.has(typed) ? [] : this.startingWith(typed);
    return candidates.length === 1 ? candidates[0] : typed;
  }
}
