// What comes next, as lines that work when they are pasted.

import { part, quoted, showPictogram } from "./page.js";

// A P-256 point whose private key was thrown away when it was made.
const NOBODYS_DEVICE = "Ars9SPKzqli5juAlatg0oU2nk5iLCZtCLTeW3TUB0t94";

export class Done {
  #wizard;

  constructor(wizard) {
    this.#wizard = wizard;
  }

  enter() {
    const { certificate, identity, setting } = this.#wizard.memory;
    const list = this.#wizard.journey.section.querySelector(".pictogram");
    showPictogram(list, identity.server_pictogram, identity.server_pictogram_speakable);
    part("done-certificate").hidden = certificate === null;
    // Without a certificate of its own the server stands behind a proxy, whose one is a public authority's.
    const lines = certificate === null ? {} : ofCertificate(certificate);
    lines["done-curl"] = firstCall(setting.base_url, certificate === null ? "" : "--cacert sigil.pem ");
    lines["done-device"] = firstDevice(setting.base_url, identity, certificate === null ? "" : " --ca sigil.pem");
    for (const [id, text] of Object.entries(lines)) part(id).textContent = text;
  }
}

function ofCertificate(path) {
  return {
    "done-cert": `cp ${quoted(path)} sigil.pem`,
    "done-cert-compose": `docker compose cp ${quoted(`sigil:${path}`)} sigil.pem`,
  };
}

function firstCall(address, trust) {
  return `printf 'Authorization: Bearer %s' "$SIGIL_API_KEY" |
  curl ${trust}-H @- -H 'Content-Type: application/json' \\
    -d '{"device_public_key": "${NOBODYS_DEVICE}",
         "action": {"type": "login", "description": "First call"}}' \\
    ${address}/challenge`;
}

function firstDevice(address, identity, trust) {
  return `sigil device init --server ${address}${trust} \\\n  --pin ${identity.server_id}`;
}
