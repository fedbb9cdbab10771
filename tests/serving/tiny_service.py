"""A tiny service for the tests of the process model: `python -m tests.serving.tiny_service <json>`.

The settings file (JSON) is read again at SIGHUP: {"greeting": "...", "broken": false, "refuse": false}.
"""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import granian.server.mp
import msgspec

from sigil.console.streams import open_standard_descriptors
from sigil.serving import logs
from sigil.serving.connections.limits import ConnectionLimits
from sigil.serving.inherited import signals
from sigil.serving.process.lifecycle import AsgiApp, WorkerLifecycle
from sigil.serving.process.master import ServerLimits, serve
from sigil.serving.startup_error import StartupError
from sigil.serving.watchdog.crash_policy import CrashPolicy

LARGE = 1 << 16


class Settings(msgspec.Struct, frozen=True):
    greeting: str = "one"
    broken: str = ""
    refuse: bool = False


def log_event(event: str) -> None:
    os.write(1, json.dumps({"event": event, "pid": os.getpid()}).encode() + b"\n")


class Tiny:
    """/ greets, /poll waits for the drain, /hang never answers, /die kills the worker, /spin blocks its loop, /log logs
    100 KB, /errors writes as much to standard error, /abort ends like a panic, /large answers LARGE bytes.
    """

    def __init__(self, settings: Settings, life: WorkerLifecycle) -> None:
        self.settings, self.life = settings, life
        self.ended = asyncio.Event()
        life.on_drain(self.ended.set)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return await self.lifespan(receive, send)
        status, text = await self.answer(scope["path"])
        await send(
            {"type": "http.response.start", "status": status, "headers": [(b"x-pid", str(os.getpid()).encode())]}
        )
        return await send({"type": "http.response.body", "body": text.encode()})

    async def answer(self, path: str) -> tuple[int, str]:
        if path in ("/poll", "/hang"):
            log_event("waiting")
        if path == "/poll":
            await asyncio.wait_for(self.ended.wait(), 30)
            return 200, f"draining={self.life.draining}"
        if path == "/hang":
            await asyncio.Event().wait()
        if path == "/large":
            return 200, "x" * LARGE
        if path == "/die":
            os._exit(7)
        if path == "/log":
            for _ in range(100):
                logs.info("chatty", **{f"text{i}": "x" * 200 for i in range(5)})
        if path == "/errors":
            os.write(2, (b"e" * 99 + b"\n") * 1000)
        if path == "/abort":
            sys.stderr.write("Traceback (most recent call last):\nValueError: sgk_live_0123\nlast words")
            sys.stderr.flush()
            os.abort()
        if path == "/spin":
            while True:
                pass
        return 200, self.settings.greeting

    async def lifespan(self, receive: Any, send: Any) -> None:
        await receive()
        if self.settings.broken == "startup":
            raise ValueError("sgk_live_" + "ab" * 32)
        if self.settings.broken == "hang":
            await asyncio.Event().wait()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        log_event("app_shutdown")
        await send({"type": "lifespan.shutdown.complete"})


def create_app(settings: Settings, life: WorkerLifecycle) -> AsgiApp:
    if settings.broken == "factory":
        raise RuntimeError("no")
    if settings.broken == "SIGTERM between two runs of the loop":
        terminate_between_runs()
    if settings.broken == "serving":
        granian.server.mp.ASGIWorker = cannot_serve
    return Tiny(settings, life)


def terminate_between_runs() -> None:
    """SIGTERM after lifespan startup and before Granian serves, when no loop runs."""
    build = granian.server.mp.ASGIWorker

    def terminated(*args: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return build(*args)

    granian.server.mp.ASGIWorker = terminated


def cannot_serve(*_: Any) -> Any:
    """A fault after lifespan startup and before Granian serves."""
    raise RuntimeError("no")


def main(options: dict[str, Any]) -> int:
    def load() -> tuple[Settings, tuple[Path, Path] | None]:
        settings = msgspec.json.decode(Path(options["settings"]).read_bytes(), type=Settings)
        if settings.refuse:
            raise StartupError("GREETING is not polite")
        return settings, tuple(Path(p) for p in options["tls"]) if options.get("tls") else None  # type: ignore[return-value]

    settings, tls = load()
    limits = dict(options.get("limits", {}))
    limits["connections"] = ConnectionLimits(**limits.get("connections", {}))
    return serve(
        factory=create_app,
        settings=settings,
        host=options.get("host", "127.0.0.1"),
        port=options["port"],
        port_setting="PORT",
        tls=tls,
        workers=options.get("workers", 2),
        state_dir=Path(options["state_dir"]),
        reload=load,
        limits=ServerLimits(**limits),
        crash=CrashPolicy(**options.get("crash", {})),
    )


if __name__ == "__main__":
    open_standard_descriptors()
    signals.set_for_master()
    try:
        sys.exit(main(json.loads(sys.argv[1])))
    except StartupError as error:
        sys.exit(f"error: {error}")
