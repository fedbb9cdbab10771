"""Requests that a proxy in front and the server could read differently: paths, hosts, line ends."""

from __future__ import annotations

import pytest

from tests.hostile.raw_client import RawClient, error_code

HEAD = b"Host: sigil\r\nConnection: close\r\n"
# What Falcon would route like the path itself, and what it would not.
SPELLINGS = (b"/%s", b"//%s", b"///%s", b"/%%2f%s", b"/%%2F%s", b"/./%s", b"/x/../%s", b"/%%2e/%s", b"/%s/", b"/%s%%00")


def get(raw_client: RawClient, target: bytes, head: bytes = HEAD) -> int:
    (answer,) = raw_client.responses(b"GET %s HTTP/1.1\r\n%s\r\n" % (target, head))
    if answer.status == 404:
        assert error_code(answer) == "NOT_FOUND"
    return answer.status


@pytest.mark.parametrize("path", [b"metrics", b"health", b"info", b"openapi.json", b"assets/style.css"])
def test_a_path_has_one_spelling(raw_client: RawClient, path: bytes) -> None:
    """A rule of a proxy for `/metrics` would not match `//metrics`."""
    escaped = b"/%%%02x%s" % (path[0], path[1:])
    # The metrics ask for a token.
    assert get(raw_client, b"/" + path) in {200, 401}
    assert get(raw_client, b"/%s?x=%%41//" % path) in {200, 401}
    found = {spelling: get(raw_client, spelling) for spelling in (*(one % path for one in SPELLINGS[1:]), escaped)}
    assert set(found.values()) == {404}, found


def test_the_page_for_people_has_one_spelling(raw_client: RawClient) -> None:
    assert get(raw_client, b"/") == 200
    assert {get(raw_client, target) for target in (b"//", b"/%2f", b"/%2e")} == {404}


def test_a_colon_in_a_request_id_may_be_escaped(raw_client: RawClient) -> None:
    """encodeURIComponent escapes it; the other characters of a request_id no client escapes."""
    for target, status in ((b"/mpa/status/a%3Ab%3ac", 401), (b"/mpa/status/a:b", 401), (b"/mpa/status/%61", 404)):
        assert get(raw_client, target) == status


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"Host: sigil\r\nHost: sigil\r\n", 400),
        (b"Host: sigil\r\nX: y\r\nhost: other\r\n", 400),
        (b"Host: sigil\r\nHost:\r\n", 400),
        (b"", 400),
        (b"Host: sigil\r\n", 200),
        (b"Host:\r\n", 400),
    ],
)
def test_a_request_has_one_host(raw_client: RawClient, head: bytes, status: int) -> None:
    for target in (b"/health", b"/nope"):
        (answer,) = raw_client.responses(b"GET %s HTTP/1.1\r\nConnection: close\r\n%s\r\n" % (target, head))
        assert answer.status == (404 if (target, status) == (b"/nope", 200) else status)
        if status == 400:
            assert error_code(answer) == "INVALID_REQUEST"


def test_a_second_host_does_not_use_up_the_connection(raw_client: RawClient) -> None:
    """No request is hidden in the body of a rejected one: its bytes are not read as another request."""
    hidden = b"GET /metrics HTTP/1.1\r\n%s\r\n" % HEAD
    first = b"POST /respond HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: %d\r\n\r\n" % len(hidden)
    answers = raw_client.responses(first + hidden)
    assert [answer.status for answer in answers] == [400]


@pytest.mark.parametrize("target", [b"/health", b"/nope", b"/", b"/assets/style.css", b"/challenge"])
def test_no_response_names_the_software(raw_client: RawClient, target: bytes) -> None:
    (answer,) = raw_client.responses(b"GET %s HTTP/1.1\r\n%s\r\n" % (target, HEAD))
    assert answer.headers["server"] == ""
    assert b"granian" not in raw_client.exchange(b"GET %s HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" % target).lower()


BARE = {
    "a line feed behind each field": (b"GET /health HTTP/1.1\nHost: sigil\nConnection: close\n\n", 200),
    "a carriage return in a field": (b"GET /health HTTP/1.1\r\nHost: sigil\rX: y\r\nConnection: close\r\n\r\n", 400),
    "a carriage return behind a field": (b"GET /health HTTP/1.1\r\nHost: sigil\rConnection: close\r\n\r\n", 400),
}


@pytest.mark.parametrize("kind", BARE)
def test_a_bare_line_feed_ends_a_field_and_nothing_else(raw_client: RawClient, kind: str) -> None:
    """RFC 9112, 2.2 permits it, and the parser below ASGI decides it (docs/operations.md)."""
    raw, status = BARE[kind]
    assert [answer.status for answer in raw_client.responses(raw)] == [status]


@pytest.mark.parametrize(
    "chunks", [b"2\n{}\r\n0\r\n\r\n", b"2\r\n{}\n0\r\n\r\n", b"2;a\nb\r\n{}\r\n0\r\n\r\n", b"0\n\n"]
)
def test_a_bare_line_feed_between_chunks_is_rejected(raw_client: RawClient, chunks: bytes) -> None:
    """Readers that disagree about the end of a chunk are what request smuggling needs."""
    head = (
        b"POST /respond HTTP/1.1\r\nHost: sigil\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    hidden = b"GET /health HTTP/1.1\r\n%s\r\n" % HEAD
    statuses = [answer.status for answer in raw_client.responses(head + chunks + hidden)]
    assert statuses == [400]
