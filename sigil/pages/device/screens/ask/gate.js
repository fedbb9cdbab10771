// When Approve opens: after all that the signature covers was in view, and the page then was visible and focused for
// 600 ms without a break. So a request that appears under a finger, or under a click that was meant for something else,
// is not approved by it.

const VISIBLE_MS = 600;

/** `state` is "unseen" (its end was not in view yet), "unfocused", "waiting" or "open". */
export class Gate {
  #bar;
  #end;
  #onChange;
  #observer = null;
  #seen = false;
  #elapsed = false;
  #timer = 0;

  /**
   * @param {{end: Element, bar: Element, signal: AbortSignal, onChange: (state: string) => void}} parts `end` follows the
   *   last parameter; `bar` has the buttons and may cover the bottom of the window.
   */
  constructor({ end, bar, signal, onChange }) {
    [this.#end, this.#bar, this.#onChange] = [end, bar, onChange];
    const restart = () => this.restart();
    window.addEventListener("focus", restart, { signal });
    window.addEventListener("blur", restart, { signal });
    document.addEventListener("visibilitychange", restart, { signal });
    window.addEventListener("resize", () => this.#observe(), { signal });
    const sizes = new ResizeObserver(() => this.#observe());
    sizes.observe(bar);
    signal.addEventListener("abort", () => {
      sizes.disconnect();
      this.#observer?.disconnect();
      clearTimeout(this.#timer);
      this.#elapsed = false;
    });
    this.#observe();
    this.restart();
  }

  get state() {
    if (!this.#seen) return "unseen";
    if (document.visibilityState !== "visible" || !document.hasFocus()) return "unfocused";
    return this.#elapsed ? "open" : "waiting";
  }

  /** Begins the 600 ms again. What was in view stays seen: it has not changed. */
  restart() {
    clearTimeout(this.#timer);
    this.#elapsed = false;
    if (this.state === "waiting") {
      this.#timer = setTimeout(() => {
        this.#elapsed = true;
        this.#onChange(this.state);
      }, VISIBLE_MS);
    }
    this.#onChange(this.state);
  }

  /** The part of the window that the bar covers does not count as visible. */
  #observe() {
    if (this.#seen) return;
    this.#observer?.disconnect();
    const covers = getComputedStyle(this.#bar).position === "sticky" ? Math.ceil(this.#bar.offsetHeight) : 0;
    const options = { rootMargin: `0px 0px -${covers}px 0px`, threshold: 0.5 };
    this.#observer = new IntersectionObserver((entries) => {
      if (this.#seen || !entries.some((entry) => entry.isIntersecting)) return;
      this.#seen = true;
      this.#observer.disconnect();
      this.restart();
    }, options);
    this.#observer.observe(this.#end);
  }
}
