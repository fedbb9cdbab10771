"""Machine-readable output: one JSON value on one line, in ASCII, so that it survives every encoding of a terminal."""

from __future__ import annotations

import json

import msgspec


def json_line(value: object) -> str:
    return json.dumps(msgspec.to_builtins(value), separators=(",", ":"))
