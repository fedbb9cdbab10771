"""The master's loop alone, without processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sigil.serving.process.supervisor import Generation, Signals, Supervisor
from sigil.serving.tls.tls_pair import TlsPair
from sigil.serving.watchdog.crash_policy import CrashPolicy
from sigil.serving.watchdog.process_table import ProcessTable
from tests.serving.running import write_pair


def test_a_new_certificate_with_which_no_worker_starts_is_not_tried_again_at_once(tmp_path: Path) -> None:
    """The upkeep returns the pair again, since no worker serves it: the master would start workers without a pause."""
    folder = write_pair(tmp_path / "tls", "sigil.example.com")
    pair = folder / "cert.pem", folder / "key.pem"
    calls: list[int] = []

    def upkeep(served: list[TlsPair]) -> tuple[TlsPair | None, float]:
        calls.append(len(served))
        return TlsPair(*pair), 0

    def no_worker(*_: Any) -> Any:
        raise OSError("no processes left")

    first = Generation("settings", TlsPair(*pair))
    with Signals() as signals:
        supervisor = Supervisor(
            signals=signals, spawn=no_worker, first=first, workers=2, reload=lambda: first, markers=tmp_path,
            table=ProcessTable.create(2), crash=CrashPolicy(delays=(3600,)), hang_timeout=60, ready_timeout=60,
            kill_timeout=60, on_drain=lambda: None, upkeep=upkeep,
        )  # fmt: skip
        for _ in range(20):
            supervisor._step()
            while supervisor._job is not None:
                supervisor._step()
    assert calls == [2]
    assert first.tls is not None
    first.tls.close()
