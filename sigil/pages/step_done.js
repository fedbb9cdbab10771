// What comes next, as lines that work when they are pasted.

import { part, showPictogram } from "./page.js";

// A P-256 point whose private key was thrown away when it was made.
const NOBODYS_DEVICE = "Ars9SPKzqli5juAlatg0oU2nk5iLCZtCLTeW3TUB0t94";

export class Done {
  #wizard;

  constructor(wizard) {
    this.#wizard = wizard;
  }

  enter() {
    const { identity, setting } = this.#wizard.memory;
    const list = this.#wizard.journey.section.querySelector(".pictogram");
    showPictogram(list, identity.server_pictogram, identity.server_pictogram_speakable);
    const lines = {
      "done-cert": "cp /var/lib/sigil/tls/cert.pem sigil.pem",
      "done-cert-compose": "docker compose cp sigil:/var/lib/sigil/tls/cert.pem sigil.pem",
      "done-curl": firstCall(setting.base_url),
      "done-device": `sigil device init --server ${setting.base_url} --ca sigil.pem \\\n  --pin ${identity.server_id}`,
    };
    for (const [id, text] of Object.entries(lines)) part(id).textContent = text;
  }
}

function firstCall(address) {
  return `printf 'Authorization: Bearer %s' "$SIGIL_API_KEY" |
  curl --cacert sigil.pem -H @- -H 'Content-Type: application/json' \\
    -d '{"device_public_key": "${NOBODYS_DEVICE}",
         "action": {"type": "login", "description": "First call"}}' \\
    ${address}/challenge`;
}
