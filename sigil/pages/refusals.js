// The text of a server's error for the person at the wizard.

const TEXTS = {
  ORIGIN_REFUSED: "The server does not allow the setup from this address. Open the address in the server's log.",
  NOT_INITIALIZED: "The server is not ready yet. Try again in a moment.",
  OVERLOADED: "The server is overloaded. Try again in a moment.",
  PAYLOAD_TOO_LARGE: "This is far more than 24 words.",
};

/** One or two sentences, to be shown next to the button that was pressed. */
export function errorText(error) {
  if (error.status === 0) {
    return "The server did not answer. Nothing is lost while this window stays open: check that the server runs, then try again.";
  }
  if (error.status === 429) {
    const wait = Number(error.retryAfter);
    return `Too many tries from your address. ${wait > 0 ? `Wait ${wait} seconds` : "Wait a minute"}, then try again.`;
  }
  return TEXTS[error.code] ?? `The server rejected the request: ${error.message}`;
}

/** The text about wrong words, from the details of the server's INVALID_REQUEST. */
export function mnemonicErrorText({ count, unknown = [], likely = [] }) {
  if (count !== undefined && count !== 24) {
    return `That is ${count === 1 ? "1 word" : `${count} words`}. An identity has exactly 24 words.`;
  }
  if (unknown.length > 0) {
    return `${positions(unknown)} ${unknown.length === 1 ? "is" : "are"} not in the word list. Compare with your paper.`;
  }
  const checksum = "The words do not belong together: one is wrong, or two are swapped.";
  if (likely.length === 0) return `${checksum} Compare every word and their order with your paper.`;
  return `${checksum} Look at ${positions(likely, "or").toLowerCase()} first.`;
}

function positions(numbers, joiner = "and") {
  const listed = numbers.length > 1 ? `${numbers.slice(0, -1).join(", ")} ${joiner} ${numbers.at(-1)}` : `${numbers[0]}`;
  return `${numbers.length > 1 ? "Words" : "Word"} ${listed}`;
}
