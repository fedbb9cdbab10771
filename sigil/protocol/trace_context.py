"""W3C Trace Context: the `traceparent` header, and its 25 bytes in stored rows. Pure functions.

https://www.w3.org/TR/trace-context-2/. `tracestate` is neither read nor forwarded: it has up to 512 characters that
another system chose, and a row keeps 25 bytes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

SIZE = 25
SAMPLED, RANDOM = 0x01, 0x02
# Lower case only (3.2). Version ff is invalid; a version above 00 may append fields after a dash (4.3).
_HEADER = re.compile(r"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?\Z", re.DOTALL)
_NO_TRACE, _NO_SPAN = bytes(16), bytes(8)


class TraceContext(NamedTuple):
    """`trace_id` has 16 bytes, `span_id` 8; of the flags, SAMPLED and RANDOM are known."""

    trace_id: bytes
    span_id: bytes
    flags: int = SAMPLED

    @property
    def sampled(self) -> bool:
        return bool(self.flags & SAMPLED)


def parse(header: str) -> TraceContext | None:
    """The context of a `traceparent`; None for every malformed one, which is then ignored (4.3)."""
    found = _HEADER.match(header)
    if found is None or (found[1] == "00" and found[5] is not None):
        return None
    # A later version may give the other flags a meaning that is not ours.
    known = SAMPLED | RANDOM if found[1] == "00" else SAMPLED
    return _checked(bytes.fromhex(found[2]), bytes.fromhex(found[3]), int(found[4], 16) & known)


def sampled(member: object) -> TraceContext | None:
    """The context in a member of a JSON message, if its trace is sampled; None for a value of any other kind."""
    context = parse(member) if isinstance(member, str) else None
    return context if context is not None and context.sampled else None


def of_headers(values: Sequence[str]) -> TraceContext | None:
    """Of all `traceparent` headers of a request: more than one is as good as none (3.2)."""
    return parse(values[0]) if len(values) == 1 else None


def header(context: TraceContext) -> str:
    return f"00-{context.trace_id.hex()}-{context.span_id.hex()}-{context.flags & (SAMPLED | RANDOM):02x}"


def pack(context: TraceContext) -> bytes:
    """One byte of flags, the trace id, the span id."""
    return bytes((context.flags & (SAMPLED | RANDOM),)) + context.trace_id + context.span_id


def unpack(data: bytes) -> TraceContext | None:
    """None for b"", and for bytes that `pack` does not make."""
    if len(data) != SIZE or data[0] & ~(SAMPLED | RANDOM):
        return None
    return _checked(data[1:17], data[17:], data[0])


def _checked(trace_id: bytes, span_id: bytes, flags: int) -> TraceContext | None:
    if trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    return TraceContext(trace_id, span_id, flags)
