"""Checks responses of a running server against its OpenAPI document."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import httpx
from jsonschema import Draft202012Validator

from sigil import __version__
from sigil.resources.openapi.document import document


@cache
def _document() -> dict[str, Any]:
    return document(__version__)


@cache
def _validator(reference: str) -> Draft202012Validator:
    return Draft202012Validator({"$ref": reference, "components": _document()["components"]})


def _operation(method: str, path: str) -> dict[str, Any] | None:
    for template, methods in _document()["paths"].items():
        if re.fullmatch(re.sub(r"\{[a-z_]+\}", "[^/]+", template), path):
            operation: dict[str, Any] | None = methods.get(method.lower())
            return operation
    return None


def check(response: httpx.Response) -> None:
    """An `httpx` response hook: AssertionError when the document does not describe the status or the body."""
    response.read()
    check_answer(
        response.request.method,
        response.request.url.path,
        response.status_code,
        response.headers.get("content-type", ""),
        response.content,
    )


async def check_async(response: httpx.Response) -> None:
    """The same for an asynchronous client."""
    await response.aread()
    check(response)


def check_answer(method: str, path: str, status: int, content_type: str, body: bytes) -> None:
    """AssertionError when the document describes the operation but not this response."""
    operation = _operation(method, path)
    if operation is None:
        return
    described = operation["responses"].get(str(status))
    assert described is not None, f"{path}: {status} is not described"
    schema = described["content"][content_type.partition(";")[0]]["schema"]
    forms = [form["$ref"] for form in schema.get("anyOf", [schema]) if "$ref" in form]
    if forms:
        found = json.loads(body)
        form = next((form for form in forms if _validator(form).is_valid(found)), forms[0])
        _validator(form).validate(found)
