// What the wizard asks of the server. Nothing else in these pages speaks to it.

const PATIENCE = 20_000; // milliseconds

/** The server's no, or its silence (status 0). `code` and `details` are those of its error body. */
export class Refusal extends Error {
  constructor(status, { code, message, details } = {}, retryAfter = null) {
    super(message ?? "the server did not answer");
    this.status = status;
    this.code = code ?? "";
    this.details = details ?? {};
    this.retryAfter = retryAfter;
  }
}

export class Server {
  #token = "";

  /** The setup token goes along with every request from now on. */
  present(token) {
    // A header carries visible ASCII only, and so does every token: what else was pasted is no token at all.
    this.#token = /^[\x21-\x7e]*$/.test(token) ? token : "";
  }

  /** Whether the token of `present` opens the setup. An empty check gets past the door, and no further. */
  async admits() {
    try {
      await this.check("");
    } catch (refusal) {
      if (refusal.code === "INVALID_REQUEST") return true;
      if (refusal.status === 401) return false;
      throw refusal;
    }
    return true;
  }

  state() {
    return this.#ask("GET", "/init/state");
  }

  info() {
    return this.#ask("GET", "/info");
  }

  async words() {
    return (await this.#ask("POST", "/init/words", {}, this.#token)).words;
  }

  async check(words) {
    return (await this.#ask("POST", "/init/check", { words }, this.#token)).identity;
  }

  commit(words) {
    return this.#ask("POST", "/init/commit", { words }, this.#token);
  }

  /** The session of the commit opens this, and the setup token does not. */
  apiKey(session) {
    return this.#ask("POST", "/init/api-keys", {}, session);
  }

  async #ask(method, path, body, bearer) {
    const headers = {};
    if (body) headers["Content-Type"] = "application/json";
    if (bearer) headers["Authorization"] = `Bearer ${bearer}`;
    const asked = {
      method,
      headers,
      body: body && JSON.stringify(body),
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
      referrerPolicy: "no-referrer",
      signal: AbortSignal.timeout(PATIENCE),
    };
    let answer, told;
    try {
      answer = await fetch(path, asked);
      told = await answer.json();
    } catch {
      // Not reached, cut off, or the answer of something in between, which is not the server's JSON.
      throw new Refusal(0);
    }
    if (!answer.ok) throw new Refusal(answer.status, told.error, answer.headers.get("Retry-After"));
    return told;
  }
}
