"""Makes the vector files of this folder: `python make.py [folder]` (default: beside this file).

Everything is computed here from the published definitions with plain integers, so that the files say what is right
and not what the code under test happens to do. Nothing of the project is imported.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

# Isolated mode (`python -I`) leaves the script's own folder out.
sys.path.insert(0, str(Path(__file__).parent))

from generator import Case
from generator.actions import actions
from generator.api_keys import api_keys
from generator.credentials import credentials
from generator.enrolment import enrolment
from generator.identity import bip32_children, mnemonics
from generator.keys import keys, signatures
from generator.origins import origins, traceparents
from generator.signed import bindings, signed
from generator.spellings import messages, spellings
from generator.votes import votes
from generator.webauthn import webauthn

FILES: dict[str, tuple[str, Callable[[], list[Case]]]] = {
    "keys.json": ("Public keys as on the wire, hex; expect is their suite or the failure.", keys),
    "signatures.json": ("Whether the signature is the key's over the message, all hex.", signatures),
    "webauthn.json": (
        "Whether the signature is the web device's over the message, else the reason, which no caller learns. hex.",
        webauthn,
    ),
    "signed_bytes.json": ("The signed bytes of every use, and their signatures by three test keys.", signed),
    "bindings.json": ("challenge_bytes of what a challenge is bound to.", bindings),
    "votes.json": ("Statuses of multi-party requests; expect is what their votes prove, or the failure.", votes),
    "spellings.json": ("base64, hex and times; expect is the value or the failure.", spellings),
    "origins.json": ("Addresses; server and relay are the canonical origin, null where it must be rejected.", origins),
    "traceparents.json": (
        "Values of traceparent; expect is the form of version 00 with the known flags, null where it is ignored.",
        traceparents,
    ),
    "actions.json": ("The action member of a request; expect is its JCS or the failure and its path.", actions),
    "messages.json": ("Bodies of requests; expect is what they say or the failure and its path.", messages),
    "api_keys.json": ("Authorization headers; expect is the owner, hex, or the failure.", api_keys),
    "enrolment.json": ("Tokens, links, offers, sessions: of says which. null, or a path, is the failure.", enrolment),
    "credentials.json": ("Credentials; expect is what they hold, and whether the server signed, or null.", credentials),
    "mnemonics.json": ("Words; expect is the identity or the failure, and what its message says.", mnemonics),
    "bip32.json": ("Child private keys of the published BIP-32 test vectors 1 to 3.", bip32_children),
}


def main(folder: Path) -> None:
    # Python refuses to print huge integers otherwise; one case is such a number.
    sys.set_int_max_str_digits(0)
    for file, (note, build) in FILES.items():
        cases = build()
        assert len({case["name"] for case in cases}) == len(cases), f"{file}: two cases of one name"
        lines = ",\n".join("  " + json.dumps(case) for case in cases)
        text = f'{{\n "note": {json.dumps(note)},\n "cases": [\n{lines}\n ]\n}}\n'
        (folder / file).write_text(text, encoding="ascii", newline="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
