"""Fetches Cloudflare's two lists in a process of its own: `python -I fetch.py BASE_URL MAX_BYTES SECONDS`.

It writes one JSON object: {"ipv4": …, "ipv6": …} (latin-1 texts) or {"error": …}. Only the standard library, so that it
starts fast and reads no settings: the process that speaks with the network holds no secret, and a name resolution that
hangs, which no time-out of a socket covers, ends with the process (SIGALRM).
"""

from __future__ import annotations

import http.client
import json
import signal
import ssl
import sys
from urllib.parse import SplitResult, urljoin, urlsplit

_PHASE_SECONDS = 10
_MAX_REDIRECTS = 2
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class FetchError(Exception):
    """The text is the reason, without anything that the other side wrote."""


def fetch(base: str, max_bytes: int) -> dict[str, str]:
    """Both lists, from BASE_URL/ips-v4 and BASE_URL/ips-v6."""
    tls = ssl.create_default_context()
    return {
        f"ipv{version}": _get(urlsplit(f"{base.rstrip('/')}/ips-v{version}"), tls, max_bytes).decode("latin-1")
        for version in (4, 6)
    }


def _get(url: SplitResult, tls: ssl.SSLContext, max_bytes: int) -> bytes:
    origin = _origin(url)
    for _ in range(_MAX_REDIRECTS + 1):
        status, content, location = _get_once(url, tls, max_bytes)
        if status not in _REDIRECTS:
            if status != 200:
                raise FetchError(f"status {status}")
            return content
        url = urlsplit(urljoin(url.geturl(), location))
        if _origin(url) != origin:
            raise FetchError("a redirect to another host")
    raise FetchError("too many redirects")


def _origin(url: SplitResult) -> tuple[str, str | None, int]:
    try:
        return url.scheme, url.hostname, url.port or 443
    except ValueError:
        raise FetchError("a redirect to an address that is not valid") from None


def _get_once(url: SplitResult, tls: ssl.SSLContext, max_bytes: int) -> tuple[int, bytes, str]:
    connection = http.client.HTTPSConnection(url.hostname or "", url.port, timeout=_PHASE_SECONDS, context=tls)
    try:
        headers = {"Accept": "text/plain", "Accept-Encoding": "identity", "User-Agent": "sigil"}
        connection.request("GET", (url.path or "/") + (f"?{url.query}" if url.query else ""), headers=headers)
        response = connection.getresponse()
        location = response.getheader("Location", "")
        if response.status != 200:
            return response.status, b"", location
        if response.length is None and not response.chunked:
            # Its end would be the end of the connection, which anyone on the path can cause.
            raise FetchError("a response without a length")
        if (response.length or 0) > max_bytes:
            raise FetchError(f"larger than {max_bytes} bytes")
        # Both forms raise IncompleteRead when the body ends early; read(n) of a body with a length would not.
        content = response.read(max_bytes + 1) if response.length is None else response.read()
        if len(content) > max_bytes:
            raise FetchError(f"larger than {max_bytes} bytes")
        return response.status, content, location
    finally:
        connection.close()


def main() -> None:
    base, max_bytes, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    # The service ignores it.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds)
    answer: dict[str, str]
    try:
        answer = fetch(base, max_bytes)
    except FetchError as error:
        answer = {"error": str(error)}
    except ssl.SSLCertVerificationError as error:
        answer = {"error": f"a certificate that is not trusted ({error.verify_message})"}
    except TimeoutError:
        answer = {"error": "no answer in time"}
    except http.client.IncompleteRead:
        answer = {"error": "a response that ends early"}
    # The types alone: the text of an exception may quote the other side.
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        answer = {"error": reason}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
