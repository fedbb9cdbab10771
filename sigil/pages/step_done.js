// The next steps after the setup, as commands to paste.

import { byId, shellQuote, showPictogram } from "./page.js";

// A P-256 point whose private key was discarded when it was generated.
const SAMPLE_DEVICE_KEY = "Ars9SPKzqli5juAlatg0oU2nk5iLCZtCLTeW3TUB0t94";

export class Done {
  #wizard;

  constructor(wizard) {
    this.#wizard = wizard;
  }

  enter() {
    const { certificate, identity, initState } = this.#wizard.memory;
    const list = this.#wizard.navigation.section.querySelector(".pictogram");
    showPictogram(list, identity.server_pictogram_speakable);
    byId("done-certificate").hidden = certificate === null;
    // A server without a certificate is behind a proxy, whose certificate comes from a public authority.
    const lines = certificate === null ? {} : certificateCommands(certificate);
    lines["done-curl"] = firstCallCommand(initState.base_url, certificate === null ? "" : "--cacert sigil.pem ");
    lines["done-device"] = enrolCommand(initState.base_url, identity, certificate === null ? "" : " --ca sigil.pem");
    for (const [id, text] of Object.entries(lines)) byId(id).textContent = text;
  }
}

function certificateCommands(path) {
  return {
    "done-cert": `cp ${shellQuote(path)} sigil.pem`,
    // Not `docker compose cp`, which docker-compose 1.29 does not have.
    "done-cert-compose": `docker compose exec -T sigil cat ${shellQuote(path)} > sigil.pem`,
  };
}

function firstCallCommand(address, trustOption) {
  return `printf 'Authorization: Bearer %s' "$SIGIL_API_KEY" |
  curl ${trustOption}-H @- -H 'Content-Type: application/json' \\
    -d '{"device_public_key": "${SAMPLE_DEVICE_KEY}",
         "action": {"type": "login", "description": "First call"}}' \\
    ${address}/challenge`;
}

function enrolCommand(address, identity, trustOption) {
  return `sigil device init --server ${address}${trustOption} \\\n  --pin ${identity.server_id}`;
}
