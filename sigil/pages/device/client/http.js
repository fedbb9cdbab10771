// One bounded exchange with the server or the relay: time, size, no redirect, no cookie, strict JSON.

import { NotStrictJson, parseJsonBytes } from "../core/encoding/strict_json.js";
import { AnswerUnusable, Offline, Problem } from "./errors.js";

const TIMEOUT_SECONDS = 10;
const MAX_ANSWER_BYTES = 1 << 20;
const CODE = /^[A-Z][A-Z0-9_]{0,63}$/;
const MAX_RETRY_AFTER_SECONDS = 3600;

/**
 * @typedef {Object} Exchange
 * @property {Map<string, *>} json
 * @property {WeakMap<Map | Array, Map<string, string> | string[]>} texts the text of each member and item, as received
 * @property {number | null} date milliseconds since 1970 of the `Date` header, where the page may read it
 */

/**
 * A request whose answer is a JSON object with a status of 200 or 201.
 *
 * @param {string} url
 * @param {{ body?: Object, wait?: number, signal?: AbortSignal }} [options] body: sent as JSON with POST; wait: seconds
 *   that the server may take longer; signal: its reason is thrown
 * @returns {Promise<Exchange>} throws Problem, Offline, AnswerUnusable
 */
export async function exchange(url, { body, wait = 0, signal } = {}) {
  signal?.throwIfAborted();
  const timeout = AbortSignal.timeout((TIMEOUT_SECONDS + wait) * 1000);
  const controller = new AbortController();
  const abort = () => controller.abort();
  timeout.addEventListener("abort", abort);
  signal?.addEventListener("abort", abort);
  try {
    const response = await fetch(url, { ...options(body), signal: controller.signal });
    const bytes = await bounded(response);
    return { ...answer(response, bytes), date: dateOf(response) };
  } catch (error) {
    if (error instanceof Problem || error instanceof AnswerUnusable) throw error;
    signal?.throwIfAborted();
    throw new Offline(timeout.aborted ? "timeout" : "network");
  } finally {
    timeout.removeEventListener("abort", abort);
    signal?.removeEventListener("abort", abort);
  }
}

function options(body) {
  const common = { cache: "no-store", credentials: "omit", redirect: "error", referrerPolicy: "no-referrer" };
  if (body === undefined) return { ...common, headers: { accept: "application/json" } };
  const headers = { accept: "application/json", "content-type": "application/json" };
  return { ...common, method: "POST", headers, body: JSON.stringify(body) };
}

async function bounded(response) {
  const reader = response.body?.getReader();
  const chunks = [];
  let length = 0;
  while (reader) {
    const { done, value } = await reader.read();
    if (done) break;
    length += value.length;
    if (length > MAX_ANSWER_BYTES) {
      await reader.cancel();
      throw new AnswerUnusable(`the answer is larger than ${MAX_ANSWER_BYTES} bytes`);
    }
    chunks.push(value);
  }
  const whole = new Uint8Array(length);
  chunks.reduce((at, chunk) => (whole.set(chunk, at), at + chunk.length), 0);
  return whole;
}

function answer(response, bytes) {
  const isGood = response.status === 200 || response.status === 201;
  const texts = new WeakMap();
  let json;
  try {
    json = parseJsonBytes(bytes, texts);
    if (!(json instanceof Map)) throw new NotStrictJson("the answer is no object");
  } catch (error) {
    // Of a proxy, for example, which answers with a page.
    if (!isGood) throw new Problem(response.status, `HTTP_${response.status}`, { retryAfter: retryAfter(response) });
    throw new AnswerUnusable(error.message);
  }
  if (isGood) return { json, texts };
  throw problem(response, json.get("error"));
}

function problem(response, error) {
  const code = error instanceof Map ? error.get("code") : null;
  const details = error instanceof Map && error.get("details") instanceof Map ? error.get("details") : new Map();
  const known = typeof code === "string" && CODE.test(code) ? code : `HTTP_${response.status}`;
  return new Problem(response.status, known, {
    details: Object.fromEntries(details),
    retryAfter: retryAfter(response),
  });
}

function retryAfter(response) {
  const text = response.headers.get("retry-after") ?? "";
  return /^[0-9]{1,9}$/.test(text) ? Math.min(Number(text), MAX_RETRY_AFTER_SECONDS) : null;
}

function dateOf(response) {
  const date = Date.parse(response.headers.get("date") ?? "");
  return Number.isNaN(date) ? null : date;
}
