"""What the message types do not express, for client generators: formats, maps, absent members."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sigil.protocol.action import Action
from sigil.protocol.encoding.canonical import MAX_INTEGER
from sigil.protocol.messages.approvals import ActionContext
from sigil.protocol.messages.base import Answer
from sigil.protocol.messages.webhooks import EnrolmentEventBody, EventBody

# By the name of the member.
_FORMATS: dict[str, dict[str, Any]] = {
    "challenge_id": {"format": "uuid"},
    "mpa_id": {"format": "uuid"},
    "enrolment_id": {"format": "uuid"},
    "at": {"format": "date-time"},
    "expires_at": {"format": "date-time"},
    "verified_at": {"format": "date-time"},
    "attested_at": {"format": "date-time"},
    "enrolled_at": {"format": "date-time"},
    "renew_after": {"format": "date-time"},
    "respond_to": {"format": "uri"},
    "challenge_bytes": {"contentEncoding": "base64"},
    "device_public_key": {"contentEncoding": "base64"},
    "nonce": {"contentEncoding": "base64"},
    "server_public_key": {"contentEncoding": "base64"},
    "server_signature": {"contentEncoding": "base64"},
    "signature": {"contentEncoding": "base64"},
    "replaces_signature": {"contentEncoding": "base64"},
    "sas_nonce": {"contentEncoding": "base64"},
    "keys_signature": {"contentEncoding": "base64"},
}
# That of an attestation is its nonce.
_OF_ATTESTATION = {("AttestChallenge", "challenge_id"), ("AttestDevice", "challenge_id")}
# Members that are sent as the raw bytes that were signed: their message types have no schema for them.
_RAW_MEMBERS: dict[str, type] = {"action": Action, "action_context": ActionContext}
_VALUE = {"$ref": "#/components/schemas/ParamValue"}
_PARAM_VALUE: dict[str, Any] = {
    "title": "ParamValue",
    "description": "A value in the params of an action: integers only, and lists and objects up to a depth of 16.",
    "anyOf": [
        {"type": "string"},
        {"type": "boolean"},
        {"type": "integer", "minimum": -MAX_INTEGER, "maximum": MAX_INTEGER},
        {"type": "null"},
        # Not ParamValue again: TypeScript rejects a type that refers to itself in an interface (TS2502).
        {"type": "array", "items": {}},
        {"type": "object", "additionalProperties": True},
    ],
}
# Only Python's `$` matches before a newline, too; other implementations may know no lookahead.
_PYTHON_END = "(?!\\n)"


def portable(pattern: str) -> str:
    return pattern.removesuffix(_PYTHON_END)


def refine(schemas: Iterable[Any], components: dict[str, Any]) -> None:
    """Change the `schemas`, those of `components` among them, in place."""
    sent = {EventBody.__name__, EnrolmentEventBody.__name__, *(kind.__name__ for kind in _subclasses(Answer))}
    for schema in schemas:
        for name, member in schema.get("properties", {}).items():
            # Generators read a default as a promise that the member is present.
            if member.get("default", ...) is None:
                del member["default"]
                if schema.get("title") in sent:
                    _remove_null(member)
            for part in member.get("anyOf", [member]):
                _refine_value("" if (schema.get("title"), name) in _OF_ATTESTATION else name, part)
            if name in _RAW_MEMBERS and not member:
                member["$ref"] = f"#/components/schemas/{_RAW_MEMBERS[name].__name__}"
        _describe_map("", schema)
    components["ParamValue"] = _PARAM_VALUE


def _refine_value(name: str, value: dict[str, Any]) -> None:
    if value.get("type") == "string":
        value.update(_FORMATS.get(name, {}))
    if "pattern" in value:
        value["pattern"] = portable(value["pattern"])
    if "enum" in value:
        value["type"] = "string"
    _describe_map(name, value)


def _describe_map(name: str, value: dict[str, Any]) -> None:
    """An object without members is an empty record to a generator."""
    if value.get("type") == "object" and not {"properties", "additionalProperties"} & value.keys():
        value["additionalProperties"] = _VALUE if name == "params" else True


def _remove_null(member: dict[str, Any]) -> None:
    """Answers leave out what has no value."""
    parts = [part for part in member.get("anyOf", []) if part != {"type": "null"}]
    if len(parts) == 1:
        del member["anyOf"]
        member.update(parts[0])


def _subclasses(kind: type[Answer]) -> list[type[Answer]]:
    return [kind, *(inner for sub in kind.__subclasses__() for inner in _subclasses(sub))]
