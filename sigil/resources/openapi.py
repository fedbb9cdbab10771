"""The OpenAPI 3.1 description of the HTTP interface, made from the message types; served at `/openapi.json`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import falcon
import msgspec
from falcon.asgi import Request, Response

from sigil.protocol import messages
from sigil.serving.strangers import Strangers


@dataclass(frozen=True)
class _Operation:
    """One method of one path. `errors` maps statuses to the codes that they may carry; `text` are the media types of a
    200 that is not JSON. With `key` it asks for an API key, with `token` for a token of the first boot.
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
_WAIT = {
    "name": "wait",
    "in": "query",
    "description": "Seconds to wait for a final status.",
    "schema": {"type": "integer", "minimum": 0, "maximum": 25, "default": 0},
}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "A retry with the same key and body gets the first answer, and makes no second challenge.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[\\x21-\\x7e]+$"},
}
_OPERATIONS = (
    _Operation(
        path="/challenge",
        method="post",
        name="createChallenge",
        summary="Ask a device to approve an action.",
        body=messages.CreateChallenge,
        answers={201: messages.ChallengeCreated},
        errors={
            400: "INVALID_REQUEST, INVALID_PUBLIC_KEY or FINGERPRINT_MISMATCH",
            401: "UNAUTHORIZED",
            409: "IDEMPOTENCY_CONFLICT",
            429: "TOO_MANY_PENDING or RATE_LIMITED",
            **_TRANSPORT,
        },
        key=True,
        parameters=[_IDEMPOTENCY_KEY],
    ),
    _Operation(
        path="/respond",
        method="post",
        name="respond",
        summary="A device's signed answer; the signature is the proof.",
        body=messages.Respond,
        answers={200: messages.Responded},
        errors={
            400: "INVALID_REQUEST, INVALID_PUBLIC_KEY or FINGERPRINT_MISMATCH",
            401: "INVALID_SIGNATURE",
            404: "CHALLENGE_NOT_FOUND",
            409: "CHALLENGE_ALREADY_USED",
            410: "CHALLENGE_EXPIRED",
            429: "RATE_LIMITED",
            **_TRANSPORT,
        },
    ),
    _Operation(
        path="/v1/auth/challenge/{challenge_id}/status",
        method="get",
        name="getChallengeStatus",
        summary="How a challenge stands; with wait, as soon as it is final.",
        answers={200: messages.ChallengeStatus},
        errors={400: "INVALID_REQUEST", 401: "UNAUTHORIZED", 404: "CHALLENGE_NOT_FOUND", 503: "OVERLOADED"},
        key=True,
        parameters=[_CHALLENGE_ID, _WAIT],
    ),
    _Operation(
        path="/v1/auth/challenge/{challenge_id}",
        method="delete",
        name="cancelChallenge",
        summary="Take a pending challenge back; again is no error.",
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
    _Operation(
        path="/device/pending",
        method="post",
        name="listPending",
        summary="What a device has to decide, for when a push is lost.",
        body=messages.Pending,
        answers={200: messages.PendingList},
        errors={
            400: "INVALID_REQUEST or INVALID_PUBLIC_KEY",
            401: "INVALID_SIGNATURE",
            429: "RATE_LIMITED",
            **_TRANSPORT,
        },
    ),
    _Operation(
        path="/health",
        method="get",
        name="getHealth",
        summary="Whether the server can serve.",
        answers={200: messages.Health, 503: messages.Health},
        errors={},
    ),
    _Operation(
        path="/info",
        method="get",
        name="getInfo",
        summary="The server's identity: what a device pins.",
        answers={200: (messages.Info, messages.InfoBeforeInit)},
        errors={429: "RATE_LIMITED"},
    ),
    _Operation(
        path="/openapi.json",
        method="get",
        name="getOpenApi",
        summary="This description.",
        answers={200: dict[str, Any]},
        errors={429: "RATE_LIMITED"},
    ),
    _Operation(
        path="/init/state",
        method="get",
        name="getInitState",
        summary="In init mode: what the wizard has to know first.",
        answers={200: messages.InitState},
        errors={403: "ORIGIN_REFUSED", 404: "NOT_FOUND", 429: "RATE_LIMITED"},
    ),
    _Operation(
        path="/init/words",
        method="post",
        name="makeWords",
        summary="In init mode: 24 new words; the server keeps none.",
        body=messages.Nothing,
        answers={200: messages.NewWords},
        errors={**_OF_WIZARD},
        token=True,
    ),
    _Operation(
        path="/init/check",
        method="post",
        name="checkWords",
        summary="In init mode: the identity of 24 words, or what is wrong with them.",
        body=messages.GivenWords,
        answers={200: messages.Checked},
        errors={**_OF_WIZARD, 409: "IDENTITY_MISMATCH"},
        token=True,
    ),
    _Operation(
        path="/init/commit",
        method="post",
        name="commitWords",
        summary="In init mode: the server takes the identity of the words, once, and is operational.",
        body=messages.GivenWords,
        answers={201: messages.Initialized},
        errors={**_OF_WIZARD, 409: "ALREADY_INITIALIZED or IDENTITY_MISMATCH"},
        token=True,
    ),
    _Operation(
        path="/init/api-keys",
        method="post",
        name="makeFirstKeys",
        summary="For half an hour after the commit, with the session's token: an API key.",
        body=messages.Nothing,
        answers={201: messages.IssuedKey},
        errors={**_OF_WIZARD},
        token=True,
    ),
    _Operation(
        path="/metrics",
        method="get",
        name="getMetrics",
        summary="Prometheus metrics; absent with SIGIL_TELEMETRY=none. METRICS_TOKEN, where set, is the bearer token.",
        answers={},
        text=("text/plain", "application/openmetrics-text"),
        errors={401: "UNAUTHORIZED", 404: "NOT_FOUND"},
    ),
)


def paths() -> list[str]:
    """Every path that is described."""
    return list(dict.fromkeys(operation.path for operation in _OPERATIONS))


def document(version: str) -> dict[str, Any]:
    """The whole description as JSON values."""
    kinds = list(dict.fromkeys(kind for operation in _OPERATIONS for kind in _kinds(operation)))
    found, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    schemas = dict(zip(kinds, found, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in _OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _described(operation, schemas)
    _refine(components)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Sigil",
            "version": version,
            "description": "Asks a person's device for a signed approval. docs/protocol.md is the reference.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "apiKey": {"type": "http", "scheme": "bearer", "bearerFormat": "sgk_"},
                "firstBoot": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The token of the server's log where one is asked for, or that of the session.",
                },
            },
        },
    }


# What the types of the wire leave out, by the name of the member.
_FORMATS: dict[str, dict[str, Any]] = {
    "challenge_id": {"format": "uuid"},
    "expires_at": {"format": "date-time"},
    "verified_at": {"format": "date-time"},
    "respond_to": {"format": "uri"},
    "challenge_bytes": {"contentEncoding": "base64"},
    "device_public_key": {"contentEncoding": "base64"},
    "nonce": {"contentEncoding": "base64"},
    "server_public_key": {"contentEncoding": "base64"},
    "server_signature": {"contentEncoding": "base64"},
    "signature": {"contentEncoding": "base64"},
    "keys_signature": {"contentEncoding": "base64"},
}


def _refine(components: dict[str, Any]) -> None:
    """Formats, the action of answers, and a type beside every enum: generators want them."""
    for schema in components.values():
        for name, member in schema.get("properties", {}).items():
            for part in member.get("anyOf", [member]):
                if part.get("type") == "string":
                    part.update(_FORMATS.get(name, {}))
                if "enum" in part:
                    part["type"] = "string"
            if name == "action" and not member:
                member["$ref"] = "#/components/schemas/Action"


def _kinds(operation: _Operation) -> list[Any]:
    body = [operation.body] if operation.body else []
    answers = [kind for answer in operation.answers.values() for kind in _either(answer)]
    return [*body, *answers, messages.ErrorAnswer]


def _either(answer: Any) -> tuple[Any, ...]:
    """The types of an answer that has several forms."""
    return answer if isinstance(answer, tuple) else (answer,)


def _described(operation: _Operation, schemas: dict[Any, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {"operationId": operation.name, "summary": operation.summary}
    described["security"] = [{"apiKey": []}] if operation.key else [{"firstBoot": []}] if operation.token else []
    if operation.parameters:
        described["parameters"] = operation.parameters
    if operation.body:
        described["requestBody"] = {"required": True, "content": _json(schemas[operation.body])}
    answers = {
        str(status): {
            "description": falcon.util.code_to_http_status(status),
            "content": _json(_any_of(answer, schemas)),
        }
        for status, answer in operation.answers.items()
    }
    errors = {
        str(status): {"description": codes, "content": _json(schemas[messages.ErrorAnswer])}
        for status, codes in operation.errors.items()
    }
    if operation.text:
        text = {media_type: {"schema": {"type": "string"}} for media_type in operation.text}
        answers["200"] = {"description": falcon.util.code_to_http_status(200), "content": text}
    described["responses"] = {**answers, **errors}
    return described


def _any_of(answer: Any, schemas: dict[Any, Any]) -> Any:
    forms = [schemas[kind] for kind in _either(answer)]
    return forms[0] if len(forms) == 1 else {"anyOf": forms}


def _json(schema: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


class OpenApi:
    """`GET /openapi.json`; made once."""

    def __init__(self, version: str, strangers: Strangers) -> None:
        self._answer = msgspec.json.encode(document(version))
        self._strangers = strangers

    async def on_get(self, req: Request, resp: Response) -> None:
        self._strangers.charge(req)
        resp.data = self._answer
        resp.content_type = falcon.MEDIA_JSON
