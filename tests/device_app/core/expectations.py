"""Every vector that concerns a web device, and what the core must return for it in each browser.

Each function returns the cases with another outcome, by name. The expectations are those of the files, as Python's are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

from sigil.protocol.encoding import strict_json
from sigil.protocol.encoding.canonical import NotCanonical, canonical
from sigil.protocol.encoding.pictogram import TABLE
from sigil.protocol.errors import InvalidRequest
from tests.protocol.vectors import Case, cases

from .modules import Judge

Outcomes = dict[str, Any]


def differing(names: list[str], wanted: list[Any], got: list[Any]) -> Outcomes:
    return {name: found for name, want, found in zip(names, wanted, got, strict=True) if found != want}


def _run(
    judge: Judge, kind: str, chosen: list[Case], given: Callable[[Case], Any], want: Callable[[Case], Any]
) -> Outcomes:
    assert chosen, f"no case is left for {kind}"
    got = judge(kind, [given(case) for case in chosen])
    return differing([case["name"] for case in chosen], [want(case) for case in chosen], got)


def actions(judge: Judge) -> Outcomes:
    """As a device gets an action: only the canonical text of an accepted action is accepted."""
    texts: dict[str, bool] = {}
    for case in _actions():
        good = case["expect"].get("jcs") if isinstance(case["expect"], dict) else None
        texts[case["action"]] = good == case["action"]
        # Nearly all are written with blanks: without them, each breaks only the rule that it is there for.
        if (text := good or _canonical(case["action"])) is not None:
            texts[text] = good is not None
    wanted = [True if good else "ACTION_REFUSED" for good in texts.values()]
    return differing(list(texts), wanted, judge("actions", list(texts)))


def _canonical(text: str) -> str | None:
    try:
        return canonical(strict_json.parse(text.encode())).decode()
    except (InvalidRequest, NotCanonical):
        return None


def canonical_actions(judge: Judge) -> Outcomes:
    """The canonical text of each action that has one. params of null count as absent in a request, never in a text."""
    chosen = [case for case in _actions() if _has_jcs(case) and json.loads(case["action"]).get("params", 1) is not None]
    return _run(judge, "canonical", chosen, lambda case: case["action"], lambda case: case["expect"]["jcs"])


def action_bytes(judge: Judge) -> Outcomes:
    """Those that are no text: not UTF-8, or with a byte order mark."""
    chosen = [case for case in cases("actions.json") if "action_hex" in case]
    return _run(judge, "canonicalBytes", chosen, lambda case: case["action_hex"], lambda _: "NotStrictJson")


def _actions() -> list[Case]:
    return [case for case in cases("actions.json") if "action" in case]


def _has_jcs(case: Case) -> bool:
    return isinstance(case["expect"], dict) and "jcs" in case["expect"]


def keys(judge: Judge) -> Outcomes:
    """A web device verifies with ES256 alone: every other key is none."""

    def want(case: Case) -> str | None:
        return hashlib.sha256(bytes.fromhex(case["public_key"])).hexdigest() if case["expect"] == "ES256" else None

    return _run(judge, "keys", cases("keys.json"), lambda case: case["public_key"], want)


def signatures(judge: Judge) -> Outcomes:
    chosen = [case for case in cases("signatures.json") if len(case["public_key"]) == 66]
    return _run(judge, "signatures", chosen, lambda case: case, lambda case: case["expect"])


def web_parts(judge: Judge) -> Outcomes:
    chosen = [case for case in cases("webauthn.json") if "client_data" in case]
    return _run(
        judge,
        "webParts",
        chosen,
        lambda case: case,
        lambda case: {name: case[name] for name in ("signed", "challenge", "signature")},
    )


def assertions(judge: Judge) -> Outcomes:
    """r‖s of what an authenticator returns, with a short r or s too."""
    chosen = [case for case in cases("webauthn.json") if "assertion_der" in case]
    return _run(judge, "ders", chosen, lambda case: case["assertion_der"], lambda case: case["signature"][128:256])


def signed_bytes(judge: Judge) -> Outcomes:
    """Of every use but those of a server, of other transports, and of devices that attest or replace a key."""
    others = {"relay_request", "relay_ws_auth", "enrolment_consent", "attestation_proof", "device_credential"}
    chosen = [case for case in cases("signed_bytes.json") if case["name"] not in others]

    def given(case: Case) -> Case:
        context = case["input"].get("action_context")
        changed = {} if context is None else {"action_context": json.dumps(context)}
        return {"name": case["name"], "input": {**case["input"], **changed}}

    return _run(judge, "signed", chosen, given, lambda case: case["expect"]["message"])


def bindings(judge: Judge) -> Outcomes:
    return _run(judge, "bindings", cases("bindings.json"), lambda case: case["input"], lambda case: case["expect"])


def spellings(judge: Judge) -> Outcomes:
    def want(case: Case) -> Any:
        return None if case["expect"] == "INVALID_REQUEST" else case["expect"]

    return _run(judge, "spellings", cases("spellings.json"), lambda case: case, want)


def origins(judge: Judge) -> Outcomes:
    chosen = cases("origins.json")
    got = [found[:2] for found in judge("origins", [case["text"] for case in chosen])]
    return differing([case["name"] for case in chosen], [[case["server"], case["relay"]] for case in chosen], got)


def _enrolment(use: str) -> list[Case]:
    return [case for case in cases("enrolment.json") if case["of"] == use]


def tokens(judge: Judge) -> Outcomes:
    return _run(
        judge,
        "tokenHashes",
        _enrolment("token"),
        lambda case: case["expect"]["token"],
        lambda case: case["expect"]["sha256"],
    )


def typed(judge: Judge) -> Outcomes:
    return _run(judge, "tokens", _enrolment("typed"), lambda case: case["input"], lambda case: case["expect"])


def links(judge: Judge) -> Outcomes:
    return _run(judge, "links", _enrolment("uri"), lambda case: case["input"], lambda case: case["expect"])


def offers(judge: Judge) -> Outcomes:
    def want(case: Case) -> str:
        return "OFFER_MALFORMED" if case["expect"] else json.loads(case["input"])["enrolment_id"]

    return _run(judge, "offers", _enrolment("offer"), lambda case: case["input"], want)


def codes(judge: Judge) -> Outcomes:
    """Code and pictogram of every session, also of devices that attest: they depend on D alone."""

    def want(case: Case) -> Any:
        names = [TABLE[at][1] for at in case["expect"]["pictogram_indices"]]
        return {"sas": case["expect"]["sas"], "code": case["expect"]["code"], "pictogram": names}

    def given(case: Case) -> Any:
        return {name: case["expect"][name] for name in ("digest", "sas_nonce")}

    return _run(judge, "codes", _enrolment("session"), given, want)


def sessions(judge: Judge) -> Outcomes:
    """From the offer to the code, of a device that attests nothing."""
    chosen = [case for case in _enrolment("session") if not case["input"]["attestation"]]

    def given(case: Case) -> Any:
        wire, nonce = case["input"]["device_public_key"], case["expect"]["sas_nonce"]
        return {"offer": case["expect"]["offer_jcs"], "wire": wire, "sas_nonce": nonce}

    def want(case: Case) -> Any:
        names = [TABLE[at][1] for at in case["expect"]["pictogram_indices"]]
        return {"digest": case["expect"]["digest"], "code": case["expect"]["code"], "pictogram": names}

    return _run(judge, "sessions", chosen, given, want)


ALL: dict[str, Callable[[Judge], Outcomes]] = {
    kind.__name__: kind
    for kind in (
        actions, canonical_actions, action_bytes, keys, signatures, web_parts, assertions, signed_bytes, bindings,
        spellings, origins, tokens, typed, links, offers, codes, sessions,
    )
}  # fmt: skip
