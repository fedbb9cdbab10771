// Functions on words. Nothing here touches the page; only WordList.load sends a request.

export const COUNT = 24;

/** The words of a text, in lower case, without the numbers of a numbered list. */
export function splitWords(text) {
  return text
    .normalize("NFKD")
    .toLowerCase()
    .split(/\s+/)
    .map((word) => word.replace(/^\d+[.):]?/, ""))
    .filter((word) => word !== "");
}

/** `count` different positions of 1..24, ascending, from the system's random generator. */
export function randomPositions(count) {
  const positions = new Set();
  while (positions.size < count) {
    const [byte] = crypto.getRandomValues(new Uint8Array(1));
    // 240 is the largest multiple of 24 in a byte. With larger bytes, low positions would be more frequent.
    if (byte < 240) positions.add((byte % COUNT) + 1);
  }
  return [...positions].sort((a, b) => a - b);
}

/** The BIP-39 word list. An empty list rejects no word: then only the server validates the words. */
export class WordList {
  constructor(words = []) {
    this.words = words;
    this.known = new Set(words);
  }

  static async load() {
    const answer = await fetch("/assets/words.txt", { credentials: "omit" });
    if (!answer.ok) throw new Error("no word list");
    return new WordList((await answer.text()).trim().split("\n"));
  }

  startingWith(prefix) {
    return prefix === "" ? [] : this.words.filter((word) => word.startsWith(prefix));
  }

  rejects(word) {
    return this.words.length > 0 && !this.known.has(word);
  }

  /** The only word of the list that starts with `typed`; `typed` itself if there is none or more than one. */
  complete(typed) {
    const candidates = this.known.has(typed) ? [] : this.startingWith(typed);
    return candidates.length === 1 ? candidates[0] : typed;
  }
}
