"""The one view of a challenge, from nothing but the spans that a collector received."""

from __future__ import annotations

from collections.abc import Sequence

from tests.support.otlp import Link, Span


def view(spans: Sequence[Span], attribute: str, subject_id: str) -> list[Span]:
    """As an operator gets it: search by the attribute, then follow parents and links from there, and the children of
    what was found. In the order of their start."""
    by_name = {span.name_of_itself: span for span in spans}
    found = [span for span in spans if subject_id in _ids(span.attributes.get(attribute))]
    seen: dict[Link, Span] = {}
    while found:
        span = found.pop()
        if span.name_of_itself in seen:
            continue
        seen[span.name_of_itself] = span
        towards = [*span.links, Link(span.trace_id, span.parent_id)]
        found += [by_name[name] for name in towards if name in by_name]
        found += [other for other in spans if _parent(other) == span.name_of_itself]
    return sorted(seen.values(), key=lambda span: span.started_at)


def lines(spans: Sequence[Span]) -> list[str]:
    """A line for each: `service: KIND name < parent -> link, link (status)`."""
    by_name = {span.name_of_itself: span for span in spans}
    return [_line(span, by_name) for span in spans]


def _line(span: Span, by_name: dict[Link, Span]) -> str:
    line = f"{span.service}: {span.kind} {span.name}"
    if span.parent_id:
        parent = by_name.get(_parent(span))
        line += f" < {parent.name if parent else 'unknown'}"
    if span.links:
        line += f" -> {', '.join(sorted(by_name[link].name if link in by_name else 'unknown' for link in span.links))}"
    if "http.request.resend_count" in span.attributes:
        line += f" again {span.attributes['http.request.resend_count']}"
    return line + (f" ({span.attributes['error.type']})" if span.status == "ERROR" else "")


def _parent(span: Span) -> Link:
    return Link(span.trace_id, span.parent_id)


def _ids(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]
