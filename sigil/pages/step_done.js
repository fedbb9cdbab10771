// What comes next, as lines that work when they are pasted.

import { part, showPictogram } from "./page.js";

// A P-256 point whose private key was thrown away when it was made.
const NOBODYS_DEVICE = "Ars9SPKzqli5juAlatg0oU2nk5iLCZtCLTeW3TUB0t94";

const COMPOSE = `services:
  sigil:
    environment:
      SIGIL_MODE: operational
      SIGIL_MNEMONIC_PATH: /run/secrets/sigil_mnemonic
    secrets:
      - sigil_mnemonic
secrets:
  sigil_mnemonic:
    file: ./mnemonic.txt`;

export class Done {
  #wizard;

  constructor(wizard) {
    this.#wizard = wizard;
  }

  enter() {
    const { identity, setting } = this.#wizard.memory;
    const list = this.#wizard.journey.section.querySelector(".pictogram");
    showPictogram(list, identity.server_pictogram, identity.server_pictogram_speakable);
    part("done-file").textContent = "(umask 077; cat > mnemonic.txt)   # type the words, Enter, Ctrl-D";
    part("done-shell").textContent = 'export SIGIL_MNEMONIC_PATH="$PWD/mnemonic.txt"\nunset SIGIL_MODE';
    part("done-compose").textContent = COMPOSE;
    part("done-cert").textContent =
      "cp /var/lib/sigil/tls/cert.pem sigil.pem                        # on the machine\n" +
      "docker compose cp sigil:/var/lib/sigil/tls/cert.pem sigil.pem   # from the container";
    part("done-curl").textContent = this.#curl(setting.base_url);
    part("done-device").textContent =
      `sigil device init --server ${setting.base_url} --ca sigil.pem --pin ${identity.server_id}`;
  }

  #curl(address) {
    return (
      "printf 'Authorization: Bearer %s' \"$SIGIL_API_KEY\" |\n" +
      `  curl --cacert sigil.pem -H @- -H 'Content-Type: application/json' ${address}/challenge \\\n` +
      `  -d '{"device_public_key": "${NOBODYS_DEVICE}", "action": {"type": "login", "description": "First call"}}'`
    );
  }
}
