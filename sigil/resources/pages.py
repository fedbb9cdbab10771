"""HTML pages and their assets, read once at start. Nothing outside of this closed list is ever served.

Like /health, they have no rate limit. Their bytes are ready in memory: a request computes and reads nothing, and costs
only bandwidth, which a request rate does not protect. The wizard loads about thirty of them.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import falcon
from falcon.asgi import Request, Response

from sigil.protocol.errors import NotFound
from sigil.protocol.identity import ServerIdentity, word_list

_PACKAGE = "sigil.pages"
_ICON = "favicon.svg"
_DRAWINGS = "pictograms/"
_MEDIA_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "png": "image/png",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
    "webmanifest": "application/manifest+json",
}
_PLACEHOLDER = re.compile(r"\{\{([a-z0-9_]+)\}\}")
# Everything comes from this server, nothing is inline, and no site may frame it.
_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self'",
    "connect-src": "'self'",
    "form-action": "'none'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
    # No script may turn text into markup, even if a later change of a script tries to.
    "require-trusted-types-for": "'script'",
    "trusted-types": "'none'",
}
# The drawings are the same on every server of a release. A day, since a release may change them.
_DRAWING_CACHE_CONTROL = "public, max-age=86400"


def page_headers(policies: Mapping[str, str] | None = None) -> dict[str, str]:
    """The headers of a page; `policies` replaces and adds directives of its Content-Security-Policy."""
    policy = _POLICY | dict(policies or {})
    return {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-store",
    }


_HEADERS = page_headers()


def set_page_headers(resp: Response) -> None:
    """Set the headers of pages, of their assets and of the wizard's API answers."""
    resp.set_headers(_HEADERS)


def wants_page(req: Request) -> bool:
    """Whether a browser navigates here: it lists text/html first in Accept, a script does not."""
    first = (req.get_header("ACCEPT") or "").partition(",")[0].partition(";")[0]
    return req.method in {"GET", "HEAD"} and first.strip().lower() == "text/html"


@dataclass(frozen=True)
class PageFiles:
    """`assets` by their path below `/assets/`, with their media types, and `templates` by name."""

    assets: Mapping[str, tuple[str, bytes]]
    templates: Mapping[str, str]

    @classmethod
    def load(cls) -> PageFiles:
        assets = {"words.txt": (_MEDIA_TYPES["txt"], "\n".join(word_list()).encode("ascii"))}
        templates = {}
        for path, file in _files_below(files(_PACKAGE)):
            suffix = path.rpartition(".")[2]
            if suffix == "html":
                templates[path] = file.read_text(encoding="utf-8")
            elif suffix in _MEDIA_TYPES:
                assets[path] = (_MEDIA_TYPES[suffix], file.read_bytes())
        return cls(assets, templates)

    def fill(self, name: str, values: Mapping[str, str]) -> bytes:
        """The template with each `{{placeholder}}` replaced. Raises KeyError for one that has no value."""
        return _PLACEHOLDER.sub(lambda match: html.escape(values[match[1]]), self.templates[name]).encode()


def _files_below(folder: Traversable, path: str = "") -> Iterator[tuple[str, Traversable]]:
    for file in folder.iterdir():
        if file.is_dir():
            yield from _files_below(file, f"{path}{file.name}/")
        else:
            yield f"{path}{file.name}", file


def home_page_values(identity: ServerIdentity, server_name: str, version: str) -> dict[str, str]:
    """The values of the placeholders of `home.html`: all of them are public in `/info` too."""
    names = {f"name_{at}": text for at, text in enumerate(identity.pictogram_speakable.split(), 1)}
    return {
        "server_name": server_name,
        "server_id": identity.server_id,
        "version": version,
        **names,
    }


class PageResource:
    """One page, rendered once."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    async def on_get(self, _req: Request, resp: Response) -> None:
        send_page(resp, self._content)

    on_head = on_get


class AssetsResource:
    """`/assets/…`"""

    def __init__(self, pages: PageFiles) -> None:
        self._assets = pages.assets

    async def on_get(self, _req: Request, resp: Response, path: str = _ICON) -> None:
        if path not in self._assets:
            raise NotFound
        set_page_headers(resp)
        if path.startswith(_DRAWINGS):
            resp.set_header("Cache-Control", _DRAWING_CACHE_CONTROL)
        resp.content_type, resp.data = self._assets[path]

    on_head = on_get


class NotFoundPageResource:
    """The answer for paths without a route: a page for browsers, the error of the protocol for programs.

    `below` has other pages, by the path at and under which they are shown.
    """

    def __init__(self, content: bytes, below: Mapping[str, bytes]) -> None:
        self._content = content
        self._below = below

    async def sink(self, req: Request, resp: Any, **_parameters: Any) -> None:
        if not wants_page(req):
            raise NotFound
        found = (page for path, page in self._below.items() if f"{req.path}/".startswith(f"{path}/"))
        send_page(resp, next(found, self._content))
        resp.status_code = 404


class WizardRedirectResource:
    """In init mode every page redirects to `/init`."""

    async def on_get(self, _req: Request, resp: Response) -> None:
        set_page_headers(resp)
        resp.status_code = 302
        resp.set_header("Location", "/init")

    on_head = on_get

    async def sink(self, req: Request, resp: Any, **_parameters: Any) -> None:
        if not wants_page(req):
            raise NotFound
        await self.on_get(req, resp)


def send_page(resp: Response, content: bytes) -> None:
    set_page_headers(resp)
    resp.data = content
    resp.content_type = falcon.MEDIA_HTML
