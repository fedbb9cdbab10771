"""Device credentials: whole, their public part, and every malformed form."""

from __future__ import annotations

import json
from typing import Any

from . import Case, b64, jcs, sha256
from .curves import P256, SECRET, rs
from .enrolment import b64url
from .signed import SERVER_ID

TAG = b"SIGIL-DEVICE-CREDENTIAL-V1\0"
OTHER = 13  # the key of another server
FINGERPRINT = sha256(P256.public(7)).hex()
FACTS: Case = {
    "boot": "verified",
    "boot_key": "0f" * 32,
    "patch": 202604,
    "serials": ["1", "c35747a084470c3135aeefe2b8d40cd6"],
    "user_auth": True,
}
SALTED: Case = FACTS | {"salt": "AAECAwQFBgcICQoLDA0ODw"}
APPLE: Case = {"app_attest_key": b64(P256.public(5)), "category": 4, "counter": 7, "environment": "production"}


def _payload(facts: Any = SALTED, **changes: Any) -> Case:
    return {
        "v": 1,
        "server_id": SERVER_ID,
        "fingerprint": FINGERPRINT,
        "kind": "android-key",
        "level": "hardware",
        "binding": "direct",
        "app": "com.example.app:" + "ab" * 32,
        "attested_at": "2026-04-24T10:37:15Z",
        "issued_at": "2026-04-25T10:37:15Z",
        "expires_at": "2026-07-24T10:37:15Z",
        "facts_sha256": sha256(facts if isinstance(facts, bytes) else jcs(facts)).hex(),
    } | changes


def _signed(payload: bytes, secret: int = SECRET) -> bytes:
    return rs(*P256.sign(secret, TAG + payload))


def _joined(payload: bytes, signature: bytes | None = None, facts: bytes | None = None, prefix: str = "sdc1") -> str:
    signature = _signed(payload) if signature is None else signature
    parts = [prefix, b64url(payload), b64url(signature), b64url(jcs(SALTED) if facts is None else facts)]
    return ".".join(parts)


def _accepted() -> list[Case]:
    payload = _payload()
    apple = _payload(APPLE, kind="apple-appattest", binding="witness", app="TEAM.com.example", level="secure_element")
    yubikey = _payload({"firmware": [5, 7, 1]}, kind="yubikey-piv", app="", level="secure_element")
    newer = FACTS | {"zone": {"a": [1, None]}, "\u00eb": "\U0001f600"}
    signature = _signed(jcs(payload))
    upper = signature[:32] + (P256.n - int.from_bytes(signature[32:], "big")).to_bytes(32, "big")
    rows: list[tuple[str, Case, Case, str, bool]] = [
        ("Android", payload, FACTS, _joined(jcs(payload)), True),
        ("Apple", apple, APPLE, _joined(jcs(apple), facts=jcs(APPLE)), True),
        ("a YubiKey", yubikey, {"firmware": [5, 7, 1]}, _joined(jcs(yubikey), facts=b'{"firmware":[5,7,1]}'), True),
        ("no facts", _payload({}), {}, _joined(jcs(_payload({})), facts=b"{}"), True),
        ("unknown facts", _payload(newer), FACTS, _joined(jcs(_payload(newer)), facts=jcs(newer)), True),
        ("an emulator", emulator := _payload(level="emulator"), FACTS, _joined(jcs(emulator)), True),
        ("an app that is not ASCII", named := _payload(app="\u00eb"), FACTS, _joined(jcs(named)), True),
        ("s in the upper half", payload, FACTS, _joined(jcs(payload), upper), True),
        ("another server's signature", payload, FACTS, _joined(jcs(payload), _signed(jcs(payload), OTHER)), False),
        ("another server's id", foreign := _payload(server_id="0" * 64), FACTS, _joined(jcs(foreign)), False),
        ("a signature of zeros", payload, FACTS, _joined(jcs(payload), bytes(64)), False),
        ("signed without the tag", payload, FACTS, _joined(jcs(payload), rs(*P256.sign(SECRET, jcs(payload)))), False),
    ]  # fmt: skip
    cases = []
    for name, members, facts, text, signed in rows:
        cases.append(
            {"name": name, "input": text, "parts": 4, "expect": {"payload": members, "facts": facts, "signed": signed}}
        )
        public = text.rpartition(".")[0]
        cases.append(
            {"name": f"{name}: public", "input": public, "parts": 3, "expect": {"payload": members, "signed": signed}}
        )
    return cases


def _rejected() -> list[tuple[str, str]]:
    payload = _payload()
    good = _joined(jcs(payload))
    prefix, first, signature, facts = good.split(".")
    spaced = json.dumps(payload).encode()
    reverse = json.dumps(dict(sorted(payload.items(), reverse=True)), separators=(",", ":")).encode()

    def with_payload(text: bytes) -> str:
        return _joined(text)

    def with_facts(text: bytes) -> str:
        return _joined(jcs(_payload(text)), facts=text)

    rows = [
        ("nothing", ""),
        ("three parts", good.rpartition(".")[0]),
        ("five parts", good + ".AA"),
        ("an empty part at the end", good + "."),
        ("another prefix", _joined(jcs(payload), prefix="sdc2")),
        ("the prefix in upper case", _joined(jcs(payload), prefix="SDC1")),
        ("no prefix", ".".join([first, signature, facts])),
        ("an empty payload", f"{prefix}..{signature}.{facts}"),
        ("an empty signature", f"{prefix}.{first}..{facts}"),
        ("empty facts", f"{prefix}.{first}.{signature}."),
        ("a newline at the end", good + "\n"),
        ("a blank", good.replace(".", ". ", 1)),
        ("padding", f"{prefix}.{first}.{signature}==.{facts}"),
        ("the standard alphabet", f"{prefix}.{first}.{'+/' * 43}.{facts}"),
        ("trailing bits that are not zero", f"{prefix}.{first}.{signature[:-1]}B.{facts}"),
        ("a part of one character more than 4n", f"{prefix}.{first}.{signature}AAA.{facts}"),
        ("a letter that is not ASCII", f"{prefix}.{first[:-1]}\u00e9.{signature}.{facts}"),
        ("a signature of 63 bytes", _joined(jcs(payload), _signed(jcs(payload))[:63])),
        ("a signature of 65 bytes", _joined(jcs(payload), _signed(jcs(payload)) + b"\0")),
        ("longer than 4096 characters", with_facts(jcs(FACTS | {"zone": "a" * 3000}))),
        ("a payload with blanks", with_payload(spaced)),
        ("a payload in another order", with_payload(reverse)),
        ("a payload with a member twice", with_payload(jcs(payload)[:-1] + b',"v":1}')),
        ("a payload that is not UTF-8", with_payload(jcs(payload).replace(b"com.", b"co\xff."))),
        ("a payload that is no object", with_payload(b"[]")),
        ("a payload that is not JSON", with_payload(b"{")),
        ("half of a surrogate pair", with_payload(jcs(payload).replace(b"com.example", b"\\ud800"))),
        ("a payload with another member", with_payload(jcs(payload | {"x": 1}))),
        ("version 2", with_payload(jcs(_payload(v=2)))),
        ("version 0", with_payload(jcs(_payload(v=0)))),
        ("a version that is a text", with_payload(jcs(_payload(v="1")))),
        ("a version that is true", with_payload(jcs(_payload(v=True)))),
        ("an unknown kind", with_payload(jcs(_payload(kind="tpm")))),
        ("the kind of a renewal", with_payload(jcs(_payload(kind="apple-assertion")))),
        ("an unknown level", with_payload(jcs(_payload(level="high")))),
        ("an unknown binding", with_payload(jcs(_payload(binding="none")))),
        ("an app that is a number", with_payload(jcs(_payload(app=1)))),
        ("a server_id in upper case", with_payload(jcs(_payload(server_id=SERVER_ID.upper())))),
        ("a server_id cut short", with_payload(jcs(_payload(server_id=SERVER_ID[:-1])))),
        ("a fingerprint with a newline", with_payload(jcs(_payload(fingerprint=FINGERPRINT + "\n")))),
        ("a time with a fraction", with_payload(jcs(_payload(attested_at="2026-04-24T10:37:15.0Z")))),
        ("a time with an offset", with_payload(jcs(_payload(issued_at="2026-04-24T10:37:15+00:00")))),
        ("a time that is a number", with_payload(jcs(_payload(expires_at=1)))),
        ("the 30th of February", with_payload(jcs(_payload(expires_at="2026-02-30T00:00:00Z")))),
        ("the hash of other facts", _joined(jcs(_payload({})))),
        ("the facts of another credential", f"{prefix}.{first}.{signature}.{b64url(jcs(FACTS | {'patch': 209912}))}"),
        ("a facts_sha256 in upper case", with_payload(jcs(_payload(facts_sha256=sha256(jcs(SALTED)).hex().upper())))),
        ("facts with blanks", with_facts(b'{"patch": 202604}')),
        ("facts with a member twice", with_facts(b'{"patch":1,"patch":1}')),
        ("facts that are a list", with_facts(b"[]")),
        ("facts that are null", with_facts(b"null")),
        ("a patch that is a text", with_facts(b'{"patch":"202604"}')),
        ("a patch that is a fraction", with_facts(b'{"patch":202604.0}')),
        ("a patch beyond 2^53", with_facts(b'{"patch":9007199254740993}')),
        ("a user_auth that is a number", with_facts(b'{"user_auth":1}')),
        ("an unknown boot state", with_facts(b'{"boot":"unverified"}')),
        ("a firmware of two numbers", with_facts(b'{"firmware":[5,7]}')),
        ("serials that are numbers", with_facts(b'{"serials":[1]}')),
    ]  # fmt: skip
    rows += [
        (f"without {name}", with_payload(jcs({key: value for key, value in payload.items() if key != name})))
        for name in payload
    ]
    rows += [(f"null as {name}", with_payload(jcs(payload | {name: None}))) for name in payload]
    return rows


def credentials() -> list[Case]:
    rejected: list[Case] = [{"name": name, "input": text, "parts": 4, "expect": None} for name, text in _rejected()]
    whole = _joined(jcs(_payload()))
    rejected.append({"name": "four parts as the public part", "input": whole, "parts": 3, "expect": None})
    return [*_accepted(), *rejected]
