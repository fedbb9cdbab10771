"""Device credentials (docs/protocol.md, 5.6): each form by its vectors, and hostile texts."""

from __future__ import annotations

import contextlib
import hashlib
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigil.protocol import device_credential as credentials
from sigil.protocol.encoding.canonical import canonical
from sigil.protocol.encoding.text import decode_base64url, encode_base64url, format_time
from sigil.protocol.keys import PrivateKey
from sigil.protocol.messages.attestation import MAX_CREDENTIAL

from .vectors import Case, cases, mismatches

SERVER = PrivateKey.load("ES256", bytes.fromhex("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721"))
PAYLOAD = credentials.Payload(
    server_id=SERVER.public.fingerprint,
    fingerprint="0f" * 32,
    kind="android-key",
    level="hardware",
    binding="direct",
    app="com.example.app",
    attested_at=1_777_026_735,
    issued_at=1_777_026_736,
    expires_at=1_784_802_735,
)
SALT = bytes(range(16))
FACTS = credentials.Facts(patch=202604, firmware=(5, 7, 1), serials=("1", "c3"), user_auth=False, counter=0)
TEXT = credentials.issue(PAYLOAD, FACTS, SERVER.sign, salt=SALT)


def _payload(payload: credentials.Payload, facts_sha256: str) -> Case:
    members = msgspec.to_builtins(payload)
    times = {name: format_time(members[name]) for name in ("attested_at", "issued_at", "expires_at")}
    found: Case = members | times | {"v": 1, "facts_sha256": facts_sha256}
    return found


def _outcome(case: Case) -> Case:
    try:
        if case["parts"] == 3:
            public = credentials.parse_public(case["input"])
            facts = {}
        else:
            whole = credentials.parse(case["input"])
            public = whole.public
            facts = {"facts": json.loads(msgspec.json.encode(whole.facts))}
    except credentials.MalformedCredential:
        return {"expect": None}
    payload = _payload(public.payload, public.facts_sha256)
    return {"expect": {"payload": payload, **facts, "signed": public.is_signed_by(SERVER.public)}}


def test_every_vector_gives_its_result() -> None:
    assert mismatches("credentials.json", _outcome) == {}


def test_an_issued_credential_is_read_as_it_was_issued() -> None:
    found = credentials.parse(TEXT)
    assert (found.payload, found.facts) == (PAYLOAD, FACTS)
    assert found.is_signed_by(SERVER.public)
    public = credentials.parse_public(credentials.public_part(TEXT))
    assert public == found.public
    assert public.text.count(".") == 2


def test_two_credentials_with_the_same_facts_have_no_public_hash_in_common() -> None:
    """Serials identify a device: its votes on two servers must not."""
    hashes = {
        credentials.parse(credentials.issue(PAYLOAD, FACTS, SERVER.sign, salt=bytes([n]) * 16)).public.facts_sha256
        for n in range(3)
    }
    assert len(hashes) == 3
    with pytest.raises(ValueError, match="16 bytes"):
        credentials.issue(PAYLOAD, FACTS, SERVER.sign, salt=b"")


def test_the_issued_text_is_that_of_the_vector() -> None:
    case = next(case for case in cases("credentials.json") if case["name"] == "Android")
    found = credentials.parse(case["input"])
    assert credentials.issue(found.payload, found.facts, SERVER.sign, salt=SALT) == case["input"]


def test_an_absent_fact_is_left_out() -> None:
    text = credentials.issue(PAYLOAD, credentials.Facts(), SERVER.sign, salt=SALT)
    assert decode_base64url(text.rpartition(".")[2]) == b'{"salt":"AAECAwQFBgcICQoLDA0ODw"}'
    assert b"false" in (decode_base64url(TEXT.rpartition(".")[2]) or b"")


def test_the_public_part_and_every_repr_hide_the_facts() -> None:
    found = credentials.parse(TEXT)
    facts = TEXT.rpartition(".")[2]
    assert facts not in credentials.public_part(TEXT)
    assert facts not in repr(found)
    assert "202604" not in repr(found)


def test_a_credential_with_the_longest_facts_is_accepted_by_its_parser() -> None:
    """Ten certificates with serials of 20 bytes, the longest name of a package, and every other fact."""
    facts = credentials.Facts(
        patch=202604,
        boot="self_signed",
        boot_key="f" * 64,
        user_auth=True,
        environment="development",
        category=2**32 - 1,
        firmware=(255, 255, 255),
        app_attest_key="A" * 44,
        counter=2**32 - 1,
        serials=("f" * 40,) * 10,
        first_serials=("f" * 40,) * 10,
    )
    payload = msgspec.structs.replace(PAYLOAD, app="a" * 255 + ":" + "f" * 64)
    text = credentials.issue(payload, facts, SERVER.sign, salt=SALT)
    assert credentials.parse(text).facts == facts
    assert len(text) < MAX_CREDENTIAL / 1.5


@given(st.integers(0, len(TEXT)), st.integers(0, 4), st.text(max_size=4))
def test_no_changed_credential_is_accepted(at: int, cut: int, put: str) -> None:
    text = TEXT[:at] + put + TEXT[at + cut :]
    try:
        found = credentials.parse(text)
    except credentials.MalformedCredential:
        return
    assert text == TEXT or not found.is_signed_by(SERVER.public)


@given(st.integers(0, 2), st.integers(0, 10_000), st.integers(0, 3), st.binary(max_size=3))
def test_no_changed_part_is_accepted(part: int, at: int, cut: int, put: bytes) -> None:
    """Past the outer encoding: the bytes of payload, signature and facts."""
    prefix, *encoded = TEXT.split(".")
    parts = [decode_base64url(text) or b"" for text in encoded]
    at %= len(parts[part]) + 1
    parts[part] = parts[part][:at] + put + parts[part][at + cut :]
    text = ".".join([prefix, *map(encode_base64url, parts)])
    try:
        found = credentials.parse(text)
    except credentials.MalformedCredential:
        return
    assert text == TEXT or not found.is_signed_by(SERVER.public)


_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*credentials.Facts.__struct_fields__, "zone"]), _values, max_size=4))
def test_signed_facts_of_any_form_are_read_or_malformed(facts: Case) -> None:
    """A server of another version may sign what this one does not know."""
    try:
        text = canonical(facts)
    except ValueError:
        return
    issued = credentials.issue(PAYLOAD, credentials.Facts(), SERVER.sign, salt=SALT)
    payload = json.loads(decode_base64url(issued.split(".")[1]) or b"")
    payload["facts_sha256"] = hashlib.sha256(text).hexdigest()
    parts = canonical(payload), bytes(64), text
    try:
        found = credentials.parse(".".join([credentials.PREFIX, *map(encode_base64url, parts)]))
    except credentials.MalformedCredential:
        return
    assert all(getattr(found.facts, name) == _tuples(facts[name]) for name in facts if name != "zone" and facts[name])


def _tuples(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


@pytest.mark.parametrize("text", ["." * 4096, "sdc1." + "A" * 4091, "sdc1" + ".A" * 2000, "a" * 10_000_000])
def test_a_long_text_is_malformed_at_once(text: str) -> None:
    with pytest.raises(credentials.MalformedCredential):
        credentials.parse(text)


@pytest.mark.parametrize("nested", ["[" * 1100 + "]" * 1100, "[" * 400 + "]" * 400, '{"a":' * 350 + "1" + "}" * 350])
def test_facts_that_nest_deep_are_malformed_or_ignored(nested: str) -> None:
    facts = f'{{"zone":{nested}}}'.encode()
    payload = json.loads(decode_base64url(TEXT.split(".")[1]) or b"")
    payload["facts_sha256"] = hashlib.sha256(facts).hexdigest()
    text = ".".join([credentials.PREFIX, *map(encode_base64url, (canonical(payload), bytes(64), facts))])
    assert len(text) <= MAX_CREDENTIAL
    with contextlib.suppress(credentials.MalformedCredential):
        assert credentials.parse(text).facts == credentials.Facts()
