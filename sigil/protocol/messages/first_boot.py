"""The messages of the first-boot wizard as types (docs/protocol.md, 5.1)."""

from __future__ import annotations

from typing import Literal

import msgspec

from sigil.protocol.messages.base import Answer, FromDevice


class InfoBeforeInit(Answer, frozen=True):
    """`GET /info` in init mode"""

    server_name: str
    version: str
    mode: Literal["init"]


class Nothing(FromDevice, frozen=True):
    """`{}`: the body of a request without parameters"""


class GivenWords(FromDevice, frozen=True):
    """`POST /init/check` and `POST /init/commit`. The repr hides the mnemonic."""

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
    """201 of `POST /init/commit`; the session authorises only `POST /init/api-keys`, for half an hour"""

    identity: ShownIdentity
    session: str
    api_key_prefix: str
    # A path on the server's disk; absent where the server uses plain HTTP.
    tls_cert_path: str | None = None

    def __repr__(self) -> str:
        return "Initialized(…)"


class IssuedKey(Answer, frozen=True):
    """201 of `POST /init/api-keys`"""

    api_key: str
    key_id: str

    def __repr__(self) -> str:
        return "IssuedKey(…)"


class FirstChallenge(Answer, frozen=True):
    """200 of `GET /init/first-challenge`: whether this server has got a challenge or an approval request yet"""

    received: bool


class ExpectedIdentity(Answer, frozen=True):
    """The identity that this server had before, the only one that may be restored"""

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
