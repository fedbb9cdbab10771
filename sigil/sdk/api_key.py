"""The API key: read from the environment alone, and never printed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NoReturn

from sigil.protocol.encoding.plain_text import NotPlainText
from sigil.sdk.environment import file_text, variable

VARIABLE, FILE_VARIABLE = "SIGIL_API_KEY", "SIGIL_API_KEY_FILE"
_MAX_FILE = 4096
_ISSUED = re.compile(r"sgk_(?:live|test)_[0-9a-f]{64}\Z", re.ASCII)
_PRESET = re.compile(r"[\x21-\x2b\x2d-\x7e]{32,}\Z", re.ASCII)
# A part of a key in source code is rejected too.
_LIKE_ISSUED = re.compile(r"sgk_(?:live|test)_[0-9a-f]{8,}", re.ASCII | re.IGNORECASE)
_KEY_NAME = re.compile(r"(?:.*_)?(?:key|apikey|token|secret|bearer|authorization|password|credentials?)", re.IGNORECASE)
_MASK = b"[redacted]"

NOT_AS_ARGUMENT = (
    f"The API key must not be passed as an argument: keys in source code get committed. Set the environment variable "
    f"{VARIABLE}, from a secret manager or a .env file that git ignores, or name a file in {FILE_VARIABLE}; the client "
    "reads it."
)


_REMEDY = f"Set it to an API key, as 'sigil keygen' makes them, or {FILE_VARIABLE} to a file that holds one."


class ApiKey:
    """Holds the key. Its repr hides the key, and it cannot be pickled or copied."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    @classmethod
    def from_environment(cls) -> tuple[ApiKey, str | None]:
        """The key, and why it is not valid, or None. That text never repeats the value.

        One call for each client: the file may be a pipe, which can be read once.
        """
        try:
            text, path = variable(VARIABLE), variable(FILE_VARIABLE)
        except NotPlainText as error:
            return cls(""), str(error)
        if text and path:
            return cls(text), f"{VARIABLE} and {FILE_VARIABLE} are both set: keep one."
        if not path:
            key = cls(text)
            return key, key._problem(VARIABLE) if text else f"{VARIABLE} is not set. {_REMEDY}"
        try:
            key = cls(file_text(path, _MAX_FILE))
        except OSError as error:
            return cls(""), f"{FILE_VARIABLE}: {path} cannot be read: {error.strerror or error}."
        except NotPlainText as error:
            return cls(""), f"{FILE_VARIABLE}: {path} {error}."
        return key, key._problem(f"{FILE_VARIABLE}: {path}")

    def _problem(self, place: str) -> str | None:
        if _ISSUED.match(self._text):
            return None
        if _LIKE_ISSUED.search(self._text) or not _PRESET.match(self._text):
            return (
                f"{place} must hold one API key: sgk_live_ or sgk_test_ and 64 lower-case hex digits, without "
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
        # A value that is no key, as of a variable with a typing error, may be part of any address.
        return bool(_PRESET.match(self._text)) and self._text in text

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
