// The health of the server, asked for by the page itself. Without JavaScript there is a link to it.

import { part, showId } from "./page.js";

const PLAIN = { healthy: "Healthy", initializing: "Being set up", unhealthy: "Not healthy" };

async function showHealth(node) {
  let status = "unhealthy";
  try {
    // 503 has the same body.
    ({ status } = await (await fetch("/health", { cache: "no-store", credentials: "omit" })).json());
  } catch {
    node.textContent = "The server did not answer";
  }
  node.dataset.health = status;
  if (PLAIN[status] && node.querySelector("a")) node.textContent = PLAIN[status];
}

showId(part("server-id"), part("server-id").textContent);
await showHealth(part("health"));
