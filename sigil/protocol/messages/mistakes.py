"""What is wrong with a message, as a sentence for its sender: the member's name and what it must be, never its value.

msgspec's own texts name Python's regular expressions and repeat values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from msgspec import inspect

from sigil.protocol.errors import InvalidRequest, subject_of

_LOCATION = re.compile(r" - at `(\$[^`]*)`\Z")
_MEMBER = re.compile(r"Object (missing required|contains unknown) field `(.*?)`(?: - at `(\$[^`]*)`)?\Z", re.DOTALL)
_SEGMENT = re.compile(r"\.([^.\[]+)|\[(?:[0-9]+|\.\.\.)\]")
_MAX_PATH = 200


def mistake(error: Exception, kind: Any) -> InvalidRequest:
    """InvalidRequest with `details.path`, of a msgspec.ValidationError about a message of that type."""
    text = str(error)
    if member := _MEMBER.match(text):
        fault, name, parent = member[1], member[2], member[3] or "$"
        path = f"{parent}.{name}"[:_MAX_PATH]
        if fault == "missing required":
            return InvalidRequest(f"{subject_of(path)} is missing.", path=path)
        return InvalidRequest(
            f"{subject_of(path)} is unknown. {subject_of(parent)} has: {_members(kind, parent)}.", path=path
        )
    location = _LOCATION.search(text)
    path = location[1][:_MAX_PATH] if location else "$"
    # A member that is null counts as absent; the body and an item of a list do not.
    if ", got `null`" in text and path[-1] not in "$]":
        return InvalidRequest(f"{subject_of(path)} is missing.", path=path)
    what = " or ".join(dict.fromkeys(part for part in map(_described, _at(kind, path)) if part))
    return InvalidRequest(f"{subject_of(path)} must be {what}." if what else None, path=path)


def _members(kind: Any, path: str) -> str:
    found = [each for each in _plain(_at(kind, path)) if isinstance(each, inspect.StructType)]
    tags = [each.tag_field for each in found if each.tag_field]
    names = [*tags, *(field.encode_name for each in found for field in each.fields)]
    return ", ".join(dict.fromkeys(names)) or "no members"


def _at(kind: Any, path: str) -> list[inspect.Type]:
    """The types that the value at `path` may have."""
    found = [_type_info(kind)]
    for segment in _SEGMENT.finditer(path.removeprefix("$")):
        found = [inner for outer in _plain(found) for inner in _inside(outer, segment[1])]
    return found


def _inside(outer: inspect.Type, name: str | None) -> Iterator[inspect.Type]:
    if isinstance(outer, inspect.StructType):
        yield from (field.type for field in outer.fields if field.encode_name == name)
        if name is not None and outer.tag_field == name:
            yield inspect.LiteralType((outer.tag,))
    elif isinstance(outer, inspect.CollectionType):
        yield outer.item_type
    elif isinstance(outer, inspect.DictType):
        yield outer.value_type


def _plain(types: list[inspect.Type]) -> Iterator[inspect.Type]:
    """Without annotations; a union as its parts, without null."""
    for found in types:
        if isinstance(found, inspect.Metadata):
            yield from _plain([found.type])
        elif isinstance(found, inspect.UnionType):
            yield from _plain(list(found.types))
        elif not isinstance(found, inspect.NoneType):
            yield found


def _described(found: inspect.Type) -> str:
    if isinstance(found, inspect.UnionType):
        return " or ".join(filter(None, map(_described, found.types)))
    if isinstance(found, inspect.Metadata):
        # A pattern says nothing to a person: its type has a description.
        description = (found.extra_json_schema or {}).get("description")
        return description or _described(found.type)
    if isinstance(found, inspect.StrType):
        return "a string" + _range(" of {} characters", found.min_length, found.max_length)
    if isinstance(found, inspect.IntType):
        return "a whole number" + _range(" from {}", found.ge, found.le)
    if isinstance(found, inspect.BoolType):
        return "true or false"
    if isinstance(found, inspect.LiteralType):
        return " or ".join(f'"{value}"' for value in found.values)
    if isinstance(found, inspect.CollectionType):
        return "a list" + _range(" of {} items", found.min_length, found.max_length)
    if isinstance(found, inspect.StructType | inspect.DictType):
        return "an object"
    return ""


def _range(text: str, low: int | None, high: int | None) -> str:
    if high is None:
        return ""
    return text.format(f"at most {high}" if low is None else f"{low} to {high}")


@lru_cache
def _type_info(kind: Any) -> inspect.Type:
    return inspect.type_info(kind)
