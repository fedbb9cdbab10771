"""The web app of devices at `/device/`: its page, worker, manifest and icons; its other files are assets.

The page, and the worker that a browser starts without the page, have headers of their own: they talk to the relay too,
and use the camera and passkeys. Like all pages their bytes are ready in memory, from a closed list.
"""

from __future__ import annotations

import json
import re
from typing import Any

import falcon
from falcon.asgi import Request, Response

from sigil.resources.pages import PageFiles, page_headers

_PAGE = "device/index.html"
_WORKER = "device/worker.js"
_MANIFEST = "device/manifest.webmanifest"
_ICON = re.compile(r"device/icons/(icon-[a-z0-9-]+\.png)\Z")
_POLICIES = "camera=(self), publickey-credentials-get=(self), publickey-credentials-create=(self)"


def add_routes(app: Any, pages: PageFiles, *, server_name: str, version: str, relay_origin: str | None) -> None:
    """`relay_origin`: where the app registers for pushes, if there are any."""
    values = {"server_name": server_name, "version": version}
    headers = _headers(relay_origin)
    app.add_route("/device", _Redirect())
    app.add_route("/device/", _File(falcon.MEDIA_HTML, pages.fill(_PAGE, values), headers))
    for path, (media_type, content) in pages.assets.items():
        icon = _ICON.match(path)
        if path == _WORKER:
            app.add_route("/device/worker.js", _File(media_type, content, headers))
        elif path == _MANIFEST:
            named = content.replace(b'"{{server_name}}"', json.dumps(server_name).encode())
            app.add_route("/device/manifest.webmanifest", _File(media_type, named, headers))
        elif icon:
            app.add_route(f"/device/{icon[1]}", _File(media_type, content, headers))


def _headers(relay_origin: str | None) -> dict[str, str]:
    connect = f"'self' {relay_origin}" if relay_origin else "'self'"
    more = {"worker-src": "'self'", "manifest-src": "'self'", "connect-src": connect, "trusted-types": "sigil-worker"}
    return page_headers(more) | {"Permissions-Policy": _POLICIES}


class _File:
    def __init__(self, media_type: str, content: bytes, headers: dict[str, str]) -> None:
        self._media_type = media_type
        self._content = content
        self._headers = headers

    async def on_get(self, _req: Request, resp: Response) -> None:
        resp.set_headers(self._headers)
        resp.content_type, resp.data = self._media_type, self._content

    on_head = on_get


class _Redirect:
    """`/device` lies outside of the scope of the worker, which is `/device/`. Browsers keep the fragment."""

    async def on_get(self, _req: Request, resp: Response) -> None:
        resp.set_headers(page_headers())
        resp.status_code = 308
        resp.set_header("Location", "/device/")

    on_head = on_get
