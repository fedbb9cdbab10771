// While a request is open: its time left, and whether another tab, another device or the server has ended it.

import { element } from "../../dom.js";
import { fetchPending } from "../../client/inbox.js";

/** @param {number} more how many other requests are pending */
export function askState(item, more = 0) {
  return { screen: item.type === "approval" ? "ask_many" : "ask", item, more };
}

const POLL_MS = 3_000;
const LONGEST_PAUSE_MS = 60_000;
/** Seconds left at which a screen reader hears the time; each second would drown everything else. */
const ANNOUNCED = new Set([120, 60, 30, 10]);
/** Seconds from which the time left is set in the colour of a warning. */
const SOON = 30;

/** `m:ss`, which every language of the app writes alike. */
function clockText(seconds) {
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

/** The time left as a line of the page; `onExpired` runs once, at its end. */
export function timeLeft(app, expiresAt, onExpired) {
  const { signal } = app;
  const digits = element("span", { class: "clock" });
  const line = element("p", { class: "countdown", role: "timer", "aria-live": "off" }, `${app.t("ask.time_left")} `, digits);
  let timer = 0;
  const tick = () => {
    clearTimeout(timer);
    if (signal.aborted) return;
    const left = expiresAt - app.now();
    const seconds = Math.max(0, Math.ceil(left / 1000));
    if (digits.textContent !== clockText(seconds)) {
      digits.textContent = clockText(seconds);
      line.classList.toggle("soon", seconds <= SOON);
      if (ANNOUNCED.has(seconds)) app.announce(app.t("ask.seconds_left", { count: seconds }));
    }
    if (left <= 0) onExpired();
    else timer = setTimeout(tick, left % 1000 || 1000);
  };
  // Browsers slow down the timers of a hidden page.
  document.addEventListener("visibilitychange", tick, { signal });
  signal.addEventListener("abort", () => {
    clearTimeout(timer);
    app.announce("");
  });
  // The caller holds the line first, and is then able to leave.
  queueMicrotask(tick);
  return line;
}

/**
 * Polls what is pending while the page is visible, and leaves the screen when the request is no longer listed, or is
 * listed with another content.
 * @param {() => boolean} isHeld whether a decision is in flight: its answer has more detail than the list
 * @param {(more: number) => void} [onMore] gets how many other requests are pending
 */
export async function watchPending(app, item, isHeld, onMore = () => {}) {
  const { signal } = app;
  let pause = POLL_MS;
  for (;;) {
    await delay(pause, signal);
    if (signal.aborted) return;
    pause = POLL_MS;
    if (document.visibilityState !== "visible" || isHeld()) continue;
    let pending;
    try {
      pending = await fetchPending(app.server, app.device, { locks: navigator.locks });
    } catch (error) {
      // Without an answer nothing is known: the request stays open, and the decision itself reports what is wrong.
      pause = Math.min(Math.max(POLL_MS, (error.retryAfter ?? 0) * 1000), LONGEST_PAUSE_MS);
      continue;
    }
    if (signal.aborted) return;
    if (isHeld() || pending.rejected.some(({ id }) => id === item.id)) continue;
    const same = pending.items.find(({ id }) => id === item.id);
    if (!same) {
      app.go({ screen: "trouble", error: { code: app.now() < item.expiresAt ? "NO_LONGER_PENDING" : "CHALLENGE_EXPIRED" } });
      return;
    }
    const other = sameOrOther(item, same, pending.items.length - 1);
    if (other) {
      app.go(other);
      return;
    }
    onMore(pending.items.length - 1);
  }
}

/**
 * The state that shows a request again from the beginning, because the server has signed another content for its id; null
 * where all that is shown is the same.
 */
export function sameOrOther(shown, listed, more) {
  return content(shown) === content(listed) ? null : askState(listed, more);
}

/** All that is shown of a request. Lists and objects of its parameters keep their kind and their order. */
function content({ type, action, description, params, expiresAt, numberMatching, required, rejectPolicy, requestId }) {
  const shown = [type, action, description, params, expiresAt, numberMatching, required, rejectPolicy, requestId];
  return JSON.stringify(shown, (_, value) => (value instanceof Map ? { members: [...value] } : value));
}

function delay(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
