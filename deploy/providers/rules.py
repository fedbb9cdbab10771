"""Rules of a test: which requests get another response, which one, and how often."""

from __future__ import annotations

import random
from typing import Literal

import msgspec

Name = Literal["apns", "fcm", "token", "webpush"]
Fault = Literal[
    "reset", "refused_stream", "goaway", "goaway_before", "no_body", "split_data", "empty_data", "stall", "silence",
    "close", "early", "early_open",
]  # fmt: skip
EARLY = frozenset({"early", "early_open"})
"""Faults that happen after the headers of a request, before its body."""
MAX_RULES = 1000


class Rule(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The first rule that matches a push, and passes its probability, decides the result; README.md has each member."""

    provider: Name
    token: str = ""
    outcome: str | None = None
    status: int | None = None
    body: str | None = None
    body_size: int = 0
    location: str | None = None
    timestamp: int | None = None
    retry_after: str | None = None
    fault: Fault | None = None
    code: int | None = None
    accepted: bool = False
    delay_ms: float = 0
    spread_ms: float = 0
    probability: float = 1
    times: int | None = None
    id: int = 0
    used: int = 0

    @property
    def exhausted(self) -> bool:
        return self.times is not None and self.used >= self.times


class TooManyRules(Exception):
    """More than RULES_AT_MOST."""


class Rules:
    """In the order in which they were added. The generator is seeded: the same requests meet the same faults."""

    def __init__(self) -> None:
        self.all: list[Rule] = []
        self._by_provider: dict[str, list[Rule]] = {}
        self._last_id = 0
        self.reset(0)

    def reset(self, seed: int) -> None:
        self.clear()
        # Faults of a test must be reproducible by their seed. Nothing secret depends on it.
        self._random = random.Random(seed)  # noqa: S311

    def clear(self) -> None:
        self.all = []
        self._by_provider = {}

    def add(self, rules: list[Rule]) -> list[int]:
        """Their ids."""
        if len(self.all) + len(rules) > MAX_RULES:
            raise TooManyRules
        for rule in rules:
            self._last_id += 1
            rule.id, rule.used = self._last_id, 0
            self.all.append(rule)
            self._by_provider.setdefault(rule.provider, []).append(rule)
        return [rule.id for rule in rules]

    def pick(self, provider: Name, token: str, *, early: bool = False) -> Rule | None:
        for rule in self._by_provider.get(provider, ()):
            if rule.exhausted or not token.startswith(rule.token) or (rule.fault in EARLY) != early:
                continue
            if rule.probability >= 1 or self._random.random() < rule.probability:
                rule.used += 1
                return rule
        return None

    def delay(self, rule: Rule) -> float:
        """Seconds: `delay_ms` and up to `spread_ms` more."""
        return (rule.delay_ms + self._random.random() * rule.spread_ms) / 1000
