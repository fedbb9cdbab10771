"""Fetches public files in a process of its own: `python -IS fetch.py MAX_BYTES SECONDS ETAG URL…`.

It writes a line of JSON, {"lengths": […], "etag": …}, {"unchanged": true} or {"error": …}, and then the bodies. ETAG is
that of an earlier answer, or empty; it and the one that is written belong to the last URL. Only the standard library,
so that it starts fast and reads no settings: the process that speaks with the network holds no secret, and a name
resolution that hangs, which no time-out of a socket covers, ends with the process (SIGALRM).
"""

from __future__ import annotations

import http.client
import json
import re
import signal
import ssl
import sys
from typing import NamedTuple
from urllib.parse import SplitResult, urljoin, urlsplit

_PHASE_SECONDS = 10
_MAX_REDIRECTS = 2
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# It is sent back in a header.
_ETAG = re.compile(r'(W/)?"[!#-~]{0,200}"\Z')


class FetchError(Exception):
    """The text is the reason, without anything that the other side wrote."""


class Answer(NamedTuple):
    """`status` is 200 or 304."""

    status: int
    content: bytes
    etag: str


def fetch(urls: list[str], max_bytes: int, etag: str) -> list[Answer]:
    """One answer for each address; FetchError."""
    tls = ssl.create_default_context()
    return [_get(urlsplit(url), tls, max_bytes, etag if url == urls[-1] else "") for url in urls]


def _get(url: SplitResult, tls: ssl.SSLContext, max_bytes: int, etag: str) -> Answer:
    origin = _origin(url)
    for _ in range(_MAX_REDIRECTS + 1):
        answer, location = _get_once(url, tls, max_bytes, etag)
        if answer.status not in _REDIRECTS:
            if answer.status != 200 and not (answer.status == 304 and etag):
                raise FetchError(f"status {answer.status}")
            return answer
        url = urlsplit(urljoin(url.geturl(), location))
        if _origin(url) != origin:
            raise FetchError("a redirect to another host")
    raise FetchError("too many redirects")


def _origin(url: SplitResult) -> tuple[str, str | None, int]:
    try:
        return url.scheme, url.hostname, url.port or 443
    except ValueError:
        raise FetchError("a redirect to an address that is not valid") from None


def _get_once(url: SplitResult, tls: ssl.SSLContext, max_bytes: int, etag: str) -> tuple[Answer, str]:
    """The answer, and the address of a redirect."""
    connection = http.client.HTTPSConnection(url.hostname or "", url.port, timeout=_PHASE_SECONDS, context=tls)
    try:
        headers = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "sigil"}
        if etag:
            headers["If-None-Match"] = etag
        connection.request("GET", (url.path or "/") + (f"?{url.query}" if url.query else ""), headers=headers)
        response = connection.getresponse()
        location = response.getheader("Location", "")
        if response.status != 200:
            return Answer(response.status, b"", ""), location
        if response.length is None and not response.chunked:
            # Its end would be the end of the connection, which anyone on the path can cause.
            raise FetchError("a response without a length")
        if (response.length or 0) > max_bytes:
            raise FetchError(f"larger than {max_bytes} bytes")
        # Both forms raise IncompleteRead when the body ends early; read(n) of a body with a length would not.
        content = response.read(max_bytes + 1) if response.length is None else response.read()
        if len(content) > max_bytes:
            raise FetchError(f"larger than {max_bytes} bytes")
        tag = response.getheader("ETag", "")
        return Answer(200, content, tag if _ETAG.match(tag) else ""), location
    finally:
        connection.close()


def main() -> None:
    max_bytes, seconds, etag, urls = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:]
    # The service ignores it.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds)
    head: dict[str, object]
    bodies: list[bytes] = []
    try:
        answers = fetch(urls, max_bytes, etag)
        if answers[-1].status == 304:
            head = {"unchanged": True}
        else:
            bodies = [answer.content for answer in answers]
            head = {"lengths": [len(body) for body in bodies], "etag": answers[-1].etag}
    except FetchError as error:
        head = {"error": str(error)}
    except ssl.SSLCertVerificationError as error:
        head = {"error": f"a certificate that is not trusted ({error.verify_message})"}
    except TimeoutError:
        head = {"error": "no answer in time"}
    except http.client.IncompleteRead:
        head = {"error": "a response that ends early"}
    # The types alone: the text of an exception may quote the other side.
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        head = {"error": reason}
    sys.stdout.buffer.write(b"".join([json.dumps(head).encode(), b"\n", *bodies]))


if __name__ == "__main__":
    main()
