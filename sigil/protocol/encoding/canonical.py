"""Canonical JSON (RFC 8785, JCS) of JSON values without fractions."""

from __future__ import annotations

from typing import Any

import msgspec
import rfc8785

MAX_INTEGER = 2**53 - 1

_fast = msgspec.json.Encoder(order="sorted")


class NotCanonical(ValueError):
    """The value has no canonical form here: a float, an integer beyond 2^53-1, a lone surrogate, another type."""


def canonical(value: Any) -> bytes:
    """JCS of str, bool, None, int within ±(2^53-1), and lists and str-keyed dicts of them. Else raises NotCanonical."""
    try:
        _check(value)
        encoded = _fast.encode(value)
        # Only all-ASCII output is certainly JCS: msgspec sorts keys by code point, JCS by UTF-16 code unit.
        return encoded if encoded.isascii() else rfc8785.dumps(value)
    except (UnicodeEncodeError, RecursionError, rfc8785.CanonicalizationError) as error:
        raise NotCanonical("the value has no canonical JSON form") from error


def _check(value: Any) -> None:
    """Exact types only: a subclass (bool of int, str of enum) may be encoded as something else."""
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return
    if kind is int:
        if -MAX_INTEGER <= value <= MAX_INTEGER:
            return
    elif kind is list:
        for item in value:
            _check(item)
        return
    elif kind is dict:
        for name, item in value.items():
            if type(name) is not str:
                raise NotCanonical("a member's name is not a string")
            _check(item)
        return
    raise NotCanonical(f"a value of type {kind.__name__} or of that size has no canonical JSON form")
