// The health of the server, asked for by the page itself. Without JavaScript there is a link to it.

import { part, showId } from "./page.js";

const PLAIN = { healthy: "Healthy", initializing: "Being set up", unhealthy: "Not healthy" };

async function showHealth(node) {
  try {
    // 503 has the same body.
    const { status } = await (await fetch("/health", { cache: "no-store", credentials: "omit" })).json();
    node.dataset.health = status;
    node.textContent = PLAIN[status];
  } catch {
    node.dataset.health = "unhealthy";
    node.textContent = "The server did not answer";
  }
}

showId(part("server-id"), part("server-id").textContent);
await showHealth(part("health"));
