"""Every message of the wizard as a type (docs/protocol.md, 5.1)."""

from __future__ import annotations

from typing import Literal

import msgspec

from sigil.protocol.forms import Answer, FromDevice


class InfoBeforeInit(Answer, frozen=True):
    """`GET /info` in init mode"""

    server_name: str
    version: str
    mode: Literal["init"]


class Nothing(FromDevice, frozen=True):
    """`{}`: the body of a request that asks for something and brings nothing"""


class GivenWords(FromDevice, frozen=True):
    """`POST /init/check` and `POST /init/commit`. No repr: it would hold the words."""

    words: str

    def __repr__(self) -> str:
        return "GivenWords(…)"


class NewWords(Answer, frozen=True):
    """200 of `POST /init/words`"""

    words: list[str]

    def __repr__(self) -> str:
        return "NewWords(…)"


class ShownIdentity(Answer, frozen=True):
    """An identity as the wizard shows it"""

    server_id: str
    server_public_key: str
    server_pictogram: list[str]
    server_pictogram_speakable: str


class Checked(Answer, frozen=True):
    """200 of `POST /init/check`"""

    identity: ShownIdentity


class Initialized(Answer, frozen=True):
    """201 of `POST /init/commit`; the session opens `POST /init/api-keys` for half an hour, and nothing else"""

    identity: ShownIdentity
    session: str
    api_key_prefix: str
    # On the server's disk; absent where it speaks plain HTTP.
    tls_cert_path: str | None = None

    def __repr__(self) -> str:
        return "Initialized(…)"


class IssuedKey(Answer, frozen=True):
    """201 of `POST /init/api-keys`"""

    api_key: str
    key_id: str

    def __repr__(self) -> str:
        return "IssuedKey(…)"


class ExpectedIdentity(Answer, frozen=True):
    """The identity that this server had, and alone may get"""

    server_id: str
    server_pictogram: list[str]
    server_pictogram_speakable: str


class InitState(msgspec.Struct, frozen=True):
    """`GET /init/state`; `restore_only` is null unless the server had an identity before"""

    mode: Literal["init"]
    token_required: bool
    restore_only: ExpectedIdentity | None
    server_name: str
    base_url: str
