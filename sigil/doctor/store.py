"""The session store of the running server and the outboxes in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sigil.app.state import store_problem
from sigil.config.settings import Config
from sigil.console.findings.result import Result, failed, ok, still_open
from sigil.core.owner_share import OWN_LIMITS
from sigil.serving.probes.service import OwnProbe

_FILLING, _FULL = 0.15, 0.01
"""Free, as a part of the size: at these, the server logs store_filling and store_full."""
_OLD_SECONDS = 120.0
_KEY_STEP = "sigil_rate_limited_total names the limit: docs/runbook.md, 429"
_PUSH_STEP = "see the findings relay and relay_trust"
_WEBHOOK_STEP = "see the finding webhook"


def check_store(config: Config, probe: OwnProbe) -> Iterator[Result]:
    free, size = probe.metric("store_free_bytes"), probe.metric("store_size_bytes")
    if probe.health_members() and _is_missing(config.state_dir):
        text = f"SIGIL_STATE_DIR {config.state_dir} does not exist here: the running server has another one"
        yield still_open("store", text, "run this with the settings of the server, in its container")
    if free is None or not size:
        # Without a server: whether one could start on this directory.
        if problem := store_problem(config):
            yield failed("store", problem, "docs/configuration.md, Sessions")
        return
    pending = (probe.metric("challenges_pending") or 0) + (probe.metric("mpa_pending") or 0)
    text = f"{free / size:.0%} of {size / (1 << 20):.0f} MiB free for new challenges, {pending:.0f} pending"
    step = "see which API key creates so many (log event challenge_created), or raise SIGIL_STORE_SIZE"
    if free < _FULL * size:
        yield failed("store", f"{text}: the server rejects them (503)", step)
    elif free < _FILLING * size:
        yield still_open("store", text, step)
    elif limited := sum(probe.metric("rate_limited_total", limit=limit) or 0 for limit in OWN_LIMITS):
        # With one key and the default share, creations are rejected while a fifth of the store is free.
        yield still_open(
            "store",
            f"{text}; {limited:.0f} requests since the start got 429, since an API key used its share",
            _KEY_STEP,
        )
    else:
        yield ok("store", text)


def _is_missing(path: Path) -> bool:
    try:
        path.lstat()
    except FileNotFoundError:
        return True
    except OSError:
        # `permissions` reports it.
        return False
    return False


def check_outboxes(probe: OwnProbe) -> Iterator[Result]:
    """A name each is too much: an operator reads them as one."""
    problems, texts = [], []
    for kind, step in (("push", _PUSH_STEP), ("webhook", _WEBHOOK_STEP)):
        waiting, oldest = probe.metric(f"{kind}_outbox"), probe.metric(f"{kind}_outbox_oldest_seconds")
        if waiting is None:
            continue
        age = f", the oldest for {oldest:.0f} s" if waiting and oldest is not None else ""
        texts.append(f"{waiting:.0f} in the {kind} outbox{age}")
        if oldest is not None and oldest > _OLD_SECONDS:
            problems.append(failed("outboxes", f"{waiting:.0f} wait in the {kind} outbox{age}", step))
    yield from problems
    if texts and not problems:
        yield ok("outboxes", "; ".join(texts))
