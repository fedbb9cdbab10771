"""What is told of pushes to nobody: RELAY_TELEMETRY=none."""

from __future__ import annotations

from relay.transports import Load


class NoMetrics:
    def attempt(self, provider: str, status: str, seconds: float) -> None: ...

    def token_age(self, provider: str, seconds: float) -> None: ...

    def evicted(self, reason: str, count: int = 1) -> None: ...

    def load(self, provider: str, load: Load, pushes: int) -> None: ...

    def denied(self, provider: str, denied: bool) -> None: ...
