"""The signed bytes (docs/protocol.md, 2.4): their vectors, and that no use can replace another."""

from __future__ import annotations

import base64
import hashlib
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from sigil.protocol import signed_bytes
from sigil.protocol.encoding.canonical import NotCanonical, canonical
from sigil.protocol.encoding.text import parse_time
from sigil.protocol.keys import SUITES, PrivateKey, PublicKey, Suite

from .vectors import Case, cases, each_case

SECRETS: Mapping[Suite, bytes] = {
    "ES256": bytes.fromhex("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721"),
    "ES256K": bytes.fromhex("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721"),
    "Ed25519": bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"),
}
USES = [case["name"] for case in cases("signed_bytes.json")]
# Tags of hashes, which no key signs.
HASHED = {
    b"SIGIL-CHALLENGE-BIND-V1\0",
    b"SIGIL-ENROL-TOKEN-V1\0",
    b"SIGIL-ENROL-COMMIT-V1\0",
    b"SIGIL-ENROL-SAS-V1\0",
    b"SIGIL-ATTEST-V1\0",
}
RAW = {"challenge", "nonce", "body", "digest", "payload"}  # members that the file gives as hex


def _message(case: Case) -> bytes:
    given: dict[str, Any] = dict(case["input"])
    for name in RAW & given.keys():
        if (case["name"], name) != ("relay_request", "nonce"):
            given[name] = bytes.fromhex(given[name])
    for name in {"action_jcs", "offer_jcs", "attestation_jcs"} & given.keys():
        given[name] = given[name].encode()
    author: Callable[..., bytes] = getattr(signed_bytes, case["name"])
    return author(**given)


def _bind(given: Case) -> bytes:
    return signed_bytes.challenge_bytes(
        **given
        | {
            "expires_at": parse_time(given["expires_at"], "$"),
            "nonce": base64.b64decode(given["nonce"]),
            "respond_to": given["respond_to"] or None,
        }
    )


@each_case("signed_bytes.json")
def test_each_use_has_its_signed_bytes(case: Case) -> None:
    assert _message(case).hex() == case["expect"]["message"]


@each_case("signed_bytes.json")
@pytest.mark.parametrize("suite", SUITES)
def test_each_signature_matches_an_independent_computation(case: Case, suite: Suite) -> None:
    key = PrivateKey.load(suite, SECRETS[suite])
    assert key.sign(_message(case)).hex() == case["expect"][suite]
    assert key.public.verify(_message(case), bytes.fromhex(case["expect"][suite]))


@pytest.mark.parametrize("suite", SUITES)
def test_no_signature_of_one_use_verifies_under_another(suite: Suite) -> None:
    public = PrivateKey.load(suite, SECRETS[suite]).public
    all_cases = cases("signed_bytes.json")
    verified = [
        (signed["name"], read["name"])
        for signed, read in itertools.product(all_cases, repeat=2)
        if public.verify(_message(read), bytes.fromhex(signed["expect"][suite]))
    ]
    assert verified == [(use, use) for use in USES]


def test_the_vectors_cover_every_use_there_is() -> None:
    tags = {value for name, value in vars(signed_bytes).items() if name.isupper() and isinstance(value, bytes)}
    covered = {_message(case).split(b"\0")[0] + b"\0" for case in cases("signed_bytes.json")}
    assert covered == tags - HASHED
    assert len(covered) == 16


def test_no_tag_begins_another_and_each_ends_in_its_only_zero_byte() -> None:
    tags = [value for name, value in vars(signed_bytes).items() if name.isupper() and isinstance(value, bytes)]
    assert len(tags) == 21
    assert [tag for tag in tags if tag.count(b"\0") != 1 or not tag.endswith(b"\0")] == []
    assert [pair for pair in itertools.permutations(tags, 2) if pair[0].startswith(pair[1])] == []


def test_a_match_code_binds_the_approval_to_itself() -> None:
    challenge, jcs = bytes(32), b"{}"
    messages = [signed_bytes.matched_approval(challenge, jcs, f"{code:02}") for code in range(100)]
    messages += [signed_bytes.approval(challenge, jcs), signed_bytes.rejection(challenge, jcs)]
    assert len(set(messages)) == 102
    key = PrivateKey.load("ES256", SECRETS["ES256"])
    signature = key.sign(signed_bytes.matched_approval(challenge, jcs, "07"))
    assert [i for i, message in enumerate(messages) if key.public.verify(message, signature)] == [7]


def test_an_approval_depends_on_the_challenge_and_on_the_action() -> None:
    for author in (signed_bytes.approval, signed_bytes.rejection):
        assert len({author(bytes(32), b"{}"), author(b"\1" * 32, b"{}"), author(bytes(32), b"[]")}) == 3


@each_case("bindings.json")
def test_challenge_bytes_are_as_computed_independently(case: Case) -> None:
    assert _bind(case["input"]).hex() == case["expect"]


def test_challenge_bytes_change_with_every_bound_member() -> None:
    bound = [_bind(case["input"]) for case in cases("bindings.json")]
    changed = set().union(*(case["input"].items() for case in cases("bindings.json")))
    assert len(set(bound)) == len(bound) == 8
    assert {name for name, _ in changed} == set(cases("bindings.json")[0]["input"])
    assert all(len(value) == 32 for value in bound)


def test_a_missing_respond_to_is_bound_as_the_empty_string() -> None:
    given = cases("bindings.json")[0]["input"]
    whole = given | {"expires_at": 0, "nonce": bytes(32)}
    without, empty = (signed_bytes.challenge_bytes(**whole | {"respond_to": value}) for value in (None, ""))
    assert without == empty


def test_the_vector_of_the_protocol_document_holds() -> None:
    """Its action has a member that no request can have: the vector is for this function only."""
    challenge = bytes.fromhex("0123456789abcdef") * 4
    action = {"type": "engine_login", "description": "Sign in to Engine Management", "user_id": "alice"}
    jcs = canonical(action)
    assert hashlib.sha256(jcs).hexdigest() == "ae4c8d04ee09905ce0fbf5dd11c8733e92508ab00301b19d8e9da8f28b49b620"
    key = PrivateKey.load("ES256", SECRETS["ES256"])
    assert key.sign(signed_bytes.approval(challenge, jcs)).hex() == (
        "1500ac510b6b2cd7ed7400542d10ecf500a36e6f402b2f122afc15b8988e27c0"
        "3a10c9d47aebcda59893507d3ad5bb75dd0fe5b94cecbbbb27c2522847cb1f02"
    )


def test_groups_are_sorted_within_and_keep_their_order() -> None:
    a, b, c = "a" * 64, "b" * 64, "c" * 64
    of = signed_bytes.groups_sha256
    assert of([[b, a], [c]]) == of([[a, b], [c]]) == of(((a, b), (c,)))
    assert (
        len({of(groups) for groups in ([[a, b], [c]], [[c], [a, b]], [[a], [b, c]], [[a, b, c]], [[a], [b], [c]])}) == 5
    )
    given = [[b, a]]
    of(given)
    assert given == [[b, a]]


def test_a_context_without_canonical_form_is_never_signed() -> None:
    for value in (1.5, 2**53, "\ud800", b"x", {1: 2}):
        for author in (signed_bytes.mpa_approval, signed_bytes.mpa_rejection):
            with pytest.raises(NotCanonical):
                author({"x": value})


def test_the_public_keys_of_the_vectors_are_those_of_their_secrets() -> None:
    given = next(case for case in cases("signed_bytes.json") if case["name"] == "server_keys")["input"]
    for suite, text in given["server_public_keys"].items():
        assert PublicKey.parse(base64.b64decode(text)) == PrivateKey.load(suite, SECRETS[suite]).public
