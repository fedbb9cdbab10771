"""The API key: read from the environment alone, and shown by nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import NoReturn

from sigil.sdk.errors import ConfigurationError

VARIABLE = "SIGIL_API_KEY"
_ISSUED = re.compile(r"sgk_(?:live|test)_[0-9a-f]{64}\Z", re.ASCII)
_PRESET = re.compile(r"[\x21-\x2b\x2d-\x7e]{32,}\Z", re.ASCII)
# Half a key in source code is half a key too many.
_LOOKS_ISSUED = re.compile(r"sgk_(?:live|test)_[0-9a-f]{8,}", re.ASCII | re.IGNORECASE)
_KEY_NAME = re.compile(r"(?:.*_)?(?:key|apikey|token|secret|bearer|authorization|password|credentials?)", re.IGNORECASE)
_MASK = b"[redacted]"

_NOT_AS_ARGUMENT = (
    f"The API key is not passed as an argument: keys in source code get committed. Set the environment variable "
    f"{VARIABLE}, from a secret manager or a .env file that git ignores; the client reads it by itself."
)


class ApiKey:
    """Holds the key. Its repr hides it, and it can be neither pickled nor copied into a log by accident."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    @classmethod
    def from_environment(cls) -> ApiKey:
        """ConfigurationError when the variable is absent or holds no key; the message never repeats it."""
        key = cls(os.environ.get(VARIABLE, "").strip())
        if fault := key.fault():
            raise ConfigurationError(fault)
        return key

    def fault(self) -> str | None:
        """Why this cannot be a key, or None."""
        if not self._text:
            return f"{VARIABLE} is not set. It holds the API key of this backend, as 'sigil keygen' makes them."
        if _ISSUED.match(self._text):
            return None
        if _LOOKS_ISSUED.search(self._text) or not _PRESET.match(self._text):
            return (
                f"{VARIABLE} does not hold one API key: that is sgk_live_ or sgk_test_ and 64 lower-case hex digits, "
                "without quotes; or a pre-set key of 32 or more visible ASCII characters without commas."
            )
        return None

    def authorization(self) -> str:
        return f"Bearer {self._text}"

    def hide(self, content: bytes) -> bytes:
        """The content without this key: a broken proxy may send a request back in its error."""
        return content.replace(self._text.encode(), _MASK)

    def is_in(self, value: object) -> bool:
        text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
        return self._text in text

    def __repr__(self) -> str:
        return "ApiKey(…)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an API key is not pickled; each process reads its environment")


def names_key(names: Iterable[str]) -> bool:
    """Whether an argument of such a name would be a key: api_key, key, token, client_secret …"""
    return any(_KEY_NAME.fullmatch(name) for name in names)


def holds_key(values: Iterable[object]) -> bool:
    """Whether one of the values is, or contains, what looks like an issued key."""
    texts = (value.decode("latin-1") if isinstance(value, bytes) else str(value) for value in values)
    return any(_LOOKS_ISSUED.search(text) for text in texts)


def key_as_argument() -> str:
    return _NOT_AS_ARGUMENT
