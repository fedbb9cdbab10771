"""The first-boot wizard over HTTP (docs/first-boot.md)."""

from __future__ import annotations

from typing import TypeVar

from falcon.asgi import Request, Response

from sigil.first_boot.service import FirstBoot, KeyDesk
from sigil.protocol.errors import AlreadyInitialized, NotFound, NotInitialized
from sigil.protocol.first_boot_messages import GivenWords, InitState, Nothing
from sigil.resources.origin_check import OwnPage
from sigil.resources.pages import dress
from sigil.serving import logs
from sigil.serving.http.answers import answer
from sigil.serving.http.bearer_token import TokenDoor
from sigil.serving.http.rate_limits import Strangers
from sigil.serving.http.requests import decode_json, read_body

T = TypeVar("T")


class Doors:
    """What every question of the wizard passes, in the order of docs/protocol.md, section 4."""

    def __init__(self, own_page: OwnPage, token: TokenDoor, strangers: Strangers) -> None:
        self.token = token
        self._own_page = own_page
        self._strangers = strangers

    async def admit(self, req: Request, resp: Response, kind: type[T]) -> T:
        """The body, from whoever has the token."""
        dress(resp)
        self._own_page.check(req)
        body = await read_body(req)
        self.token.check(req)
        self._strangers.charge(req)
        return decode_json(req, body, kind)

    def look_in(self, req: Request, resp: Response) -> str:
        """For what needs no token; the Host that was asked."""
        dress(resp)
        host = self._own_page.check(req)
        self._strangers.charge(req)
        return host


class StateOfInit:
    """`GET /init/state`: what the page has to know before it asks for anything."""

    def __init__(self, boot: FirstBoot, doors: Doors, *, server_name: str, scheme: str, public_url: str | None) -> None:
        self._boot = boot
        self._doors = doors
        self._server_name = server_name
        self._scheme = scheme
        self._public_url = public_url

    async def on_get(self, req: Request, resp: Response) -> None:
        host = self._doors.look_in(req, resp)
        answer(
            resp,
            InitState(
                mode="init",
                token_required=self._doors.token.asks,
                restore_only=self._boot.expected,
                server_name=self._server_name,
                base_url=self._public_url or f"{self._scheme}://{host}",
            ),
        )


class WordsOfInit:
    """`POST /init/words`"""

    def __init__(self, boot: FirstBoot, doors: Doors) -> None:
        self._boot = boot
        self._doors = doors

    async def on_post(self, req: Request, resp: Response) -> None:
        await self._doors.admit(req, resp, Nothing)
        answer(resp, self._boot.words())


class CheckOfInit:
    """`POST /init/check`"""

    def __init__(self, boot: FirstBoot, doors: Doors) -> None:
        self._boot = boot
        self._doors = doors

    async def on_post(self, req: Request, resp: Response) -> None:
        given = await self._doors.admit(req, resp, GivenWords)
        answer(resp, self._boot.check(given.words))


class CommitOfInit:
    """`POST /init/commit`"""

    def __init__(self, boot: FirstBoot, doors: Doors) -> None:
        self._boot = boot
        self._doors = doors

    async def on_post(self, req: Request, resp: Response) -> None:
        given = await self._doors.admit(req, resp, GivenWords)
        made = self._boot.commit(given.words)
        logs.info(
            "server_initialized",
            server_id=made.identity.server_id,
            pictogram=made.identity.server_pictogram_speakable,
        )
        answer(resp, made, 201)


class KeysOfInit:
    """`POST /init/api-keys`, after the commit, for the page that made it."""

    def __init__(self, desk: KeyDesk, doors: Doors) -> None:
        self._desk = desk
        self._doors = doors

    async def on_post(self, req: Request, resp: Response) -> None:
        await self._doors.admit(req, resp, Nothing)
        made = self._desk.make_key()
        logs.info("api_key_made", key_id=made.key_id)
        answer(resp, made, 201)


class TooLate:
    """`POST /init/commit` of the window that lost, while the winner's session lasts; then there is nothing here."""

    def __init__(self, desk: KeyDesk) -> None:
        self._desk = desk

    async def on_post(self, _req: Request, resp: Response) -> None:
        dress(resp)
        raise NotFound if self._desk.is_closed else AlreadyInitialized


class NotYet:
    """Whatever the operational server offers, before it is set up."""

    async def _refuse(self, _req: Request, _resp: Response, **_parameters: str) -> None:
        raise NotInitialized(retry_after=5)

    on_get = on_post = on_put = on_patch = on_delete = _refuse
