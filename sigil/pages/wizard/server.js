// The wizard's client of the server's API. Its other requests are only for assets.

const TIMEOUT_MS = 20_000;

/** An error of the server, or no answer (status 0). `code` and `details` are those of the error body. */
export class RequestError extends Error {
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

  /** Sends the setup token with every request from now on. */
  setToken(token) {
    // A token has visible ASCII characters only, and so has a header: any other pasted text is no token.
    this.#token = /^[\x21-\x7e]*$/.test(token) ? token : "";
  }

  /** Whether the server accepts the token. A check of no words passes the token check and then fails. */
  async acceptsToken() {
    try {
      await this.check("");
    } catch (error) {
      if (error.code === "INVALID_REQUEST") return true;
      if (error.status === 401) return false;
      throw error;
    }
    return true;
  }

  state() {
    return this.#request("GET", "/init/state");
  }

  info() {
    return this.#request("GET", "/info");
  }

  async words() {
    return (await this.#request("POST", "/init/words", {}, this.#token)).words;
  }

  async check(words) {
    return (await this.#request("POST", "/init/check", { words }, this.#token)).identity;
  }

  commit(words) {
    return this.#request("POST", "/init/commit", { words }, this.#token);
  }

  /** Authorised by the session of the commit, not by the setup token. */
  apiKey(session) {
    return this.#request("POST", "/init/api-keys", {}, session);
  }

  /** Authorised by the session of the commit. */
  async hasFirstChallenge(session) {
    return (await this.#request("GET", "/init/first-challenge", undefined, session)).received;
  }

  async #request(method, path, body, bearer) {
    const headers = {};
    if (body) headers["Content-Type"] = "application/json";
    if (bearer) headers["Authorization"] = `Bearer ${bearer}`;
    const request = {
      method,
      headers,
      body: body && JSON.stringify(body),
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
      referrerPolicy: "no-referrer",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    };
    let answer, payload;
    try {
      answer = await fetch(path, request);
      payload = await answer.json();
    } catch {
      // Unreachable, cut off, or the answer of a proxy, which is not the server's JSON.
      throw new RequestError(0);
    }
    if (!answer.ok) throw new RequestError(answer.status, payload.error, answer.headers.get("Retry-After"));
    return payload;
  }
}
