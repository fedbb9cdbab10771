// The text of a server's error for the person at the wizard.

const TEXTS = {
  ORIGIN_REFUSED: "The server does not allow the setup from this address. Open the address in the server's log.",
  NOT_INITIALIZED: "The server is not ready yet. Try again in a moment.",
  PAYLOAD_TOO_LARGE: "This is far more than 24 words.",
};

/** One or two sentences, to be shown next to the button that was pressed. */
export function errorText(error) {
  if (error.status === 0) {
    return "The server did not answer. Nothing is lost while this window stays open: check that the server runs, then try again.";
  }
  if (error.status === 429) {
    const wait = Number(error.retryAfter);
    return `Too many tries from your address. ${wait > 1 ? `Wait ${wait} seconds` : wait > 0 ? "Wait a second" : "Wait a minute"}, then try again.`;
  }
  // The server says whether it is busy, which passes, or cannot use its files, which does not.
  if (error.code === "OVERLOADED") return error.message;
  return TEXTS[error.code] ?? `The server rejected the request: ${error.message}`;
}

/** The text about wrong words, from the details of the server's INVALID_REQUEST. */
export function mnemonicErrorText({ count, unknown = [] }) {
  if (count !== undefined && count !== 24) {
    return `That is ${count === 1 ? "1 word" : `${count} words`}. An identity has exactly 24 words.`;
  }
  if (unknown.length > 0) {
    return `${positions(unknown)} ${unknown.length === 1 ? "is" : "are"} not in the word list. Compare with your paper.`;
  }
  // The checksum holds no more: each guess at the place would now and then accuse a word that is right.
  return (
    "Each word is in the list, but together they are no identity: at least one is wrong, or not in its place. The check " +
    "cannot find out which: compare all 24 words, and their order, with your paper."
  );
}

/** The text about fields that are still empty, by their positions. */
export function missingWordsText(empty) {
  if (empty.length === 24) return "Enter the words first: all 24 are missing.";
  if (empty.length > 3) return `${empty.length} words are missing.`;
  return `${positions(empty)} ${empty.length === 1 ? "is" : "are"} missing.`;
}

function positions(numbers) {
  const listed = numbers.length > 1 ? `${numbers.slice(0, -1).join(", ")} and ${numbers.at(-1)}` : `${numbers[0]}`;
  return `${numbers.length > 1 ? "Words" : "Word"} ${listed}`;
}
