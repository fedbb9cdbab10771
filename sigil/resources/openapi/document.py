"""The OpenAPI 3.1 description of the HTTP interface, made from the message types; served at `/openapi.json`."""

from __future__ import annotations

from typing import Any

import falcon
import msgspec
from falcon.asgi import Request, Response

from sigil.protocol.messages import server as server_messages
from sigil.protocol.messages.approvals import ActionContext
from sigil.protocol.messages.webhooks import EnrolmentEventBody, EventBody
from sigil.resources.openapi.headers import HEADERS, headers_of_answer, headers_of_error
from sigil.resources.openapi.operations import OPERATIONS, Operation
from sigil.resources.openapi.schemas import refine
from sigil.resources.openapi.webhooks import webhooks
from sigil.serving.http.rate_limits import AddressRateLimit


def paths() -> list[str]:
    """Every path that is described."""
    return list(dict.fromkeys(operation.path for operation in OPERATIONS))


def document(version: str) -> dict[str, Any]:
    """The whole description as JSON values."""
    of_operations = [kind for operation in OPERATIONS for kind in _kinds(operation)]
    kinds = list(dict.fromkeys([*of_operations, ActionContext, EventBody, EnrolmentEventBody]))
    found, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    schemas = dict(zip(kinds, found, strict=True))
    refine([*components.values(), *found], components)
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _described(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Sigil",
            "version": version,
            "description": "Requests signed approvals from a person's device. docs/protocol.md is the reference.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "webhooks": webhooks(schemas[EventBody], schemas[EnrolmentEventBody]),
        "components": {
            "schemas": components,
            "headers": HEADERS,
            "securitySchemes": {
                "apiKey": {"type": "http", "scheme": "bearer", "bearerFormat": "sgk_"},
                "firstBoot": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The setup token from the server's log, if one is required, or the session token.",
                },
            },
        },
    }


def _kinds(operation: Operation) -> list[Any]:
    body = [operation.body] if operation.body else []
    answers = [kind for answer in operation.answers.values() for kind in _either(answer)]
    return [*body, *answers, server_messages.ErrorAnswer]


def _either(answer: Any) -> tuple[Any, ...]:
    """The types of an answer that has several forms."""
    return answer if isinstance(answer, tuple) else (answer,)


def _described(operation: Operation, schemas: dict[Any, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {"operationId": operation.name, "summary": operation.summary}
    described["security"] = [{"apiKey": []}] if operation.key else [{"firstBoot": []}] if operation.token else []
    if operation.parameters:
        described["parameters"] = operation.parameters
    if operation.body:
        described["requestBody"] = {"required": True, "content": _json(schemas[operation.body])}
    answers = {
        str(status): {
            "description": falcon.util.code_to_http_status(status),
            "headers": headers_of_answer(operation),
            "content": _json(_any_of(answer, schemas)),
        }
        for status, answer in operation.answers.items()
    }
    errors = {
        str(status): {
            "description": codes,
            "headers": headers_of_error(codes),
            "content": _json(schemas[server_messages.ErrorAnswer]),
        }
        for status, codes in operation.errors.items()
    }
    if operation.text:
        text = {media_type: {"schema": {"type": "string"}} for media_type in operation.text}
        answers["200"] = {
            "description": falcon.util.code_to_http_status(200),
            "headers": headers_of_answer(operation),
            "content": text,
        }
    described["responses"] = {**answers, **errors}
    return described


def _any_of(answer: Any, schemas: dict[Any, Any]) -> Any:
    forms = [schemas[kind] for kind in _either(answer)]
    return forms[0] if len(forms) == 1 else {"anyOf": forms}


def _json(schema: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


class OpenApiResource:
    """`GET /openapi.json`; encoded once."""

    def __init__(self, version: str, rate_limit: AddressRateLimit) -> None:
        self._answer = msgspec.json.encode(document(version))
        self._rate_limit = rate_limit

    async def on_get(self, req: Request, resp: Response) -> None:
        self._rate_limit.charge(req)
        resp.data = self._answer
        resp.content_type = falcon.MEDIA_JSON

    on_head = on_get
