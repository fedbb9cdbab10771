"""Offers and answers of a server, honest or with any member forged; no HTTP."""

from __future__ import annotations

import hashlib
from typing import Any
from uuid import UUID

import msgspec

from sigil.device.enrolment.steps import Offer, checked_offer
from sigil.device.enrolment.target import Target
from sigil.device.server_pin import ServerPin
from sigil.protocol import signed_bytes
from sigil.protocol.encoding.canonical import canonical
from sigil.protocol.encoding.text import decode_base64, encode_base64, format_time
from sigil.protocol.enrolment.code import Session, session
from sigil.protocol.enrolment.link import Link, link_uri
from sigil.protocol.identity import ServerIdentity
from sigil.protocol.keys import PublicKey
from sigil.protocol.messages.enrolment import EnrolmentCompleted, EnrolmentOffered
from tests.device.fake_server import NOW, identity

URL = "https://auth.example.com"
TOKEN = "7K3MQ9XP2RTB"
CLAIM_ID = "0123456789abcdef" * 2
SAS_NONCE = b"s" * 32
OWN = identity()
LINK = link_uri(Link(URL, OWN.server_id, TOKEN))
TARGET = Target(URL, TOKEN, OWN.server_id, from_link=True)


def pin(own: ServerIdentity = OWN, url: str = URL) -> ServerPin:
    return ServerPin(
        base_url=url, server_id=own.server_id, server_public_keys=own.server_public_keys, server_name="Example"
    )


def members(**forged: Any) -> dict[str, Any]:
    """Of an honest offer, with others in their place."""
    honest = {
        "account": "alice@example.com",
        "attestation": {"kinds": [], "min_level": ""},
        "claim_id": CLAIM_ID,
        "commitment": encode_base64(signed_bytes.enrolment_commitment(SAS_NONCE)),
        "confirm": "code",
        "enrolment_id": str(UUID(int=1, version=4)),
        "expires_at": format_time(int(NOW) + 600),
        "nonce": encode_base64(b"n" * 32),
        "replaces": "",
        "server_id": OWN.server_id,
        "server_name": "Example",
        "token_sha256": signed_bytes.enrolment_token_sha256(TOKEN).hex(),
    }
    return honest | forged


def offered(offer: dict[str, Any] | bytes, *, signer: ServerIdentity = OWN) -> EnrolmentOffered:
    """Signed by the server, or by another."""
    text = offer if isinstance(offer, bytes) else canonical(offer)
    key = PublicKey.parse(decode_base64(signer.server_public_keys["ES256"], "$"))
    signature = signer.sign_for(key, signed_bytes.enrolment_offer(text))
    return EnrolmentOffered(offer=msgspec.Raw(text), server_signature=encode_base64(signature))


def honest_offer(**changes: Any) -> Offer:
    return checked_offer(offered(members(**changes)), TARGET, CLAIM_ID, pin(), NOW)


def completed(status: Any = "confirming", sas_nonce: bytes = SAS_NONCE) -> EnrolmentCompleted:
    return EnrolmentCompleted(sas_nonce=encode_base64(sas_nonce), status=status)


def session_at_server(offer: Offer, wire_key: str, sas_nonce: bytes = SAS_NONCE) -> Session:
    """What the server compares with: computed here from the protocol alone."""
    key = decode_base64(wire_key, "$")
    digest = hashlib.sha256(offer.jcs).digest() + hashlib.sha256(key).digest() + hashlib.sha256(b"").digest()
    return session(digest, sas_nonce)
