// Fetches and shows the health of the server. Without JavaScript the page has a link to it.

import { byId, showId } from "./page.js";

const TEXTS = { healthy: "Healthy", initializing: "Being set up", unhealthy: "Not healthy" };

async function showHealth(node) {
  try {
    // A 503 has the same body.
    const { status } = await (await fetch("/health", { cache: "no-store", credentials: "omit" })).json();
    node.dataset.state = status === "healthy" ? "good" : "bad";
    // A proxy in front may answer with JSON of its own.
    node.textContent = TEXTS[status] ?? "The answer is not that of the server";
  } catch {
    node.dataset.state = "bad";
    node.textContent = "The server did not answer";
  }
}

showId(byId("server-id"), byId("server-id").textContent);
await showHealth(byId("health"));
