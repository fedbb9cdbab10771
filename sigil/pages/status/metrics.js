// GET /metrics of this server, bounded in bytes and time. The token is in a private member, and nowhere else.

const MAX_BYTES = 4 * 1024 * 1024;
const MILLISECONDS = 10000;
const MAX_PAUSE = 300;
const FORM = /^[\x21-\x7e]{16,}$/;

export class Metrics {
  #token = "";

  /** Returns false for a text that is no token: the server would count it as a wrong one. */
  setToken(token) {
    if (!FORM.test(token)) return false;
    this.#token = token;
    return true;
  }

  forget() {
    this.#token = "";
  }

  get hasToken() {
    return this.#token !== "";
  }

  /**
   * `{status: 200, text, now}`, with `now` as Unix seconds of the server's clock; `{status, pause}` for another answer,
   * with the seconds to wait; `{status: 0, fault}` without one.
   */
  async read() {
    try {
      const response = await fetch("/metrics", {
        headers: this.#token ? { Accept: "text/plain", Authorization: `Bearer ${this.#token}` } : { Accept: "text/plain" },
        cache: "no-store",
        credentials: "omit",
        redirect: "error",
        signal: AbortSignal.timeout(MILLISECONDS),
      });
      if (response.status !== 200) {
        await response.body?.cancel();
        return { status: response.status, pause: pauseOf(response.headers.get("Retry-After")) };
      }
      const now = Date.parse(response.headers.get("Date") ?? "") || Date.now();
      return { status: 200, text: await boundedText(response), now: now / 1000 };
    } catch (error) {
      if (error.name === "TimeoutError") return { status: 0, fault: "The server did not answer within 10 seconds" };
      return { status: 0, fault: error instanceof RangeError ? error.message : "The server did not answer" };
    }
  }
}

function pauseOf(text) {
  return /^[0-9]{1,8}$/.test(text ?? "") ? Math.min(MAX_PAUSE, Number(text)) : 0;
}

async function boundedText(response) {
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let [text, size] = ["", 0];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return text + decoder.decode();
    size += value.length;
    if (size > MAX_BYTES) {
      await reader.cancel();
      throw new RangeError("The answer is too large for metrics of this server");
    }
    text += decoder.decode(value, { stream: true });
  }
}
