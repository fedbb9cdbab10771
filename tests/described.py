"""Holds answers of a running server to its own OpenAPI description."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import httpx
from jsonschema import Draft202012Validator

from sigil import __version__
from sigil.resources.openapi import document


@cache
def _description() -> dict[str, Any]:
    return document(__version__)


@cache
def _validator(reference: str) -> Draft202012Validator:
    return Draft202012Validator({"$ref": reference, "components": _description()["components"]})


def _operation(method: str, path: str) -> dict[str, Any] | None:
    for template, methods in _description()["paths"].items():
        if re.fullmatch(re.sub(r"\{[a-z_]+\}", "[^/]+", template), path):
            operation: dict[str, Any] | None = methods.get(method.lower())
            return operation
    return None


def check(response: httpx.Response) -> None:
    """An `httpx` response hook: AssertionError when status or body are not described."""
    operation = _operation(response.request.method, response.request.url.path)
    if operation is None:
        return
    response.read()
    described = operation["responses"].get(str(response.status_code))
    assert described is not None, f"{response.request.url.path}: {response.status_code} is not described"
    media_type = response.headers["content-type"].partition(";")[0]
    schema = described["content"][media_type]["schema"]
    if "$ref" in schema:
        _validator(schema["$ref"]).validate(response.json())
