"""The account of decisions: what was created, signed, acknowledged, read and reported, and whether all of it agrees.

Pure: no clock, no I/O. Times are Unix seconds. A subject is a challenge or an approval request, named by its
challenge_id or mpa_id. Each source of a final state (a device's response, a read of the backend, a cancellation, a
webhook event) is recorded; `check` compares them at the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Kind = Literal["challenge", "approval"]

FINAL: Mapping[Kind, frozenset[str]] = {
    "challenge": frozenset({"verified", "rejected", "expired", "cancelled"}),
    "approval": frozenset({"approved", "rejected", "timeout", "cancelled"}),
}
_TIMED_OUT = {"expired", "timeout"}
_DECISION = {"verified": "approved", "rejected": "rejected"}
_PREFIX: Mapping[Kind, str] = {"challenge": "challenge", "approval": "mpa"}
_CLOCK_SECONDS = 1.0
"""The server and this process share a clock; `expires_at` has whole seconds."""


class Violation(NamedTuple):
    """`kind` is lost, doubled, contradicting, forged, early, reverted, event_missing, event_false or event_changed."""

    kind: str
    subject: str
    text: str


@dataclass(frozen=True)
class Quorum:
    """The policy of an approval request; `groups` holds the fingerprints of each group."""

    groups: Sequence[Collection[str]]
    required: int
    reject_policy: str

    def outcome(self, votes: Mapping[str, str]) -> str:
        """The state that the votes give (protocol 5.3), by fingerprint; "pending" when they decide nothing.

        The vote that decides is the last one recorded, so the set of votes suffices, without their order.
        """
        satisfied = sum(any(votes.get(member) == "approved" for member in group) for group in self.groups)
        lost = sum(all(votes.get(member) == "rejected" for member in group) for group in self.groups)
        if satisfied >= self.required:
            return "approved"
        if self.reject_policy == "reject_on_first" and "rejected" in votes.values():
            return "rejected"
        return "rejected" if len(self.groups) - lost < self.required else "pending"


@dataclass
class Entry:
    """Everything known of one subject. Sets of sources by final state, decisions by fingerprint."""

    kind: Kind = "challenge"
    key: str = ""
    expires_at: float = 0.0
    quorum: Quorum | None = None
    signed: dict[str, set[str]] = field(default_factory=dict)
    accepted: list[tuple[str, str]] = field(default_factory=list)
    states: dict[str, set[str]] = field(default_factory=dict)
    final_since: float | None = None
    votes: dict[str, str] | None = None
    events: list[tuple[str, str]] = field(default_factory=list)

    @property
    def state(self) -> str:
        return next(iter(self.states), "pending")


class Ledger:
    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.deliveries = 0
        self._ids: dict[str, str] = {}
        self._violations: list[Violation] = []

    def created(self, kind: Kind, subject: str, key: str, expires_at: float, quorum: Quorum | None = None) -> None:
        """A 201. `key` is the Idempotency-Key or request_id: each key has one subject, however often it is sent."""
        known = self._ids.setdefault(key, subject)
        if known != subject:
            self._violations.append(Violation("doubled", subject, f"{key} had created {known} before"))
        entry = self._entry(subject)
        if not entry.key:
            entry.kind, entry.key, entry.expires_at, entry.quorum = kind, key, expires_at, quorum
        elif entry.key != key:
            self._violations.append(Violation("doubled", subject, f"created under {entry.key} and under {key}"))

    def signed(self, subject: str, fingerprint: str, decision: str) -> None:
        """A device is about to send this decision; it may do so before the backend has read the 201."""
        self._entry(subject).signed.setdefault(fingerprint, set()).add(decision)

    def accepted(self, subject: str, fingerprint: str, decision: str) -> None:
        """A 200 to a device's answer or vote."""
        self._entry(subject).accepted.append((fingerprint, decision))

    def observed(self, subject: str, source: str, state: str, began: float, at: float) -> None:
        """A state in a response to a request that was sent at `began` and received at `at`."""
        entry = self._entry(subject)
        if state == "pending":
            if entry.final_since is not None and began > entry.final_since:
                text = f"{source} reads pending after {', '.join(entry.states)} had been reported"
                self._violations.append(Violation("reverted", subject, text))
            return
        entry.states.setdefault(state, set()).add(source)
        entry.final_since = at if entry.final_since is None else min(at, entry.final_since)
        if state in _TIMED_OUT and entry.expires_at and at < entry.expires_at - _CLOCK_SECONDS:
            text = f"{source} reads {state} {entry.expires_at - at:.1f} s before expires_at"
            self._violations.append(Violation("early", subject, text))

    def final_votes(self, subject: str, votes: Sequence[tuple[str, str]]) -> None:
        """The votes of an approval request in a final state, as (fingerprint, decision)."""
        doubled = [name for name, count in Counter(name for name, _ in votes).items() if count > 1]
        entry = self._entry(subject)
        by_device = dict(votes)
        if doubled:
            self._violations.append(Violation("doubled", subject, f"two votes of {', '.join(doubled)}"))
        if entry.votes is not None and entry.votes != by_device:
            self._violations.append(Violation("contradicting", subject, "the votes changed after the end"))
        entry.votes = by_device

    def event(self, event_id: str, kind: str, subject: str, state: str) -> None:
        """A webhook event with a valid signature, each time that it arrives."""
        self.deliveries += 1
        self._entry(subject).events.append((event_id, f"{kind} {state}"))

    def lost(self, subject: str, text: str) -> None:
        """For example a 404 for a subject that the server must still know."""
        self._violations.append(Violation("lost", subject, text))

    def missing_events(self) -> list[str]:
        """Subjects in a final state whose event has not arrived yet."""
        return [name for name, entry in self.entries.items() if _expects_event(entry) and not entry.events]

    def counts(self) -> dict[str, int]:
        """Subjects by kind and final state, and deliveries."""
        counted: Counter[str] = Counter()
        for entry in self.entries.values():
            counted[f"{entry.kind}s created"] += 1
            counted[f"{entry.kind}s {entry.state}"] += 1
        events = sum(bool(entry.events) for entry in self.entries.values())
        return {**counted, "events": events, "deliveries repeated": self.deliveries - events}

    def check(self) -> list[Violation]:
        """All violations: those that were seen at once, and those of the whole account."""
        found = list(self._violations)
        for subject, entry in self.entries.items():
            found += [Violation(kind, subject, text) for kind, text in _faults(subject, entry)]
        return found

    def _entry(self, subject: str) -> Entry:
        """The entry. A device and a receiver may see a subject before the backend has read the 201."""
        return self.entries.setdefault(subject, Entry())


def _expects_event(entry: Entry) -> bool:
    return bool(entry.states) and "cancelled" not in entry.states


def _faults(subject: str, entry: Entry) -> Iterator[tuple[str, str]]:
    if not entry.key:
        yield "doubled", "a device or an event names it, and no backend created it"
        return
    if not any("backend" in sources for sources in entry.states.values()):
        yield "lost", "the backend read no final state"
    if len(entry.states) > 1:
        yield "contradicting", "; ".join(f"{state}: {', '.join(sorted(by))}" for state, by in entry.states.items())
    if unknown := set(entry.states) - FINAL[entry.kind]:
        yield "contradicting", f"no final state of a {entry.kind}: {', '.join(unknown)}"
    yield from _answer_faults(entry) if entry.kind == "challenge" else _vote_faults(entry)
    yield from _event_faults(subject, entry)


def _answer_faults(entry: Entry) -> Iterator[tuple[str, str]]:
    if len(entry.accepted) > 1:
        yield "doubled", f"{len(entry.accepted)} answers were accepted"
    for _, decision in entry.accepted:
        if _DECISION.get(entry.state) != decision:
            yield "lost", f"{decision} was acknowledged, and the state is {entry.state}"
    needed = _DECISION.get(entry.state)
    if needed and not any(needed in decisions for decisions in entry.signed.values()):
        yield "forged", f"{entry.state}, and no device signed that"


def _vote_faults(entry: Entry) -> Iterator[tuple[str, str]]:
    for name, count in Counter(name for name, _ in entry.accepted).items():
        if count > 1:
            yield "doubled", f"{count} votes of {name[:6]} were accepted"
    if entry.votes is None or entry.quorum is None:
        yield "lost", "the final votes were not read"
        return
    for name, decision in entry.accepted:
        if entry.votes.get(name) != decision:
            yield "lost", f"the vote {decision} of {name[:6]} was acknowledged, and reads {entry.votes.get(name)}"
    for name, decision in entry.votes.items():
        if decision not in entry.signed.get(name, ()):
            yield "forged", f"a vote {decision} of {name[:6]} that it did not sign"
    outcome = entry.quorum.outcome(entry.votes)
    if outcome != entry.state and (outcome != "pending" or entry.state not in {"timeout", "cancelled"}):
        yield "contradicting", f"the state is {entry.state}, and the votes give {outcome}"


def _event_faults(subject: str, entry: Entry) -> Iterator[tuple[str, str]]:
    if _expects_event(entry) and not entry.events:
        yield "event_missing", f"{entry.state}, and no event arrived"
    for event_id, text in sorted(set(entry.events)):
        if event_id != f"evt_{subject}":
            yield "event_changed", f"the event has the id {event_id}"
        if text != f"{_PREFIX[entry.kind]}.{entry.state} {entry.state}":
            yield "event_false", f"an event reports {text}, and the state is {entry.state}"
