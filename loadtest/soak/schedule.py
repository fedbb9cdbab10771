"""The plan of faults: which, when and how long, from a seed alone. Faults of one target follow each other; targets are
independent, so that their faults come at once."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple

KINDS: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "server": {
        "worker_kill": (0, 0),
        "all_workers_kill": (0, 0),
        "worker_stop_short": (1, 3),
        "worker_stop_long": (15, 25),
        "reload": (0, 0),
        "server_restart": (0, 0),
        "server_kill": (0, 2),
    },
    "relay": {
        "relay_kill": (1, 8),
        "relay_restart": (0, 3),
        "relay_worker_kill": (0, 0),
        "relay_worker_stop": (2, 20),
        "relay_reload": (0, 0),
    },
    "database": {"database_kill": (1, 8), "database_stop": (2, 8)},
    "receiver": {"receiver_down": (2, 20), "receiver_errors": (2, 20), "receiver_slow": (5, 20)},
    "providers": {
        "providers_429": (3, 15),
        "providers_503": (3, 15),
        "providers_silence": (3, 20),
        "providers_down": (3, 15),
    },
    "log": {"log_stall": (4, 15)},
    "flood": {
        "flood_connections": (5, 20),
        "flood_first_bytes": (5, 20),
        "flood_tls_silence": (5, 20),
        "flood_half_open_websockets": (5, 20),
        "flood_wrong_keys": (4, 15),
        "flood_large_bodies": (4, 15),
        "flood_long_polls": (5, 20),
    },
}  # fmt: skip
"""By target: the kinds of faults, with the shortest and longest time that each lasts, in seconds."""


class Planned(NamedTuple):
    """A fault that lasts `seconds`, `pause` seconds after the recovery from the one before it."""

    kind: str
    pause: float
    seconds: float


def plan(seed: int, seconds: float, targets: Sequence[str] = tuple(KINDS)) -> dict[str, list[Planned]]:
    """For each target every kind once in random order, and then random kinds for as long as `seconds` may take.

    The same seed gives the same plan. Short runs have short pauses and the shortest faults.
    """
    return {target: _sequence(random.Random(f"{seed} {target}"), target, seconds) for target in targets}  # noqa: S311


def _sequence(dice: random.Random, target: str, seconds: float) -> list[Planned]:
    kinds = KINDS[target]
    order = list(kinds)
    dice.shuffle(order)
    longest_pause = min(30.0, seconds / 40)
    share = min(1.0, seconds / 600)
    planned: list[Planned] = []
    while len(planned) < len(kinds) or sum(fault.pause + fault.seconds for fault in planned) < seconds:
        kind = order[len(planned)] if len(planned) < len(order) else dice.choice(order)
        shortest, longest = kinds[kind]
        lasting = dice.uniform(shortest, shortest + (longest - shortest) * share)
        planned.append(Planned(kind, dice.uniform(0.2, 1.0) * longest_pause, lasting))
    return planned
