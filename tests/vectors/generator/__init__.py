"""The generator of the vector files, by subject: what all subjects share. Nothing of the project is imported."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

Case = dict[str, Any]
Point = tuple[int, int] | None  # None is the point at infinity

INVALID_KEY = "INVALID_PUBLIC_KEY"
INVALID_REQUEST = "INVALID_REQUEST"


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def jcs(value: Any) -> bytes:
    """RFC 8785 for values without fractions: members by UTF-16 code units, and ECMAScript's escapes."""

    def ordered(item: Any) -> Any:
        if isinstance(item, dict):
            return {name: ordered(item[name]) for name in sorted(item, key=lambda name: name.encode("utf-16-be"))}
        return [ordered(element) for element in item] if isinstance(item, list) else item

    return json.dumps(ordered(value), ensure_ascii=False, separators=(",", ":")).encode()
