"""The JavaScript core judges challenges, requests, identities and offers as `sigil.device` does, reasons included."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigil.device.approval_checks import ShownApproval, verify_mpa_payload
from sigil.device.challenge_checks import ShownChallenge, verify_payload
from sigil.device.enrolment.steps import checked_offer
from sigil.device.enrolment.target import Target
from sigil.device.errors import DeviceError
from sigil.device.server_pin import ServerPin, verify_info
from sigil.protocol import signed_bytes
from sigil.protocol.encoding import strict_json
from sigil.protocol.encoding.canonical import canonical
from sigil.protocol.encoding.text import decode_base64, encode_base64
from sigil.protocol.errors import InvalidRequest
from sigil.protocol.messages.enrolment import EnrolmentOffered
from tests.device import test_approval_checks, test_challenge_checks, test_server_pin
from tests.device.enrolment import offers
from tests.device.fake_server import NOW, as_json, honest_info, identity, make_mpa_payload, make_payload

from .modules import Judge
from .test_vectors import _TEXTS, _VALUES, EXAMPLES

SERVER, DEVICE, PIN = test_challenge_checks.SERVER, test_challenge_checks.DEVICE, test_challenge_checks.PIN
ANSWER = "https://auth.example.com/respond"


def record(pin: ServerPin = PIN) -> dict[str, Any]:
    return {"serverId": pin.server_id, "serverKeys": pin.server_public_keys, "baseUrl": pin.base_url}


def in_javascript(judge: Judge, kind: str, payloads: list[bytes], now: float = NOW) -> list[Any]:
    common = {"record": record(), "device": DEVICE.fingerprint, "now": now}
    return judge(kind, [{"text": payload.decode(), **common} for payload in payloads])


def challenge_in_python(payload: bytes, now: float = NOW) -> Any:
    try:
        shown = verify_payload(payload, PIN, DEVICE.public, now)
    except DeviceError as error:
        return error.code
    return _shown(shown) | {
        "required": None,
        "rejectPolicy": None,
        "requestId": None,
        "approval": _approval(shown).hex(),
        "rejection": signed_bytes.rejection(shown.challenge_bytes, shown.action_jcs).hex(),
    }


def _approval(shown: ShownChallenge) -> bytes:
    if shown.number_matching:
        return signed_bytes.matched_approval(shown.challenge_bytes, shown.action_jcs, "07")
    return signed_bytes.approval(shown.challenge_bytes, shown.action_jcs)


def approval_in_python(payload: bytes, now: float = NOW) -> Any:
    try:
        shown = verify_mpa_payload(payload, PIN, DEVICE.public, now)
    except DeviceError as error:
        return error.code
    return _shown(shown) | {
        "required": shown.required,
        "rejectPolicy": shown.reject_policy,
        "requestId": shown.request_id,
        "approval": signed_bytes.mpa_approval(shown.context).hex(),
        "rejection": signed_bytes.mpa_rejection(shown.context).hex(),
    }


def _shown(shown: ShownChallenge | ShownApproval) -> dict[str, Any]:
    return {
        "id": shown.id,
        "action": shown.action_type,
        "description": shown.description,
        "params": None if shown.params is None else canonical(shown.params).decode(),
        "expiresAt": shown.expires_at * 1000,
        "numberMatching": shown.number_matching,
    }


CHALLENGES = [
    {}, {"number_matching": True}, {"respond_to": ANSWER}, {"action": b'{"description":"d","type":"t"}'},
    {"expires_at": int(NOW) - 59},
    {"action": '{"description":"Zoë pays","params":{"10":[{},[],null],"9":{"__proto__":""}},"type":"t"}'.encode()},
]  # fmt: skip
APPROVALS = [
    {}, {"required": 1, "reject_policy": "reject_on_first"}, {"respond_to": "https://auth.example.com/mpa/respond"},
    {"params": {"10": 1, "9": 2, "__proto__": {"a": []}}},
]  # fmt: skip


def test_an_honest_payload_is_shown_and_signed_as_in_python(judge: Judge) -> None:
    challenges = [as_json(make_payload(SERVER, DEVICE.public, **changes)) for changes in CHALLENGES]
    wanted = [challenge_in_python(payload) for payload in challenges]
    assert all(isinstance(want, dict) for want in wanted)
    assert in_javascript(judge, "challenges", challenges) == wanted
    requests = [as_json(make_mpa_payload(SERVER, DEVICE.public, **changes)) for changes in APPROVALS]
    wanted = [approval_in_python(payload) for payload in requests]
    assert all(isinstance(want, dict) for want in wanted)
    assert in_javascript(judge, "approvals", requests) == wanted


def test_each_tampered_challenge_is_refused_with_the_code_of_python(judge: Judge) -> None:
    table = test_challenge_checks.TAMPERED
    payloads = [as_json(build()) for _, build in table.values()]
    got = in_javascript(judge, "challenges", payloads)
    wanted = {name: challenge_in_python(payload) for name, payload in zip(table, payloads, strict=True)}
    # For the page a member twice is no JSON, before any other check.
    wanted["a name twice"] = "PAYLOAD_MALFORMED"
    assert dict(zip(table, got, strict=True)) == wanted
    assert {error.code for error, _ in table.values()} <= set(got)


def test_each_tampered_approval_request_is_refused_with_the_code_of_python(judge: Judge) -> None:
    table = test_approval_checks.TAMPERED
    payloads = [as_json(build()) for _, build in table.values()]
    got = in_javascript(judge, "approvals", payloads)
    wanted = {name: approval_in_python(payload) for name, payload in zip(table, payloads, strict=True)}
    # For the page a member twice is no JSON, before any other check.
    wanted["a member twice"] = "PAYLOAD_MALFORMED"
    assert dict(zip(table, got, strict=True)) == wanted
    assert {error.code for error, _ in table.values()} <= set(got)


CHANGED = {
    "nothing": ("", None),
    "another object": ("checked = { ...checked }", "NOT_CHECKED"),
    "a list inside params": ("checked.params.find(([name]) => name === 'to')[1].push('mallory')", "SHOWN_CHANGED"),
}


@pytest.mark.parametrize("decision", ["approved", "rejected"])
@pytest.mark.parametrize("build", [make_payload, make_mpa_payload])
def test_only_what_was_checked_and_is_still_shown_is_signed(
    judge: Judge, build: Callable[..., dict[str, Any]], decision: str
) -> None:
    text = as_json(build(SERVER, DEVICE.public)).decode()
    common = {"text": text, "record": record(), "device": DEVICE.fingerprint, "now": NOW, "decision": decision}
    got = judge("changes", [{"change": change, **common} for change, _ in CHANGED.values()])
    honest = (challenge_in_python if build is make_payload else approval_in_python)(text.encode())
    wanted = [error or honest["approval" if decision == "approved" else "rejection"] for _, error in CHANGED.values()]
    assert dict(zip(CHANGED, got, strict=True)) == dict(zip(CHANGED, wanted, strict=True))


@pytest.mark.parametrize(
    "change",
    [
        "checked.description = 'x'", "checked.action = 'x'", "checked.params = []", "checked.params[0][1] = 13",
        "checked.expiresAt += 1", "checked.numberMatching = true", "checked.required = 1", "checked.id = 'x'",
    ],
)  # fmt: skip
def test_what_is_shown_cannot_be_changed_in_place(judge: Judge, change: str) -> None:
    text = as_json(make_mpa_payload(SERVER, DEVICE.public)).decode()
    caught = (
        f"let caught; try {{ {change} }} catch (error) {{ caught = error }} if (!caught) throw new Error('changed')"
    )
    [got] = judge("changes", [{"change": caught, "decision": "approved", "text": text, "record": record(), "now": NOW}])
    assert got == approval_in_python(text.encode())["approval"]


def test_a_code_is_signed_exactly_where_the_challenge_has_one(judge: Judge) -> None:
    def outcome(matching: bool, code: str | None, decision: str = "approved") -> str:
        payload = as_json(make_payload(SERVER, DEVICE.public, number_matching=matching))
        case = {"text": payload.decode(), "record": record(), "device": DEVICE.fingerprint, "now": NOW, "change": ""}
        [got] = judge("changes", [{**case, "decision": decision} | ({} if code is None else {"matchCode": code})])
        return str(got)

    assert (
        outcome(True, "07")
        == challenge_in_python(as_json(make_payload(SERVER, DEVICE.public, number_matching=True)))["approval"]
    )
    for code in (None, "", "7", "007", "٠٧", "0a", "07\n"):
        assert outcome(True, code) == "MATCH_CODE_REQUIRED", code
    assert outcome(False, "07") == "MATCH_CODE_UNEXPECTED"
    assert outcome(True, None, "rejected").startswith(b"SIGIL-AUTH-REJECT-V1\0".hex())


def info_in_python(info: bytes, pin: str | None) -> str:
    try:
        return verify_info(info, PIN.base_url, pin=pin).server_id
    except DeviceError as error:
        return error.code


def test_each_lie_of_an_identity_is_rejected_with_the_code_of_python(judge: Judge) -> None:
    honest = honest_info(SERVER)
    infos = {name: (as_json(change(honest)), None) for name, (_, change) in test_server_pin.LIES.items()}
    other = encode_base64(b"\xe7\x02" + decode_base64(SERVER.server_public_keys["ES256K"], "$")[2:])
    infos["another prefix"] = (as_json(test_server_pin.with_keys(honest, ES256K=other)), None)
    infos |= {f"pin {pin}": (as_json(honest), pin) for pin in (None, SERVER.server_id, identity(50).server_id, "")}
    cases = [{"text": info.decode(), "baseUrl": PIN.base_url, "expected": pin} for info, pin in infos.values()]
    got = judge("infos", cases)
    assert dict(zip(infos, got, strict=True)) == {name: info_in_python(*given) for name, given in infos.items()}
    assert {error.code for error, _ in test_server_pin.LIES.values()} | {"PIN_MISMATCH", SERVER.server_id} == set(got)


FORGED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "honest": ({}, {}),
    "no code, from a link": ({"confirm": "none"}, {}),
    "no code, typed": ({"confirm": "none"}, {"fromLink": False}),
    "another server": ({"server_id": "a" * 64}, {}),
    "another token": ({}, {"token": "000000000000"}),
    "another claim": ({"claim_id": "f" * 32}, {}),
    "just not expired": ({"expires_at": "2027-01-15T07:59:01Z"}, {}),
    "expired": ({"expires_at": "2027-01-15T07:58:59Z"}, {}),
    "another server's signature": ({}, {"signer": identity(50)}),
    "a hidden character in the account": ({"account": "alice\u200b"}, {}),
    "a server name that changes direction": ({"server_name": "\u202eevil"}, {}),
}


def test_each_forged_offer_is_refused_with_the_code_of_python(judge: Judge) -> None:
    wanted, given_cases = [], []
    for members, other in FORGED.values():
        answer = offers.offered(offers.members(**members), signer=other.get("signer", offers.OWN))
        token, from_link = other.get("token", offers.TOKEN), other.get("fromLink", True)
        given_cases.append(offer_case(answer, token=token, from_link=from_link))
        wanted.append(offer_in_python(answer, token=token, from_link=from_link))
    got = judge("checkedOffers", given_cases)
    assert dict(zip(FORGED, got, strict=True)) == dict(zip(FORGED, wanted, strict=True))
    assert {code for code in got if str(code).isupper()} == {
        "CODE_NOT_COMPARED", "OFFER_OF_ANOTHER_SERVER", "OFFER_FOR_ANOTHER_TOKEN", "OFFER_FOR_ANOTHER_CLAIM",
        "OFFER_EXPIRED", "OFFER_SIGNATURE_INVALID", "OFFER_MALFORMED",
    }  # fmt: skip


def offer_case(answer: EnrolmentOffered, *, token: str = offers.TOKEN, from_link: bool = True) -> dict[str, Any]:
    claim = {"token": token, "claimId": offers.CLAIM_ID, "fromLink": from_link}
    signature, pinned = answer.server_signature, record(offers.pin())
    return {"offer": bytes(answer.offer).decode(), "signature": signature, "claim": claim, "record": pinned, "now": NOW}


def offer_in_python(answer: EnrolmentOffered, *, token: str = offers.TOKEN, from_link: bool = True) -> str:
    target = Target(offers.URL, token, offers.OWN.server_id, from_link)
    try:
        return checked_offer(answer, target, offers.CLAIM_ID, offers.pin(), NOW).account
    except DeviceError as error:
        return error.code


def test_a_commitment_that_does_not_match_gives_no_code(judge: Judge) -> None:
    offer = canonical(offers.members()).decode()
    case = {"offer": offer, "wire": DEVICE.wire_key}
    nonces = [
        msgspec.json.decode(msgspec.json.encode(offers.completed(sas_nonce=nonce)))["sas_nonce"]
        for nonce in (offers.SAS_NONCE, b"x" * 32, b"s" * 31)
    ]
    honest, *broken = judge("sessions", [{**case, "sas_nonce": nonce} for nonce in [*nonces, "c3M="]])
    assert broken == ["COMMITMENT_BROKEN"] * 3
    expected = offers.session_at_server(offers.honest_offer(), DEVICE.wire_key)
    assert (honest["code"], " ".join(honest["pictogram"])) == (expected.code, expected.speakable)


# The differential test: what Python and JavaScript make of the same random text.

_JSON = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**54), 2**54), st.floats(allow_nan=False, allow_infinity=False), _TEXTS,
    st.lists(_TEXTS, max_size=2), st.dictionaries(_TEXTS, _TEXTS, max_size=2),
)  # fmt: skip
_ACTIONS = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["pay", "a:b", "A", "", "x" * 65]) | _TEXTS,
        "description": st.sampled_from(["Pay", "x" * 256, "é" * 257]) | _TEXTS,
    },
    optional={"params": st.dictionaries(_TEXTS, _VALUES, max_size=3)},
)


@st.composite
def _mutated(draw: st.DrawFn, build: Callable[..., dict[str, Any]]) -> bytes:
    """A payload of the pinned server or of another, one member changed, or one character of the text."""
    payload = build(draw(st.sampled_from([SERVER, SERVER, identity(50)])), DEVICE.public)
    names = sorted({*payload, "respond_to", "unknown"})
    way = draw(st.sampled_from(["member", "missing", "value of another", "text", "nothing"]))
    if way == "member":
        payload[draw(st.sampled_from(names))] = draw(_JSON)
    elif way == "missing":
        payload.pop(draw(st.sampled_from(sorted(payload))))
    elif way == "value of another":
        payload[draw(st.sampled_from(names))] = payload[draw(st.sampled_from(sorted(payload)))]
    text = as_json(payload).decode()
    if way == "text":
        at = draw(st.integers(0, len(text) - 1))
        kept = draw(st.integers(0, 1))
        text = (
            text[:at]
            + draw(st.sampled_from(['"', ",", "}", "0", " ", "\\", "a", "\u200b", "-", "1.0", ""]))
            + text[at + kept :]
        )
    return text.encode()


def _agree(judge: Judge, kind: str, payloads: list[bytes], in_python: Callable[[bytes], Any]) -> None:
    for payload, got in zip(payloads, in_javascript(judge, kind, payloads), strict=True):
        want = in_python(payload)
        if _is_tolerated(payload):
            assert got == "PAYLOAD_MALFORMED", payload
        else:
            assert got == want, payload


def _is_tolerated(payload: bytes) -> bool:
    """What only Python's parser of answers accepts: the last of two members of one name, and a payload without type."""
    try:
        return "type" not in strict_json.parse(payload)
    except InvalidRequest:
        return True


@EXAMPLES
@given(payloads=st.lists(_mutated(make_payload), min_size=4, max_size=4))
def test_a_random_challenge_is_judged_as_in_python(judge: Judge, payloads: list[bytes]) -> None:
    _agree(judge, "challenges", payloads, challenge_in_python)


@EXAMPLES
@given(payloads=st.lists(_mutated(make_mpa_payload), min_size=4, max_size=4))
def test_a_random_approval_request_is_judged_as_in_python(judge: Judge, payloads: list[bytes]) -> None:
    _agree(judge, "approvals", payloads, approval_in_python)


@EXAMPLES
@given(chosen=st.lists(_ACTIONS, min_size=4, max_size=4))
def test_a_random_action_is_judged_as_in_python(judge: Judge, chosen: list[dict[str, Any]]) -> None:
    """Signed by a server that checks nothing."""
    texts = [canonical(action) if _is_canonical(action) else json.dumps(action).encode() for action in chosen]
    payloads = [as_json(make_payload(SERVER, DEVICE.public, action=text)) for text in texts]
    _agree(judge, "challenges", payloads, challenge_in_python)


def _is_canonical(value: Any) -> bool:
    try:
        canonical(value)
    except ValueError:
        return False
    return True


@EXAMPLES
@given(
    forged=st.lists(
        st.dictionaries(
            st.sampled_from(sorted(offers.members())),
            _JSON | st.just({"kinds": ["a", "b"], "min_level": ""}),
            max_size=2,
        ),
        min_size=4,
        max_size=4,
    )
)
def test_a_random_offer_is_judged_as_in_python(judge: Judge, forged: list[dict[str, Any]]) -> None:
    texts = [
        json.dumps(offers.members() | members, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        for members in forged
    ]
    answers = [offers.offered(text.encode()) for text in texts]
    got = judge("checkedOffers", [offer_case(answer) for answer in answers])
    assert got == [offer_in_python(answer) for answer in answers]


def test_a_pin_with_another_suite_alone_is_unusable(judge: Judge) -> None:
    text = as_json(make_payload(SERVER, DEVICE.public)).decode()
    case = {"text": text, "device": DEVICE.fingerprint, "now": NOW}
    for keys in ({}, {"ES256": SERVER.server_public_keys["ES256K"]}, {"ES256": "AAAA"}):
        assert judge("challenges", [{**case, "record": record() | {"serverKeys": keys}}]) == ["SERVER_KEY_UNUSABLE"]
    assert judge("challenges", [{**case, "record": record() | {"serverId": "a" * 64}}]) == ["SERVER_ID_MISMATCH"]
