"""The offer of an enrolment: what the server signs, and a device consents to (docs/protocol.md, 5.5)."""

from __future__ import annotations

import msgspec

from sigil.protocol.encoding import strict_json
from sigil.protocol.encoding.canonical import NotCanonical, canonical
from sigil.protocol.encoding.display_text import problem_of
from sigil.protocol.encoding.ids import parse_uuid
from sigil.protocol.encoding.text import decode_base64, decode_hex, parse_time
from sigil.protocol.errors import InvalidRequest, subject_of
from sigil.protocol.messages.enrolment import MAX_ACCOUNT, Offer

_HEX_BYTES = {"claim_id": 16, "server_id": 32, "token_sha256": 32}
_BASE64_BYTES = {"commitment": 32, "nonce": 32}


def check_account(account: str, path: str = "$.account") -> None:
    """The account has at most 128 characters of displayable text (2.5). Raises InvalidRequest."""
    if len(account) > MAX_ACCOUNT:
        raise InvalidRequest(f"{subject_of(path)} must be a string of 1 to {MAX_ACCOUNT} characters.", path=path)
    if problem := problem_of(account):
        raise InvalidRequest(f"{subject_of(path)} must be displayable text: {problem}.", path=path)


def offer_jcs(offer: Offer) -> bytes:
    """The offer as it is sent and signed."""
    return canonical(msgspec.to_builtins(offer))


def parse_offer(text: bytes, path: str = "$.offer") -> Offer:
    """An offer as a device gets it: its own canonical JSON, exactly the documented members, each in its form. Raises
    InvalidRequest. The device then compares the values with what it knows, and verifies the signature.
    """
    try:
        members = strict_json.parse(text)
        offer = msgspec.convert(members, Offer)
        if canonical(members) != text:
            raise InvalidRequest("The offer is not canonical JSON.", path=path)
    except (msgspec.ValidationError, NotCanonical) as error:
        raise InvalidRequest("The offer does not have the documented form.", path=path) from error
    _check(offer, path)
    return offer


def _check(offer: Offer, path: str) -> None:
    for name, size in _HEX_BYTES.items():
        decode_hex(getattr(offer, name), f"{path}.{name}", length=size)
    for name, size in _BASE64_BYTES.items():
        decode_base64(getattr(offer, name), f"{path}.{name}", length=size)
    if offer.replaces:
        decode_hex(offer.replaces, f"{path}.replaces", length=32)
    if parse_uuid(offer.enrolment_id) is None:
        raise InvalidRequest("enrolment_id must be a lower-case UUID.", path=f"{path}.enrolment_id")
    parse_time(offer.expires_at, f"{path}.expires_at")
    check_account(offer.account, f"{path}.account")
    if problem := problem_of(offer.server_name):
        raise InvalidRequest(f"server_name must be displayable text: {problem}.", path=f"{path}.server_name")
    kinds = offer.attestation.kinds
    if kinds != sorted(set(kinds)):
        raise InvalidRequest("attestation.kinds must be sorted.", path=f"{path}.attestation.kinds")
