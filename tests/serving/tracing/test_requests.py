"""The spans of requests that fail, and of requests at the same time."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import falcon.asgi
import falcon.testing

from sigil.serving.http.responses import handle_errors
from sigil.serving.tracing.current import set_authenticated, trace_of
from sigil.serving.tracing.requests import RequestTraces
from tests.serving.tracing.test_export import tracing
from tests.support.otlp import collecting

SECRET = "a text that no span may hold"


class Edge:
    """As the edge of the services."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        # The test client of Falcon gives iterators, Granian a list of tuples.
        if "headers" in scope:
            headers = [tuple(pair) for pair in scope["headers"]]
            scope |= {"headers": headers, "sigil.began": time.perf_counter()}
        await self._app(scope, receive, send)


class Resource:
    def __init__(self) -> None:
        self._arrived = 0
        self._all = asyncio.Event()

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        set_authenticated(req)
        self._arrived += 1
        if self._arrived == 3:
            self._all.set()
        await asyncio.wait_for(self._all.wait(), 60)
        trace: Any = trace_of(req)
        trace.set("sigil.state", req.get_header("x-number"))
        if req.get_header("x-number") == "0":
            raise RuntimeError(SECRET)
        resp.status = 201


async def test_each_request_has_its_own_span_also_when_one_ends_with_an_exception() -> None:
    with collecting() as collector, tracing(collector.endpoint, "http/protobuf") as tracer:
        app: Any = falcon.asgi.App(middleware=[RequestTraces(tracer, [("POST", "/thing")])])
        handle_errors(app, lambda problem: None)
        app.add_route("/thing", Resource())
        async with falcon.testing.ASGIConductor(Edge(app)) as client:
            parents = [f"00-{number:032x}-{number:016x}-01" for number in (1, 2, 3)]
            answers = await asyncio.gather(
                *(
                    client.simulate_post("/thing", headers={"traceparent": parent, "x-number": str(number)})
                    for number, parent in enumerate(parents)
                )
            )
        assert [answer.status_code for answer in answers] == [500, 201, 201]
        spans = await asyncio.to_thread(collector.wait_for, "POST /thing", 3)
        found = sorted(
            (span.attributes["sigil.state"], int(span.trace_id, 16), int(span.parent_id, 16)) for span in spans
        )
        assert found == [("0", 1, 1), ("1", 2, 2), ("2", 3, 3)]
        for span in spans:
            failed = span.attributes["sigil.state"] == "0"
            assert (span.status, span.attributes.get("error.type")) == (("ERROR", "500") if failed else ("UNSET", None))
            assert SECRET not in " ".join(span.texts)
