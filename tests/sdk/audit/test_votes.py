"""Only signatures prove votes; every vector names the failure that it expects."""

from __future__ import annotations

import json
import pickle
from typing import Any

import msgspec
import pytest

from sigil.sdk import AsyncMpa, ConfigurationError, Mpa, MpaStatus, SigilError, VotesRefused, verify_votes
from tests.protocol.vectors import cases, each_case

GOOD = cases("votes.json")[0]["input"]


def outcome(given: dict[str, Any], status: Any) -> Any:
    options = {name: value for name, value in given.items() if name != "status"}
    try:
        verified = verify_votes(status, **options)
    except VotesRefused as refused:
        return refused.code
    proved = {"status": verified.status, "groups_satisfied": list(verified.groups_satisfied)}
    web = {name: facts and msgspec.to_builtins(facts) for name, facts in verified.user_verifications.items()}
    return proved | ({"user_verifications": web} if web else {})


@each_case("votes.json")
def test_the_votes_prove_the_result_of_the_vector(case: dict[str, Any]) -> None:
    given = case["input"]
    assert outcome(given, given["status"]) == case["expect"]
    assert outcome(given, json.dumps(given["status"])) == case["expect"]
    assert outcome(given, json.dumps(given["status"]).encode()) == case["expect"]


def test_every_failure_has_a_vector() -> None:
    expected = {case["expect"] for case in cases("votes.json") if isinstance(case["expect"], str)}
    assert expected == {kind.default_code for kind in VotesRefused.__subclasses__()}


def test_a_result_of_the_sdk_can_be_verified_directly() -> None:
    status = msgspec.convert(GOOD["status"], MpaStatus)
    verified = verify_votes(status, server_id=GOOD["server_id"], required=2)
    assert verified.approved
    assert verified.action.params == {"requested_by": verified.approved_by[0]}
    assert Mpa.verify_votes is AsyncMpa.verify_votes is verify_votes
    with pytest.raises(TypeError, match="approved"):
        bool(verified)


def test_a_removed_vote_is_not_noticed_while_the_quorum_holds() -> None:
    """The limit that the documentation names: no signature covers the list of votes."""
    unnoticed = []
    for case in cases("votes.json"):
        given, status = case["input"], case["input"]["status"]
        if isinstance(case["expect"], str) or case["expect"]["status"] != "approved":
            continue
        for removed in status["votes"]:
            found = outcome(given, status | {"votes": [vote for vote in status["votes"] if vote is not removed]})
            if found != "OUTCOME_CONTRADICTED":
                assert found | {"user_verifications": None} == case["expect"] | {"user_verifications": None}
                unnoticed.append(removed["decision"])
    assert "rejected" in unnoticed
    assert verify_votes.__doc__
    assert "removed while the quorum holds" in verify_votes.__doc__


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b'"x"',
        b"[" * 5000,
        json.dumps(GOOD["status"])[:-1].encode() + b',"status":"rejected"}',
    ],
)
def test_a_malformed_or_ambiguous_status_proves_nothing(text: bytes) -> None:
    with pytest.raises(VotesRefused) as refused:
        verify_votes(text, server_id=GOOD["server_id"], required=2)
    assert refused.value.code == "STATUS_MALFORMED"
    assert isinstance(refused.value, SigilError)
    assert pickle.loads(pickle.dumps(refused.value)).args == refused.value.args  # noqa: S301


@pytest.mark.parametrize("name", list(GOOD["status"]))
def test_no_member_can_be_of_another_type_or_missing(name: str) -> None:
    for wrong in (None, 1.5, [], {}, "x", [None], "\u0000"):
        status = GOOD["status"] | {name: wrong}
        if status == GOOD["status"]:
            continue
        with pytest.raises(VotesRefused):
            verify_votes(status, server_id=GOOD["server_id"], required=2)


def test_members_of_a_later_server_are_ignored() -> None:
    assert outcome(GOOD, GOOD["status"] | {"later": 1}) == {"status": "approved", "groups_satisfied": [0, 1]}


def test_the_levels_of_attested_voters_are_part_of_the_result() -> None:
    case = next(case for case in cases("votes.json") if case["name"] == "both are attested")["input"]
    verified = verify_votes(case["status"], server_id=case["server_id"], required=2)
    assert [verified.levels[name] for name in verified.approved_by] == ["hardware", "secure_element"]
    assert "sdc1" not in repr(msgspec.convert(case["status"], MpaStatus))
    assert verify_votes(GOOD["status"], server_id=GOOD["server_id"], required=2).levels == {}


def test_an_unknown_level_is_no_level() -> None:
    with pytest.raises(ConfigurationError, match="min_level"):
        verify_votes(GOOD["status"], server_id=GOOD["server_id"], required=2, min_level="high")  # type: ignore[arg-type]
