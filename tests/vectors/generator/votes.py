"""Statuses of approval requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from . import Case, b64, jcs, sha256
from .credentials import _joined, _payload, _signed
from .curves import CURVES, P256, SECP256K1, SECRET, ed_public, ed_sign, rs
from .signed import SERVER_ID
from .webauthn import BE, HOST, UP, UV, authenticator_data, client_data, local_of, whole, wire_of

# --- Votes on a multi-party request ---

MPA, MPA_REJECT = b"SIGIL-MPA-V1\0", b"SIGIL-MPA-REJECT-V1\0"
Signer = Callable[[bytes], bytes]


def _voter(number: int) -> tuple[bytes, Signer]:
    """Public key and signature of a test device; the suites take turns."""
    secret = int.from_bytes(sha256(b"voter" + bytes([number])), "big") % (SECP256K1.n - 1) + 1
    if number % 3 == 2:
        seed = sha256(b"voter" + bytes([number]))
        return ed_public(seed), lambda message: ed_sign(seed, message)
    curve = CURVES[number % 3]
    secret %= curve.n
    return curve.public(secret), lambda message: rs(*curve.sign(secret, message))


def _web(message: bytes, flags: int = UP | UV, **members: Any) -> bytes:
    """A web device's signature: its local key rejects alone, both keys approve."""
    signed = message + sha256(wire_of())
    if message.startswith(MPA_REJECT):
        return local_of(signed)
    return whole(signed, authenticator_data(HOST, flags), client_data(signed, **members))


VOTERS = [
    *(_voter(number) for number in range(6)),
    (P256.public(SECRET), lambda message: rs(*P256.sign(SECRET, message))),
    (wire_of(), _web),
    (wire_of(local=SECRET), _web),
    (wire_of(assertion=SECRET), _web),
]
WEB = 7
NAMES = [sha256(wire).hex() for wire, _ in VOTERS]
GROUPS = [[0, 1], [2, 3], [4]]
"""Numbers of voters: five devices in three groups. The sixth is no member, the seventh the server itself, the eighth a
web device; the last two have the server's key as a half.
"""


def _poll(groups: list[list[int]] = GROUPS, **context: Any) -> Case:
    """The status of a request before anybody voted, signed by the server."""
    members = [[NAMES[voter] for voter in group] for group in groups]
    signed_context = {
        "type": "deploy",
        "description": "Zoë deploys €",
        "params": {"requested_by": NAMES[0]},
        "mpa_id": "550e8400-e29b-41d4-a716-446655440000",
        "request_id": "release-7",
        "nonce": b64(bytes(range(32))),
        "server_id": SERVER_ID,
        "expires_at": "2026-04-24T10:37:15Z",
        "respond_to": "",
        "required": 2,
        "reject_policy": "continue",
        "groups_sha256": sha256(jcs([sorted(group) for group in members])).hex(),
        **context,
    }
    return {
        "request_id": signed_context["request_id"],
        "mpa_id": signed_context["mpa_id"],
        "status": "pending",
        "groups_satisfied": [],
        "groups_required": signed_context["required"],
        "groups_total": len(groups),
        "expires_at": signed_context["expires_at"],
        "action_context": signed_context,
        "server_signature": b64(rs(*P256.sign(SECRET, MPA + jcs(signed_context)))),
        "server_public_key": b64(P256.public(SECRET)),
        "groups": [
            {"members": [{"device_public_key": b64(VOTERS[voter][0]), "fingerprint": NAMES[voter]} for voter in group]}
            for group in groups
        ],
        "votes": [],
    }


def _vote(poll: Case, voter: int, decision: str = "approved", **changes: Any) -> Case:
    wire, sign = VOTERS[voter]
    tag = MPA if decision == "approved" else MPA_REJECT
    return {
        "fingerprint": NAMES[voter],
        "device_public_key": b64(wire),
        "group": next((n for n, group in enumerate(GROUPS) if voter in group), 0),
        "decision": decision,
        "at": "2026-04-24T10:33:00Z",
        "signature": b64(sign(tag + jcs(poll["action_context"]))),
    } | changes


# 5 minutes after the vote, and a second more.
AHEAD, LATER = "2026-04-24T10:38:00Z", "2026-04-24T10:38:01Z"


def _attested(vote: Case, text: str | None = None, secret: int = SECRET, **changes: Any) -> Case:
    """The vote with its device's credential; `changes` are of the payload, which `secret` signs."""
    times = {"attested_at": "2026-04-20T08:00:00Z", "issued_at": "2026-04-21T08:00:00Z"}
    payload = _payload(**{"fingerprint": vote["fingerprint"], **times, **changes})
    whole = _joined(jcs(payload), _signed(jcs(payload), secret))
    attestation = {name: payload[name] for name in ("kind", "level", "binding", "attested_at")}
    return vote | {"device_credential": text or whole.rpartition(".")[0], "attestation": attestation}


def _attestations(good: Case) -> Iterator[tuple[str, Case, Any, Case]]:
    """Names, statuses, expectations and options."""
    proved = {"status": "approved", "groups_satisfied": [0, 1]}
    first, second = good["votes"]

    def votes(*given: Case) -> Case:
        return good | {"votes": list(given)}

    both = votes(_attested(first), _attested(second, level="secure_element"))
    yield "both are attested", both, proved, {}
    yield "both are attested, as required", both, proved, {"require_attestation": True}
    yield "both have the least level", both, proved, {"min_level": "hardware"}
    yield "one has less than the least level", both, "LEVEL_TOO_LOW", {"min_level": "secure_element"}
    emulator = votes(_attested(first, level="emulator"), _attested(second))
    yield "an emulator, where none is excluded", emulator, proved, {"require_attestation": True}
    yield "an emulator, where hardware is required", emulator, "LEVEL_TOO_LOW", {"min_level": "hardware"}
    one = votes(_attested(first), second)
    yield "one is attested, and none need be", one, proved, {}
    yield "one is not attested", one, "ATTESTATION_MISSING", {"require_attestation": True}
    yield "one is not attested, and has no level", one, "ATTESTATION_MISSING", {"min_level": "emulator"}
    rejected = votes(_attested(first), _attested(second), _vote(good, 4, "rejected"))
    yield "a rejection needs no attestation", rejected, proved, {"min_level": "hardware"}
    low = votes(_attested(first), _attested(second), _attested(_vote(good, 4, "rejected"), level="emulator"))
    yield "a rejection needs no level", low, proved, {"min_level": "hardware"}
    lying = votes(_attested(first), _attested(second), _attested(_vote(good, 4, "rejected"), secret=13))
    yield "a rejection with a forged credential", lying, "CREDENTIAL_INVALID", {}

    foreign, text = {"server_id": "0" * 64}, _attested(second)["device_credential"]
    refused = {
        "another server signed a credential": (_attested(second, secret=13), "CREDENTIAL_INVALID"),
        "a credential of another server": (_attested(second, **foreign), "CREDENTIAL_INVALID"),
        "a credential of another server, by its key": (_attested(second, secret=13, **foreign), "CREDENTIAL_INVALID"),
        "a credential with its facts": (_attested(second, f"{text}.e30"), "CREDENTIAL_INVALID"),
        "a credential cut short": (_attested(second, text[:-1]), "CREDENTIAL_INVALID"),
        "a credential of another version": (_attested(second, v=2), "CREDENTIAL_INVALID"),
        "the other device's credential": (_attested(second, fingerprint=NAMES[0]), "CREDENTIAL_MISMATCH"),
        "a credential that expires at the vote": (_attested(second, expires_at=second["at"]), "CREDENTIAL_EXPIRED"),
        "a credential that expires a second later": (_attested(second, expires_at="2026-04-24T10:33:01Z"), proved),
        "a credential issued when the clock was 5 minutes ahead": (_attested(second, issued_at=AHEAD), proved),
        "a credential issued later than that": (_attested(second, issued_at=LATER), "CREDENTIAL_MISMATCH"),
        # `at` is not signed, the end of the request is.
        "a credential issued after the request, and its vote's time": (
            _attested(second | {"at": "2026-04-26T00:00:00Z"}, issued_at="2026-04-25T00:00:00Z"), "CREDENTIAL_MISMATCH",
        ),
        "a credential without its attestation": (_attested(second) | {"attestation": None}, "ATTESTATION_CONTRADICTED"),
        "an attestation without its credential": (
            _attested(second) | {"device_credential": None}, "ATTESTATION_CONTRADICTED",
        ),
    }  # fmt: skip
    for member, value in {
        "kind": "yubikey-piv",
        "level": "secure_element",
        "binding": "witness",
        "attested_at": "2026-04-20T08:00:01Z",
    }.items():
        vote = _attested(second)
        vote["attestation"] = vote["attestation"] | {member: value}
        refused[f"another {member} than in the credential"] = (vote, "ATTESTATION_CONTRADICTED")
    for name, (vote, expect) in refused.items():
        # Verified also where the caller requires none.
        yield name, votes(first, vote), expect, {}


def _web_votes(counted: Callable[..., Case]) -> Iterator[tuple[str, Case, Any, Case]]:
    """Names, statuses, expectations and options. The web device is in the first group."""
    poll = _poll([[WEB, 1], [2, 3], [4]])
    on_first = _poll([[WEB, 1], [2, 3], [4]], reject_policy="reject_on_first")
    proved = {"status": "approved", "groups_satisfied": [0, 1]}

    def facts(*, synced: bool) -> Case:
        return {"user_verifications": {NAMES[WEB]: {"origin": "https://sigil.example.com", "synced": synced}}}

    refuse, unproved = {"web_votes": "refuse"}, {"user_verifications": {NAMES[WEB]: None}}
    approved = counted("approved", [WEB, 2], [], poll)
    user = facts(synced=False)
    yield "a web device approves", approved, proved | user, {}
    yield "a web device approves, and web votes are counted", approved, proved | user, {"web_votes": "count"}
    yield "a web device approves, and web votes are refused", approved, "WEB_VOTE", refuse
    yield "no web device votes, and web votes are refused", counted("approved", [1, 2], [], poll), proved, refuse
    rejected = counted("approved", [1, 2], [WEB], poll)
    yield "a web device rejects, and is outvoted", rejected, proved | unproved, {}
    yield "a web device rejects, and web votes are refused", rejected, "WEB_VOTE", refuse
    veto = counted("rejected", [2], [WEB], on_first)
    yield "a web device's first rejection ends it", veto, {"status": "rejected", "groups_satisfied": [1]} | unproved, {}

    message, reject = MPA + jcs(poll["action_context"]), MPA_REJECT + jcs(poll["action_context"])

    def signed(signature: bytes, decision: str = "approved", **changes: Any) -> Case:
        vote = _vote(poll, WEB, decision) | {"group": 0, "signature": b64(signature)} | changes
        return approved | {"votes": [vote, approved["votes"][1]]}

    synced = signed(_web(message, UP | UV | BE))
    yield "a web device with a synced passkey approves", synced, proved | facts(synced=True), {}
    for name, signature in {
        "without user verification": _web(message, UP),
        "without user presence": _web(message, UV),
        "on another port": _web(message, origin="https://sigil.example.com:8443"),
        "framed by another origin": _web(message, crossOrigin=True),
        "with its local key alone": local_of(message + sha256(wire_of())),
        "with the signature of its rejection": _web(reject),
        "as a plain key would": local_of(message),
    }.items():
        yield f"a web device approves {name}", signed(signature), "VOTE_SIGNATURE_INVALID", {}
    forged = signed(_web(message), "rejected")
    yield "a web device's approval reported as a rejection", forged, "VOTE_SIGNATURE_INVALID", {}
    stated = {"user_verification": True, "synced": False}
    yield "a web vote states what it proves", signed(_web(message), **stated), proved | facts(synced=False), {}
    for name, change in {"user_verification": False, "synced": True}.items():
        lying = signed(_web(message), **{**stated, name: change})
        yield f"a web vote states another {name}", lying, "USER_VERIFICATION_CONTRADICTED", {}
    plain = counted("approved", [0, 2], [])
    claimed = plain | {"votes": [plain["votes"][0] | {"user_verification": True}, plain["votes"][1]]}
    yield "a plain key's vote states user verification", claimed, "USER_VERIFICATION_CONTRADICTED", {}
    for number, half in ((WEB + 1, "local"), (WEB + 2, "assertion")):
        by_server = counted("pending", [2], [], _poll([[number], [2, 3], [4]]))
        yield f"the server's key is the {half} half of a member", by_server, "GROUPS_MISMATCH", {}


def votes() -> list[Case]:
    cases: list[Case] = []

    def case(name: str, status: Case, expect: Any, **options: Any) -> None:
        given = {"status": status, "server_id": SERVER_ID, "required": 2, **options}
        cases.append({"name": name, "input": given, "expect": expect})

    def counted(status: str, yes: list[int], no: list[int], poll: Case | None = None, **changes: Any) -> Case:
        """A request with these votes, and the groups that they satisfy."""
        base = _poll() if poll is None else poll
        given = [_vote(base, voter) for voter in yes] + [_vote(base, voter, "rejected") for voter in no]
        satisfied = sorted({vote["group"] for vote in given if vote["decision"] == "approved"})
        return base | {"status": status, "votes": given, "groups_satisfied": satisfied} | changes

    def proves(status: str, satisfied: list[int]) -> Case:
        return {"status": status, "groups_satisfied": satisfied}

    on_first = _poll(reject_policy="reject_on_first")
    case("two of three groups approve", counted("approved", [0, 2], []), proves("approved", [0, 1]))
    case("two devices of one group count once", counted("pending", [0, 1], []), proves("pending", [0]))
    case("a satisfied group may have a rejection", counted("approved", [0, 4], [1]), proves("approved", [0, 2]))
    case("two groups are lost", counted("rejected", [], [0, 1, 4]), proves("rejected", []))
    case("the first rejection ends it", counted("rejected", [0], [1], on_first), proves("rejected", [0]))
    case("no member answers in time", counted("timeout", [3], []), proves("timeout", [1]))
    case("it is cancelled", counted("cancelled", [3], [4]), proves("cancelled", [1]))
    case("the requester was not eligible", counted("rejected", [], [1, 4]), proves("rejected", []))
    case(
        "the requester does not vote",
        counted("approved", [1, 2], []),
        proves("approved", [0, 1]),
        exclude_requester=True,
    )
    for kind, named in {"a list": [NAMES[0], NAMES[1]], "an object": {"id": 7}, "a number": 7, "a truth": True}.items():
        poll = _poll(params={"requested_by": named})
        case(f"{kind} names the requester", counted("approved", [0, 2], [], poll), proves("approved", [0, 1]))
        case(f"{kind} names the requester, which is no member", counted("approved", [0, 2], [], poll),
             proves("approved", [0, 1]), exclude_requester=True)  # fmt: skip
    case("fewer groups are wanted than were requested", counted("approved", [0, 2], []), proves("approved", [0, 1]),
         required=1)  # fmt: skip

    good = counted("approved", [0, 2], [])
    for member, code in (("votes", "STATUS_MALFORMED"), ("server_signature", "STATUS_MALFORMED")):
        case(f"without {member}", {name: value for name, value in good.items() if name != member}, code)
    case("another server's id", good, "SERVER_KEY_MISMATCH", server_id=NAMES[0])
    case("another key signed", good | {"server_public_key": b64(VOTERS[0][0])}, "SERVER_KEY_MISMATCH")
    for name, change in {
        "another action": {"description": "Zoë deploys $"},
        "other params": {"params": {}},
        "a lower quorum": {"required": 1},
        "another policy": {"reject_policy": "reject_on_first"},
        "another time": {"expires_at": "2026-04-24T10:37:16Z"},
        "other groups": {"groups_sha256": "0" * 64},
        "another nonce": {"nonce": b64(bytes(32))},
        "a member more": {"more": True},
    }.items():
        altered = good | {"action_context": good["action_context"] | change}
        case(f"{name} than was signed", altered, "SERVER_SIGNATURE_INVALID")
    case("a signature of the server under the tag of rejections",
         good | {"server_signature": b64(rs(*P256.sign(SECRET, MPA_REJECT + jcs(good["action_context"]))))},
         "SERVER_SIGNATURE_INVALID")  # fmt: skip
    for name, change in {
        "request_id": {"request_id": "release-8"},
        "mpa_id": {"mpa_id": "550e8400-e29b-41d4-a716-446655440001"},
        "expires_at": {"expires_at": "2026-04-24T10:37:16Z"},
        "groups_required": {"groups_required": 1},
        "groups_total": {"groups_total": 2},
    }.items():
        case(f"another {name} beside the context", good | change, "CONTEXT_CONTRADICTED")
    elsewhere = _poll(server_id="0" * 64)
    case("a context of another server", counted("approved", [0, 2], [], elsewhere), "CONTEXT_CONTRADICTED")

    case("more groups are wanted than were requested", good, "REQUIRED_TOO_LOW", required=3)
    grown = [good["groups"][0], {"members": good["groups"][1]["members"] + _poll([[5]])["groups"][0]["members"]}]
    case("a member was added", good | {"groups": [*grown, good["groups"][2]]}, "GROUPS_MISMATCH")
    case("the groups changed places", good | {"groups": good["groups"][::-1]}, "GROUPS_MISMATCH")
    renamed = {"members": [good["groups"][2]["members"][0] | {"fingerprint": NAMES[5]}]}
    case("a fingerprint of another key", good | {"groups": [*good["groups"][:2], renamed]}, "GROUPS_MISMATCH")
    twice = _poll([[0, 1], [2, 0], [4]])
    case("a device in two groups", counted("approved", [0, 2], [], twice), "GROUPS_MISMATCH")
    by_server = counted("approved", [6, 2], [], _poll([[0, 6], [2, 3], [4]]))
    case("the server itself is a member, and its question a vote", by_server, "GROUPS_MISMATCH")

    stranger = _vote(good, 5)
    case("a stranger's vote", good | {"votes": [good["votes"][0], stranger]}, "NOT_A_MEMBER")
    moved = good["votes"][0] | {"group": 1}
    case("a vote counted in another group", good | {"votes": [moved, good["votes"][1]]}, "NOT_A_MEMBER")
    case("a vote for a group that there is not",
         good | {"votes": [good["votes"][0] | {"group": -1}, good["votes"][1]]}, "NOT_A_MEMBER")  # fmt: skip
    named = good["votes"][0] | {"fingerprint": NAMES[1]}
    case("a vote under another's name", good | {"votes": [named, good["votes"][1]]}, "NOT_A_MEMBER")
    case("a device that votes twice", good | {"votes": [*good["votes"], good["votes"][0]]}, "VOTED_TWICE")
    both = [*good["votes"], _vote(good, 0, "rejected")]
    case("a device that approves and rejects", good | {"votes": both}, "VOTED_TWICE")

    turned = _vote(good, 2, "rejected") | {"decision": "approved"}
    case("a rejection reported as an approval", good | {"votes": [good["votes"][0], turned]}, "VOTE_SIGNATURE_INVALID")
    turned = good["votes"][1] | {"decision": "rejected"}
    case("an approval reported as a rejection", good | {"votes": [good["votes"][0], turned]}, "VOTE_SIGNATURE_INVALID")
    borrowed = _vote(_poll(mpa_id="550e8400-e29b-41d4-a716-446655440001"), 2)
    case("a vote on another request", good | {"votes": [good["votes"][0], borrowed]}, "VOTE_SIGNATURE_INVALID")
    forged = good["votes"][1] | {"signature": good["votes"][0]["signature"]}
    case("another's signature", good | {"votes": [good["votes"][0], forged]}, "VOTE_SIGNATURE_INVALID")

    for name, status, expect, options in _attestations(good):
        case(name, status, expect, **options)

    for name, status, expect, options in _web_votes(counted):
        case(name, status, expect, **options)

    case("the requester voted", good, "REQUESTER_VOTED", exclude_requester=True)
    contradictions = {
        "approved by one group": counted("approved", [0, 1], []),
        "approved by no group": counted("approved", [], []),
        "rejected with enough groups": counted("rejected", [0, 2], []),
        "rejected with enough groups left": counted("rejected", [], [0, 2]),
        "pending with enough groups": counted("pending", [0, 2], []),
        "pending with too few groups left": counted("pending", [], [0, 1, 4]),
        "timed out with enough groups": counted("timeout", [0, 2], []),
        "cancelled with enough groups": counted("cancelled", [0, 2], []),
        "approved after the first rejection": counted("approved", [0, 2], [1], on_first),
        "pending after the first rejection": counted("pending", [0], [1], on_first),
        "two first rejections": counted("rejected", [], [0, 1], on_first),
        "satisfied groups that are not": good | {"groups_satisfied": [0, 1, 2]},
    }
    for name, status in contradictions.items():
        case(name, status, "OUTCOME_CONTRADICTED")
    return cases
