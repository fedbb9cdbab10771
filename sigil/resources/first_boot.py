"""The first-boot wizard over HTTP (docs/first-boot.md)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from falcon.asgi import Request, Response

from sigil.first_boot.service import ApiKeyIssuer, FirstBoot
from sigil.protocol.errors import AlreadyInitialized, NotFound, NotInitialized
from sigil.protocol.messages.first_boot import FirstChallenge, GivenWords, InitState, Nothing
from sigil.resources.origin_check import OriginCheck
from sigil.resources.pages import set_page_headers
from sigil.serving import logs
from sigil.serving.http.bearer_token import BearerTokenGuard
from sigil.serving.http.rate_limits import AddressRateLimit
from sigil.serving.http.requests import decode_json, read_body
from sigil.serving.http.responses import write_json

T = TypeVar("T")


class WizardGuard:
    """The checks that every request of the wizard passes, in the order of docs/protocol.md, section 4."""

    def __init__(self, origin_check: OriginCheck, token_guard: BearerTokenGuard, rate_limit: AddressRateLimit) -> None:
        self.token_guard = token_guard
        self._origin_check = origin_check
        self._rate_limit = rate_limit

    async def read_request(self, req: Request, resp: Response, kind: type[T]) -> T:
        """The decoded body of a request with the right token."""
        set_page_headers(resp)
        self._origin_check.check(req)
        body = await read_body(req)
        self.token_guard.check(req)
        self._rate_limit.charge(req)
        return decode_json(req, body, kind)

    def check_reader(self, req: Request, resp: Response) -> None:
        """Check a request without a body that needs the token."""
        set_page_headers(resp)
        self._origin_check.check(req)
        self.token_guard.check(req)
        self._rate_limit.charge(req)

    def check_anonymous(self, req: Request, resp: Response) -> str:
        """Check a request that needs no token; return its Host."""
        set_page_headers(resp)
        host = self._origin_check.check(req)
        self._rate_limit.charge(req)
        return host


class InitStateResource:
    """`GET /init/state`: what the page needs to know before its first other request."""

    def __init__(
        self, first_boot: FirstBoot, guard: WizardGuard, *, server_name: str, scheme: str, public_url: str | None
    ) -> None:
        self._first_boot = first_boot
        self._guard = guard
        self._server_name = server_name
        self._scheme = scheme
        self._public_url = public_url

    async def on_get(self, req: Request, resp: Response) -> None:
        host = self._guard.check_anonymous(req, resp)
        write_json(
            resp,
            InitState(
                mode="init",
                token_required=self._guard.token_guard.required,
                restore_only=self._first_boot.expected,
                server_name=self._server_name,
                base_url=self._public_url or f"{self._scheme}://{host}",
            ),
        )

    on_head = on_get


class InitWordsResource:
    """`POST /init/words`"""

    def __init__(self, first_boot: FirstBoot, guard: WizardGuard) -> None:
        self._first_boot = first_boot
        self._guard = guard

    async def on_post(self, req: Request, resp: Response) -> None:
        await self._guard.read_request(req, resp, Nothing)
        write_json(resp, self._first_boot.generate_words())


class InitCheckResource:
    """`POST /init/check`"""

    def __init__(self, first_boot: FirstBoot, guard: WizardGuard) -> None:
        self._first_boot = first_boot
        self._guard = guard

    async def on_post(self, req: Request, resp: Response) -> None:
        given = await self._guard.read_request(req, resp, GivenWords)
        write_json(resp, self._first_boot.check(given.words))


class InitCommitResource:
    """`POST /init/commit`"""

    def __init__(self, first_boot: FirstBoot, guard: WizardGuard) -> None:
        self._first_boot = first_boot
        self._guard = guard

    async def on_post(self, req: Request, resp: Response) -> None:
        given = await self._guard.read_request(req, resp, GivenWords)
        initialized = self._first_boot.commit(given.words)
        logs.info(
            "server_initialized",
            server_id=initialized.identity.server_id,
            pictogram=initialized.identity.server_pictogram_speakable,
        )
        write_json(resp, initialized, 201)


class InitApiKeysResource:
    """`POST /init/api-keys`, after the commit, for the page that committed."""

    def __init__(self, issuer: ApiKeyIssuer, guard: WizardGuard) -> None:
        self._issuer = issuer
        self._guard = guard

    async def on_post(self, req: Request, resp: Response) -> None:
        await self._guard.read_request(req, resp, Nothing)
        issued = self._issuer.issue_key()
        logs.info("api_key_made", key_id=issued.key_id)
        write_json(resp, issued, 201)


class InitFirstChallengeResource:
    """`GET /init/first-challenge`, after the commit, for the page that committed: it waits for the first call."""

    def __init__(self, received: Callable[[], Awaitable[bool]], guard: WizardGuard) -> None:
        self._received = received
        self._guard = guard

    async def on_get(self, req: Request, resp: Response) -> None:
        self._guard.check_reader(req, resp)
        write_json(resp, FirstChallenge(await self._received()))

    on_head = on_get


class InitCommitConflictResource:
    """`POST /init/commit` after the commit of another window: 409 while that window's session is valid, then 404."""

    def __init__(self, issuer: ApiKeyIssuer) -> None:
        self._issuer = issuer

    async def on_post(self, _req: Request, resp: Response) -> None:
        set_page_headers(resp)
        raise NotFound if self._issuer.is_closed else AlreadyInitialized


class NotInitializedResource:
    """The paths that only the operational server offers, in init mode: 503 NOT_INITIALIZED."""

    async def _reject(self, _req: Request, _resp: Response, **_parameters: str) -> None:
        raise NotInitialized(retry_after=5)

    on_get = on_head = on_post = on_put = on_patch = on_delete = _reject
