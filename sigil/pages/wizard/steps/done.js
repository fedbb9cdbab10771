// The last step: what is left to do, as commands to paste. A reload of the page opens it again, without the session.

import { byId, shellQuote, showPictogram } from "../../page.js";
import { FirstChallenge } from "../first_challenge.js";

const CHALLENGE_TEXTS = {
  waiting: "Waiting for your first challenge…",
  received: "Your first challenge was received.",
  ended: "This page no longer waits for your first challenge. The answer to the call says whether it was received.",
};

export class Done {
  #wizard;
  #firstChallenge;
  #boxes = [...document.querySelectorAll(".checklist input")];

  constructor(wizard) {
    this.#wizard = wizard;
    this.#firstChallenge = new FirstChallenge(wizard.server, (state) => this.#showChallenge(state));
    for (const box of this.#boxes) box.addEventListener("change", () => this.#onTick());
  }

  enter() {
    const { handover, session } = this.#wizard.memory;
    const list = this.#wizard.navigation.section.querySelector(".pictogram");
    showPictogram(list, handover.speakable);
    byId("done-name").textContent = handover.serverName;
    const { certificate } = handover;
    byId("done-certificate").hidden = certificate === null;
    // A server without a certificate is behind a proxy, whose certificate comes from a public authority.
    const lines = certificate === null ? {} : certificateCommands(certificate);
    lines["done-ask"] = askCommand(handover.baseUrl, certificate === null ? "" : "export SIGIL_CA_FILE=sigil.pem\n");
    lines["done-curl"] = firstCallCommand(handover.baseUrl, certificate === null ? "" : "--cacert sigil.pem ");
    lines["done-device"] = enrolCommand(handover.baseUrl, handover.serverId, certificate === null ? "" : "  --ca sigil.pem \\\n");
    for (const [id, text] of Object.entries(lines)) byId(id).textContent = text;
    for (const box of this.#boxes) box.checked = handover.ticked.includes(box.id);
    this.#showProgress();
    byId("done-reloaded").hidden = session !== null;
    byId("done-back").hidden = session === null;
    byId("first-challenge").hidden = session === null;
    if (session !== null) this.#firstChallenge.start(session);
  }

  leave() {
    this.#firstChallenge.stop();
  }

  #showChallenge(state) {
    byId("first-challenge").dataset.state = state;
    byId("first-challenge-text").textContent = CHALLENGE_TEXTS[state];
    if (state !== "received" || byId("tick-challenge").checked) return;
    byId("tick-challenge").checked = true;
    this.#onTick();
  }

  #onTick() {
    this.#wizard.keepHandover({ ticked: this.#boxes.filter((box) => box.checked).map((box) => box.id) });
    this.#showProgress();
  }

  #showProgress() {
    const left = this.#boxes.filter((box) => !box.checked).length;
    byId("done-left").textContent =
      left === 0 ? "Everything is done. You can close this window." : `${left} of ${this.#boxes.length} things are left to do.`;
  }
}

function certificateCommands(path) {
  return {
    "done-cert": `cp ${shellQuote(path)} sigil.pem`,
    // The units keep the directory from other users.
    "done-cert-systemd": `sudo cat ${shellQuote(path)} > sigil.pem`,
    // Not `docker compose cp`, which docker-compose 1.29 does not have.
    "done-cert-compose": `docker compose exec -T sigil cat ${shellQuote(path)} > sigil.pem`,
  };
}

function enrolCommand(address, serverId, trustLine) {
  return `sigil device init --server ${address} \\\n${trustLine}  --pin ${serverId}`;
}

function askCommand(address, trustLine) {
  return `export SIGIL_SERVICE_URL=${address}
${trustLine}sigil ask --device "$(sigil device whoami --key)" "First challenge"`;
}

function firstCallCommand(address, trustOption) {
  return `printf 'Authorization: Bearer %s' "$SIGIL_API_KEY" |
  curl ${trustOption}-H @- -H 'Content-Type: application/json' \\
    -d '{"device_public_key": "'$(sigil device whoami --key)'",
         "action": {"type": "login", "description": "First call"}}' \\
    ${address}/challenge`;
}
