"""The first-boot wizard over HTTP (docs/first-boot.md)."""

from __future__ import annotations

from typing import TypeVar

from falcon.asgi import Request, Response

from sigil.first_boot.service import ApiKeyIssuer, FirstBoot
from sigil.protocol.errors import AlreadyInitialized, NotFound, NotInitialized
from sigil.protocol.first_boot_messages import GivenWords, InitState, Nothing
from sigil.resources.origin_check import OriginCheck
from sigil.resources.pages import set_page_headers
from sigil.serving import logs
from sigil.serving.http.bearer_token import BearerTokenGuard
from sigil.serving.http.rate_limits import AddressRateLimit
from sigil.serving.http.requests import decode_json, read_body
from sigil.serving.http.responses import answer

T = TypeVar("T")


class WizardGuard:
    """What every question of the wizard passes, in the order of docs/protocol.md, section 4."""

    def __init__(self, own_page: OriginCheck, token: BearerTokenGuard, strangers: AddressRateLimit) -> None:
        self.token = token
        self._own_page = own_page
        self._strangers = strangers

    async def admit(self, req: Request, resp: Response, kind: type[T]) -> T:
        """The body, from whoever has the token."""
        set_page_headers(resp)
        self._own_page.check(req)
        body = await read_body(req)
        self.token.check(req)
        self._strangers.charge(req)
        return decode_json(req, body, kind)

    def admit_anonymous(self, req: Request, resp: Response) -> str:
        """For what needs no token; the Host that was asked."""
        set_page_headers(resp)
        host = self._own_page.check(req)
        self._strangers.charge(req)
        return host


class InitStateResource:
    """`GET /init/state`: what the page has to know before it asks for anything."""

    def __init__(
        self, boot: FirstBoot, doors: WizardGuard, *, server_name: str, scheme: str, public_url: str | None
    ) -> None:
        self._boot = boot
        self._doors = doors
        self._server_name = server_name
        self._scheme = scheme
        self._public_url = public_url

    async def on_get(self, req: Request, resp: Response) -> None:
        host = self._doors.admit_anonymous(req, resp)
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


class InitMnemonic:
    """`POST /init/words`"""

    def __init__(self, boot: FirstBoot, doors: WizardGuard) -> None:
        self._boot = boot
        self._doors = doors

    async def on_post(self, req: Request, resp: Response) -> None:
        await self._doors.admit(req, resp, Nothing)
        answer(resp, self._boot.words())


class InitCheck:
    """`POST /init/check`"""

    def __init__(self, boot: FirstBoot, doors: WizardGuard) -> None:
        self._boot = boot
        self._doors = doors

    async def on_post(self, req: Request, resp: Response) -> None:
        given = await self._doors.admit(req, resp, GivenWords)
        answer(resp, self._boot.check(given.words))


class InitCommit:
    """`POST /init/commit`"""

    def __init__(self, boot: FirstBoot, doors: WizardGuard) -> None:
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


class InitApiKeys:
    """`POST /init/api-keys`, after the commit, for the page that made it."""

    def __init__(self, desk: ApiKeyIssuer, doors: WizardGuard) -> None:
        self._desk = desk
        self._doors = doors

    async def on_post(self, req: Request, resp: Response) -> None:
        await self._doors.admit(req, resp, Nothing)
        made = self._desk.make_key()
        logs.info("api_key_made", key_id=made.key_id)
        answer(resp, made, 201)


class CommitAfterInit:
    """`POST /init/commit` of the window that lost, while the winner's session lasts; then there is nothing here."""

    def __init__(self, desk: ApiKeyIssuer) -> None:
        self._desk = desk

    async def on_post(self, _req: Request, resp: Response) -> None:
        set_page_headers(resp)
        raise NotFound if self._desk.is_closed else AlreadyInitialized


class NotInitializedResource:
    """Whatever the operational server offers, before it is set up."""

    async def _refuse(self, _req: Request, _resp: Response, **_parameters: str) -> None:
        raise NotInitialized(retry_after=5)

    on_get = on_post = on_put = on_patch = on_delete = _refuse
