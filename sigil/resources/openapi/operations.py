"""Every operation of the HTTP interface, for its description: one entry each, in the order of docs/protocol.md, 5."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, get_args

from sigil.protocol.messages import approvals as mpa
from sigil.protocol.messages import attestation, enrolment
from sigil.protocol.messages import challenges as messages
from sigil.protocol.messages import first_boot as wizard
from sigil.protocol.messages import server as server_messages
from sigil.resources.openapi.schemas import portable


@dataclass(frozen=True)
class Operation:
    """One method of one path.

    `errors` maps each status to its possible error codes. `text` lists the media types of a 200 that is not JSON. A
    tuple of types is an answer of several forms. `key` requires an API key, `token` a token of the first boot.
    """

    path: str
    method: str
    name: str
    summary: str
    answers: dict[int, Any]
    errors: dict[int, str]
    body: Any = None
    text: tuple[str, ...] = ()
    key: bool = False
    token: bool = False
    parameters: list[dict[str, Any]] = field(default_factory=list)


_TRANSPORT = {413: "PAYLOAD_TOO_LARGE", 415: "UNSUPPORTED_MEDIA_TYPE", 503: "OVERLOADED or NOT_INITIALIZED"}
_OF_WIZARD = {
    400: "INVALID_REQUEST",
    401: "UNAUTHORIZED",
    403: "ORIGIN_REFUSED",
    404: "NOT_FOUND",
    429: "RATE_LIMITED",
    **_TRANSPORT,
}
_CHALLENGE_ID = {"name": "challenge_id", "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}}
_REQUEST_ID = {
    "name": "request_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": portable(mpa.REQUEST_ID)},
}
_ENROLMENT_ID = {"name": "enrolment_id", "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}}
_KNOWN = {
    "name": "known",
    "in": "query",
    "description": "The status that the caller knows: with wait, another one is answered at once.",
    "schema": {"type": "string", "enum": list(get_args(enrolment.EnrolmentState))},
}
_WAIT = {
    "name": "wait",
    "in": "query",
    "description": "Seconds to wait for a final status.",
    "schema": {"type": "integer", "minimum": 0, "maximum": 25, "default": 0},
}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "A retry with the same key and body returns the first answer and creates nothing a second time.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[\\x21-\\x7e]+$"},
}
OPERATIONS = (
    Operation(
        path="/challenge",
        method="post",
        name="createChallenge",
        summary="Create a challenge: a device is prompted to approve an action.",
        body=messages.CreateChallenge,
        answers={201: messages.ChallengeCreated},
        errors={
            400: "INVALID_REQUEST, INVALID_PUBLIC_KEY or FINGERPRINT_MISMATCH",
            401: "UNAUTHORIZED",
            403: "NOT_ELIGIBLE",
            409: "IDEMPOTENCY_CONFLICT",
            429: "TOO_MANY_PENDING or RATE_LIMITED",
            **_TRANSPORT,
        },
        key=True,
        parameters=[_IDEMPOTENCY_KEY],
    ),
    Operation(
        path="/respond",
        method="post",
        name="respond",
        summary="Submit a device's signed answer; the signature authenticates it.",
        body=messages.Respond,
        answers={200: messages.Responded},
        errors={
            400: "INVALID_REQUEST, INVALID_PUBLIC_KEY or FINGERPRINT_MISMATCH",
            401: "INVALID_SIGNATURE",
            403: "NOT_ELIGIBLE, ATTESTATION_REQUIRED or ATTESTATION_INVALID",
            404: "CHALLENGE_NOT_FOUND",
            409: "CHALLENGE_ALREADY_USED",
            410: "CHALLENGE_EXPIRED",
            429: "RATE_LIMITED",
            **_TRANSPORT,
        },
    ),
    Operation(
        path="/v1/auth/challenge/{challenge_id}/status",
        method="get",
        name="getChallengeStatus",
        summary="Get the status of a challenge; wait holds the answer back until the status is final.",
        answers={200: messages.ChallengeStatus},
        errors={400: "INVALID_REQUEST", 401: "UNAUTHORIZED", 404: "CHALLENGE_NOT_FOUND", 503: "OVERLOADED"},
        key=True,
        parameters=[_CHALLENGE_ID, _WAIT],
    ),
    Operation(
        path="/v1/auth/challenge/{challenge_id}",
        method="delete",
        name="cancelChallenge",
        summary="Cancel a pending challenge; a second cancellation is no error.",
        answers={200: messages.ChallengeStatus},
        errors={
            401: "UNAUTHORIZED",
            404: "CHALLENGE_NOT_FOUND",
            409: "CHALLENGE_ALREADY_USED",
            503: "OVERLOADED",
        },
        key=True,
        parameters=[_CHALLENGE_ID],
    ),
    Operation(
        path="/mpa/request",
        method="post",
        name="requestMpa",
        summary="Create an approval request to groups of devices; the required number of groups must approve.",
        body=mpa.CreateMpa,
        answers={200: mpa.MpaCreated, 201: mpa.MpaCreated},
        errors={
            400: "INVALID_REQUEST, INVALID_PUBLIC_KEY or FINGERPRINT_MISMATCH",
            401: "UNAUTHORIZED",
            403: "NOT_ELIGIBLE",
            409: "REQUEST_ID_CONFLICT",
            429: "TOO_MANY_PENDING or RATE_LIMITED",
            **_TRANSPORT,
        },
        key=True,
    ),
    Operation(
        path="/mpa/respond",
        method="post",
        name="respondMpa",
        summary="Submit a member's signed vote; the signature authenticates it.",
        body=mpa.RespondMpa,
        answers={200: mpa.MpaResponded},
        errors={
            400: "INVALID_REQUEST, INVALID_PUBLIC_KEY or FINGERPRINT_MISMATCH",
            401: "INVALID_SIGNATURE",
            403: "NOT_ELIGIBLE, ATTESTATION_REQUIRED or ATTESTATION_INVALID",
            404: "MPA_NOT_FOUND",
            409: "ALREADY_ANSWERED or MPA_CLOSED",
            410: "MPA_EXPIRED",
            429: "RATE_LIMITED",
            **_TRANSPORT,
        },
    ),
    Operation(
        path="/mpa/status/{request_id}",
        method="get",
        name="getMpaStatus",
        summary=(
            "Get the status of an approval request, with every vote and its signature; wait holds the answer back "
            "until the status is final."
        ),
        answers={200: mpa.MpaStatus},
        errors={400: "INVALID_REQUEST", 401: "UNAUTHORIZED", 404: "MPA_NOT_FOUND", 503: "OVERLOADED"},
        key=True,
        parameters=[_REQUEST_ID, _WAIT],
    ),
    Operation(
        path="/mpa/request/{request_id}",
        method="delete",
        name="cancelMpa",
        summary="Cancel a pending approval request; a second cancellation is no error.",
        answers={200: mpa.MpaStatus},
        errors={401: "UNAUTHORIZED", 404: "MPA_NOT_FOUND", 409: "MPA_CLOSED", 503: "OVERLOADED"},
        key=True,
        parameters=[_REQUEST_ID],
    ),
    Operation(
        path="/device/pending",
        method="post",
        name="listPending",
        summary="List the pending challenges and approval requests of a device, in case a push was lost.",
        body=messages.Pending,
        answers={200: messages.PendingList},
        errors={
            400: "INVALID_REQUEST or INVALID_PUBLIC_KEY",
            401: "INVALID_SIGNATURE",
            429: "RATE_LIMITED",
            **_TRANSPORT,
        },
    ),
    Operation(
        path="/enrolment",
        method="post",
        name="beginEnrolment",
        summary="Begin an enrolment: a page shows its uri as a QR code, and the device of a person enrols with it.",
        body=enrolment.BeginEnrolment,
        answers={201: enrolment.EnrolmentBegun},
        errors={
            400: "INVALID_REQUEST or INVALID_PUBLIC_KEY",
            401: "UNAUTHORIZED",
            403: "NOT_ELIGIBLE",
            409: "IDEMPOTENCY_CONFLICT",
            429: "TOO_MANY_PENDING",
            **_TRANSPORT,
        },
        key=True,
        parameters=[_IDEMPOTENCY_KEY],
    ),
    Operation(
        path="/enrolment/claim",
        method="post",
        name="claimEnrolment",
        summary="Claim an enrolment with its token; the first device gets the signed offer.",
        body=enrolment.ClaimEnrolment,
        answers={200: enrolment.EnrolmentOffered},
        errors={
            400: "INVALID_REQUEST",
            404: "ENROLMENT_NOT_FOUND",
            409: "ENROLMENT_CLAIMED or ENROLMENT_CLOSED",
            410: "ENROLMENT_EXPIRED",
            429: "RATE_LIMITED",
            **_TRANSPORT,
        },
    ),
    Operation(
        path="/enrolment/complete",
        method="post",
        name="completeEnrolment",
        summary="Submit the new key of a device; its signature over the offer authenticates it.",
        body=enrolment.CompleteEnrolment,
        answers={200: enrolment.EnrolmentCompleted},
        errors={
            400: "INVALID_REQUEST or INVALID_PUBLIC_KEY",
            401: "INVALID_SIGNATURE",
            403: "NOT_ELIGIBLE, ATTESTATION_REQUIRED or ATTESTATION_INVALID",
            404: "ENROLMENT_NOT_FOUND",
            409: "ENROLMENT_CLAIMED or ENROLMENT_CLOSED",
            410: "ENROLMENT_EXPIRED",
            429: "RATE_LIMITED",
            **_TRANSPORT,
        },
    ),
    Operation(
        path="/enrolment/wait",
        method="post",
        name="waitForEnrolment",
        summary="For the device: get the status of its enrolment, at the latest after wait seconds when it is final.",
        body=enrolment.WaitForEnrolment,
        answers={200: enrolment.EnrolmentWaited},
        errors={
            400: "INVALID_REQUEST",
            404: "ENROLMENT_NOT_FOUND",
            409: "ENROLMENT_CLAIMED",
            429: "RATE_LIMITED",
            **_TRANSPORT,
        },
    ),
    Operation(
        path="/enrolment/{enrolment_id}/confirm",
        method="post",
        name="confirmEnrolment",
        summary="Enrol the device with the code that it shows; the third wrong code ends the enrolment.",
        body=enrolment.ConfirmEnrolment,
        answers={200: enrolment.EnrolmentStatus},
        errors={
            400: "INVALID_REQUEST",
            401: "UNAUTHORIZED",
            403: "WRONG_CODE or NOT_ELIGIBLE",
            404: "ENROLMENT_NOT_FOUND",
            409: "ENROLMENT_CLOSED",
            410: "ENROLMENT_EXPIRED",
            **_TRANSPORT,
        },
        key=True,
        parameters=[_ENROLMENT_ID],
    ),
    Operation(
        path="/enrolment/{enrolment_id}/status",
        method="get",
        name="getEnrolmentStatus",
        summary="Get the status of an enrolment; wait holds the answer back until the status changes.",
        answers={200: enrolment.EnrolmentStatus},
        errors={400: "INVALID_REQUEST", 401: "UNAUTHORIZED", 404: "ENROLMENT_NOT_FOUND", 503: "OVERLOADED"},
        key=True,
        parameters=[_ENROLMENT_ID, _WAIT, _KNOWN],
    ),
    Operation(
        path="/enrolment/{enrolment_id}",
        method="delete",
        name="cancelEnrolment",
        summary="Cancel an open enrolment; a second cancellation is no error.",
        answers={200: enrolment.EnrolmentStatus},
        errors={401: "UNAUTHORIZED", 404: "ENROLMENT_NOT_FOUND", 409: "ENROLMENT_CLOSED", 503: "OVERLOADED"},
        key=True,
        parameters=[_ENROLMENT_ID],
    ),
    Operation(
        path="/device/attest/challenge",
        method="get",
        name="getAttestChallenge",
        summary="Get a nonce for an attestation, valid for 5 minutes; absent where no kind is accepted.",
        answers={200: attestation.AttestChallenge},
        errors={404: "NOT_FOUND", 429: "RATE_LIMITED"},
    ),
    Operation(
        path="/device/attest",
        method="post",
        name="attestDevice",
        summary="Attest a device's key, or renew its credential; absent where no kind is accepted.",
        body=attestation.AttestDevice,
        answers={200: attestation.DeviceAttested},
        errors={
            400: "INVALID_REQUEST or INVALID_PUBLIC_KEY",
            401: "INVALID_SIGNATURE",
            403: "NOT_ELIGIBLE or ATTESTATION_INVALID",
            404: "NOT_FOUND",
            429: "RATE_LIMITED",
            **_TRANSPORT,
        },
    ),
    Operation(
        path="/health",
        method="get",
        name="getHealth",
        summary="Get the health of the server.",
        answers={200: server_messages.Health, 503: server_messages.Health},
        errors={},
    ),
    Operation(
        path="/info",
        method="get",
        name="getInfo",
        summary="Get the identity of the server, which devices pin.",
        answers={200: (server_messages.Info, wizard.InfoBeforeInit)},
        errors={429: "RATE_LIMITED"},
    ),
    Operation(
        path="/openapi.json",
        method="get",
        name="getOpenApi",
        summary="Get this description.",
        answers={200: dict[str, Any]},
        errors={429: "RATE_LIMITED"},
    ),
    Operation(
        path="/init/state",
        method="get",
        name="getInitState",
        summary="In init mode: get what the wizard needs to know first.",
        answers={200: wizard.InitState},
        errors={403: "ORIGIN_REFUSED", 404: "NOT_FOUND", 429: "RATE_LIMITED"},
    ),
    Operation(
        path="/init/words",
        method="post",
        name="makeWords",
        summary="In init mode: generate a mnemonic of 24 words; the server keeps none of them.",
        body=wizard.Nothing,
        answers={200: wizard.NewWords},
        errors={**_OF_WIZARD},
        token=True,
    ),
    Operation(
        path="/init/check",
        method="post",
        name="checkWords",
        summary="In init mode: derive the identity of a mnemonic, or report what is wrong with it.",
        body=wizard.GivenWords,
        answers={200: wizard.Checked},
        errors={**_OF_WIZARD, 409: "IDENTITY_MISMATCH"},
        token=True,
    ),
    Operation(
        path="/init/commit",
        method="post",
        name="commitWords",
        summary="In init mode: set up the server with the identity of a mnemonic; it succeeds once and ends init mode.",
        body=wizard.GivenWords,
        answers={201: wizard.Initialized},
        errors={**_OF_WIZARD, 409: "ALREADY_INITIALIZED or IDENTITY_MISMATCH"},
        token=True,
    ),
    Operation(
        path="/init/api-keys",
        method="post",
        name="makeFirstKeys",
        summary="Issue an API key, with the session token of the commit, for half an hour after it.",
        body=wizard.Nothing,
        answers={201: wizard.IssuedKey},
        errors={**_OF_WIZARD},
        token=True,
    ),
    Operation(
        path="/init/first-challenge",
        method="get",
        name="getFirstChallenge",
        summary="Learn whether the server has got its first challenge, with the session token of the commit.",
        answers={200: wizard.FirstChallenge},
        errors={
            401: "UNAUTHORIZED",
            403: "ORIGIN_REFUSED",
            404: "NOT_FOUND",
            429: "RATE_LIMITED",
            503: "NOT_INITIALIZED or OVERLOADED",
        },
        token=True,
    ),
    Operation(
        path="/metrics",
        method="get",
        name="getMetrics",
        summary="Get Prometheus metrics; absent with SIGIL_TELEMETRY=none. METRICS_TOKEN, if set, is the bearer token.",
        answers={},
        text=("text/plain", "application/openmetrics-text"),
        errors={401: "UNAUTHORIZED", 404: "NOT_FOUND", 429: "RATE_LIMITED"},
    ),
)
