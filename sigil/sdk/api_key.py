"""The API key: read from the environment alone, and never printed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import NoReturn

from sigil.sdk.errors import ConfigurationError

VARIABLE = "SIGIL_API_KEY"
_ISSUED = re.compile(r"sgk_(?:live|test)_[0-9a-f]{64}\Z", re.ASCII)
_PRESET = re.compile(r"[\x21-\x2b\x2d-\x7e]{32,}\Z", re.ASCII)
# A part of a key in source code is rejected too.
_LIKE_ISSUED = re.compile(r"sgk_(?:live|test)_[0-9a-f]{8,}", re.ASCII | re.IGNORECASE)
_KEY_NAME = re.compile(r"(?:.*_)?(?:key|apikey|token|secret|bearer|authorization|password|credentials?)", re.IGNORECASE)
_MASK = b"[redacted]"

NOT_AS_ARGUMENT = (
    f"The API key must not be passed as an argument: keys in source code get committed. Set the environment variable "
    f"{VARIABLE}, from a secret manager or a .env file that git ignores; the client reads it."
)


class ApiKey:
    """Holds the key. Its repr hides the key, and it cannot be pickled or copied."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    @classmethod
    def from_environment(cls) -> ApiKey:
        """ConfigurationError when the variable is absent or holds no key; the message never repeats the value."""
        key = cls(os.environ.get(VARIABLE, "").strip())
        if problem := key.problem():
            raise ConfigurationError(problem)
        return key

    def problem(self) -> str | None:
        """Why this is not a valid key, or None."""
        if not self._text:
            return f"{VARIABLE} is not set. Set it to an API key, as 'sigil keygen' makes them."
        if _ISSUED.match(self._text):
            return None
        if _LIKE_ISSUED.search(self._text) or not _PRESET.match(self._text):
            return (
                f"{VARIABLE} must hold one API key: sgk_live_ or sgk_test_ and 64 lower-case hex digits, without "
                "quotes; or a pre-set key of 32 or more visible ASCII characters without commas."
            )
        return None

    def authorization(self) -> str:
        return f"Bearer {self._text}"

    def hide(self, content: bytes) -> bytes:
        """The content with this key masked: a broken proxy may echo a request in its error."""
        return content.replace(self._text.encode(), _MASK)

    def is_in(self, value: object) -> bool:
        text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
        return self._text in text

    def __repr__(self) -> str:
        return "ApiKey(…)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an API key is not pickled: each process reads it from its environment")


def is_key_name(names: Iterable[str]) -> bool:
    """Whether one of the names is that of a key: api_key, key, token, client_secret …"""
    return any(_KEY_NAME.fullmatch(name) for name in names)


def contains_key(values: Iterable[object]) -> bool:
    """Whether one of the values contains text in the form of an issued key."""
    texts = (value.decode("latin-1") if isinstance(value, bytes) else str(value) for value in values)
    return any(_LIKE_ISSUED.search(text) for text in texts)
