"""Enrolment (docs/protocol.md, 5.5): tokens, links, offers and sessions by their vectors, and hostile texts."""

from __future__ import annotations

import base64
import itertools
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigil.protocol import signed_bytes
from sigil.protocol.device_credential import Facts
from sigil.protocol.encoding.canonical import canonical
from sigil.protocol.encoding.ids import parse_uuid
from sigil.protocol.encoding.pictogram import TABLE
from sigil.protocol.enrolment import code, link
from sigil.protocol.enrolment.offer import offer_jcs, parse_offer
from sigil.protocol.errors import InvalidRequest
from sigil.protocol.keys import PrivateKey, PublicKey
from sigil.protocol.messages import enrolment as messages
from sigil.protocol.messages.approvals import RespondMpa
from sigil.protocol.messages.attestation import (
    AttestDevice,
    DeviceAttested,
    Statement,
    YubikeyAttestation,
    statement_jcs,
)
from sigil.protocol.messages.challenges import Respond

from .vectors import Case, cases, mismatches

SERVER = PrivateKey.load("ES256", bytes.fromhex("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721"))
DEVICES = {
    "ES256": PrivateKey.load("ES256", (7).to_bytes(32)),
    "ES256K": PrivateKey.load("ES256K", (7).to_bytes(32)),
    "Ed25519": PrivateKey.load(
        "Ed25519", bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    ),
}
REPLACED = PrivateKey.load("ES256", (11).to_bytes(32))
LINK = link.Link("https://sigil.example.com", SERVER.public.fingerprint, "7K3MQ9XP2RTB")


def _of(use: str) -> list[Case]:
    return [case for case in cases("enrolment.json") if case["of"] == use]


def _token(random: str) -> Case:
    token = link.token_of(bytes.fromhex(random))
    return {
        "token": token,
        "typed": link.typed_token(token),
        "sha256": signed_bytes.enrolment_token_sha256(token).hex(),
    }


def _typed(text: str) -> str | None:
    try:
        return link.normalised_token(text)
    except link.NotAToken:
        return None


def _uri(text: str) -> Case | None:
    try:
        found = link.parse_uri(text)
    except link.NotALink:
        return None
    assert link.link_uri(found) == text
    return found._asdict()


def _offer(text: str) -> str | None:
    try:
        offer = parse_offer(text.encode())
    except InvalidRequest as error:
        path: str = error.details["path"]
        return path
    assert offer_jcs(offer) == text.encode()
    return None


def _session(given: Case) -> Case:
    offer = parse_offer(canonical(given["offer"]))
    statement = given["attestation"] and msgspec.convert(given["attestation"], Statement)
    public = PublicKey.parse(base64.b64decode(given["device_public_key"]))
    device = DEVICES[public.suite]
    enrolment_id, claim_id = parse_uuid(offer.enrolment_id), bytes.fromhex(offer.claim_id)
    assert enrolment_id is not None
    sas_nonce = code.sas_nonce(bytes.fromhex(given["secret"]), enrolment_id, claim_id)
    nonce = code.offer_nonce(bytes.fromhex(given["secret"]), enrolment_id, claim_id)
    text = offer_jcs(offer)
    sha256 = signed_bytes._sha256(text)
    digest = signed_bytes.enrolment_digest(sha256, public.wire, statement_jcs(statement))
    shown = code.session(digest, sas_nonce)
    found = {
        "offer_jcs": text.decode(),
        "server_signature": _b64(SERVER.sign(signed_bytes.enrolment_offer(text))),
        "sas_nonce": _b64(sas_nonce),
        "digest": digest.hex(),
        "signature": _b64(device.sign(signed_bytes.enrolment_completion(digest))),
        "sas": signed_bytes.enrolment_sas(digest, sas_nonce).hex(),
        "code": shown.code,
        "pictogram_indices": [[emoji for emoji, _ in TABLE].index(emoji) for emoji in shown.pictogram],
    }
    assert shown.speakable == " ".join(dict(TABLE)[emoji] for emoji in shown.pictogram)
    assert offer.nonce == _b64(nonce)
    assert offer.commitment == _b64(signed_bytes.enrolment_commitment(sas_nonce))
    assert offer.token_sha256 == signed_bytes.enrolment_token_sha256(given["token"]).hex()
    if offer.replaces:
        assert offer.replaces == REPLACED.public.fingerprint
        found["replaces_signature"] = _b64(REPLACED.sign(signed_bytes.enrolment_consent(digest)))
    if statement:
        found["attest_digest"] = signed_bytes.attest_digest(
            context=offer.enrolment_id,
            key="" if "x5c" in given["attestation"] and not given["attestation"].get("witness") else _b64(public.wire),
            kind=given["attestation"]["kind"],
            nonce=nonce,
            server_id=offer.server_id,
        ).hex()
    return found


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_every_vector_gives_its_result() -> None:
    uses = {"token": _token, "typed": _typed, "uri": _uri, "offer": _offer, "session": _session}
    assert {case["of"] for case in cases("enrolment.json")} == set(uses)
    assert mismatches("enrolment.json", lambda case: {"expect": uses[case["of"]](case["input"])}) == {}


def test_a_session_depends_on_each_of_its_parts() -> None:
    digest, nonce = bytes(range(96)), bytes(32)
    shown = {code.session(digest, nonce).code}
    shown |= {code.session(digest[:i] + b"\xff" + digest[i + 1 :], nonce).code for i in (0, 32, 64, 95)}
    shown |= {code.session(digest, bytes([1]) + nonce[1:]).code}
    assert len(shown) == 6


def test_the_reveal_and_the_nonce_of_attestations_differ_and_need_ids_of_16_bytes() -> None:
    ids = bytes(16), bytes(range(16))
    values = [
        use(secret, first, second)
        for use in (code.offer_nonce, code.sas_nonce)
        for secret in (b"a" * 32, b"b" * 32)
        for first, second in itertools.product(ids, repeat=2)
    ]
    assert len(set(values)) == len(values)
    for wrong in ((bytes(15), bytes(17)), (bytes(17), bytes(15)), (b"", b"")):
        with pytest.raises(ValueError, match="16 bytes"):
            code.sas_nonce(b"a" * 32, *wrong)


def test_a_token_is_drawn_from_eight_bytes_and_uses_60_bits_of_them() -> None:
    assert len({link.token_of((1 << bit).to_bytes(8)) for bit in range(4, 64)}) == 60
    assert {link.token_of(bytes([0] * 7 + [low])) for low in range(16)} == {"0" * 12}
    with pytest.raises(ValueError, match="8 bytes"):
        link.token_of(bytes(7))


@pytest.mark.parametrize("text", ["7K3MQ9XP2RTU", "https://sigil.example.com/device/#t=7K3MQ9XP2RTB"])
def test_an_error_repeats_nothing_of_the_text(text: str) -> None:
    with pytest.raises(link.NotAToken) as token:
        link.normalised_token(text)
    with pytest.raises(link.NotALink) as uri:
        link.parse_uri(text)
    assert "7K3MQ9XP2RT" not in str(token.value) + str(uri.value)


def test_no_repr_shows_a_token_or_a_code() -> None:
    assert LINK.token not in repr(LINK)
    shown = code.session(bytes(96), bytes(32))
    assert shown.code not in repr(shown)


@given(st.binary(min_size=8, max_size=8), st.data())
def test_every_way_to_type_a_token_gives_it(random: bytes, data: st.DataObject) -> None:
    token = link.token_of(random)
    like = {"0": "0Oo", "1": "1IiLl"}
    typed = ""
    for char in token:
        typed += data.draw(st.sampled_from(["", "", " ", "-", "- "]))
        typed += data.draw(st.sampled_from(like.get(char, char + char.lower())))
    assert link.normalised_token(typed) == token


@given(st.text(max_size=80))
def test_any_text_is_a_token_in_canonical_form_or_none(text: str) -> None:
    found = _typed(text)
    assert found is None or (link.is_token(found) and _typed(found) == found and text.isascii())


URI = link.link_uri(LINK)


@given(st.integers(0, len(URI)), st.integers(0, 4), st.text(max_size=4))
def test_a_changed_link_is_none_or_is_written_as_it_was_read(at: int, cut: int, put: str) -> None:
    _uri(URI[:at] + put + URI[at + cut :])


@given(st.text(max_size=200))
def test_any_text_is_no_link_or_is_written_as_it_was_read(text: str) -> None:
    _uri(text)
    _uri("sigil:enrol?u=" + text)


OFFER = next(case["input"] for case in _of("offer") if case["name"] == "offer: kinds and a level")


@given(st.integers(0, len(OFFER)), st.integers(0, 4), st.text(max_size=4))
def test_a_changed_offer_is_an_error_or_its_own_canonical_json(at: int, cut: int, put: str) -> None:
    text = (OFFER[:at] + put + OFFER[at + cut :]).encode("utf-8", "surrogatepass")
    try:
        offer = parse_offer(text)
    except InvalidRequest:
        return
    assert offer_jcs(offer) == text == canonical(json.loads(text))


def test_no_message_shows_its_secrets() -> None:
    secret = "7K3MQ9XP2RTB" + "ab" * 20
    hidden = [
        messages.EnrolmentBegun("id", secret, secret, "t"),
        messages.ClaimEnrolment(secret, secret),
        messages.EnrolmentOffered(msgspec.Raw(secret.encode()), "s"),
        messages.CompleteEnrolment("id", secret, "k", "s"),
        messages.EnrolmentCompleted(secret, "confirming", secret),
        messages.ConfirmEnrolment(secret),
        messages.WaitForEnrolment("id", secret),
        messages.EnrolmentWaited("enrolled", secret),
        parse_offer(OFFER.encode()),
        AttestDevice("k", "c", YubikeyAttestation([secret] * 2), "s", secret),
        DeviceAttested(secret, "yubikey-piv", "hardware", "direct", "t", "t"),
        Respond("id", "s", "k", device_credential=secret),
        RespondMpa("id", "approved", "s", "k", device_credential=secret),
        Facts(serials=(secret,)),
    ]
    assert {repr(message) for message in hidden} == {f"{type(message).__name__}(…)" for message in hidden}
