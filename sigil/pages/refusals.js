// A refusal of the server as a person reads it.

const PLAIN = {
  ORIGIN_REFUSED: "The server does not take the setup from this address. Open the address that it wrote to its log.",
  NOT_INITIALIZED: "The server is not ready yet. Try again in a moment.",
  OVERLOADED: "The server has too much to do. Try again in a moment.",
  PAYLOAD_TOO_LARGE: "That is far more than 24 words.",
};

/** One or two sentences for the place where the person just acted. */
export function inPlainWords(refusal) {
  if (refusal.status === 0) {
    return "The server did not answer. Nothing is lost while this window stays open: see that it runs, and try again.";
  }
  if (refusal.status === 429) {
    const wait = Number(refusal.retryAfter);
    return `Too many tries from your address. ${wait > 0 ? `Wait ${wait} seconds` : "Wait a minute"}, then try again.`;
  }
  return PLAIN[refusal.code] ?? `The server refused this: ${refusal.message}`;
}

/** What is wrong with the 24 words, from the details of the server's INVALID_REQUEST. */
export function wrongWords({ count, unknown = [], likely = [] }) {
  if (count !== undefined && count !== 24) {
    return `That is ${count === 1 ? "1 word" : `${count} words`}. An identity has exactly 24.`;
  }
  if (unknown.length > 0) {
    return `${positions(unknown)} ${unknown.length === 1 ? "is" : "are"} not in the word list. Compare with your paper.`;
  }
  const checksum = "The words do not belong together: one is wrong, or two changed places.";
  if (likely.length === 0) return `${checksum} Compare every word and their order with your paper.`;
  return `${checksum} Look at ${positions(likely, "or").toLowerCase()} first.`;
}

function positions(numbers, joiner = "and") {
  const listed = numbers.length > 1 ? `${numbers.slice(0, -1).join(", ")} ${joiner} ${numbers.at(-1)}` : `${numbers[0]}`;
  return `${numbers.length > 1 ? "Words" : "Word"} ${listed}`;
}
