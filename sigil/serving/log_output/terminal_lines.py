"""A log line for a person at a terminal; pipes, files and the journal get JSON.

10:46:05.123Z sigil info  server_starting  host=0.0.0.0 port=8443 tls=true
"""

from __future__ import annotations

import json

import msgspec

from sigil.console.style import Style, colour
from sigil.protocol.encoding.display_text import printable

# A line enters a terminal as it enters a pipe: whole.
_LINE_MAX = 4000
_STYLES: dict[object, Style] = {"error": "bad", "warn": "notice", "debug": "label"}


def terminal_line(line: bytes, *, colours: bool) -> bytes:
    """The same event as the JSON `line`, which is redacted already. No text of it can drive the terminal."""
    fields: dict[str, object] = msgspec.json.decode(line, type=dict[str, object])
    time, level, event = (str(fields.pop(name, "")) for name in ("timestamp", "level", "event"))
    # `make dev` runs two services in one terminal.
    service = str(fields.pop("service", ""))
    message = fields.pop("message", None)
    pairs = [f"{name}={_value(value)}" for name, value in fields.items()]
    text = "  ".join(part for part in (event, " ".join(pairs), "" if message is None else str(message)) if part)
    text = printable(f"{service:<5} {level:<5} {text}").encode("utf-8", "replace")[:_LINE_MAX].decode("utf-8", "ignore")
    clock = time.partition("T")[2]
    if colours:
        style = _STYLES.get(level)
        return f"{colour(clock, 'label')} {colour(text, style) if style else text}\n".encode()
    return f"{clock} {text}\n".encode()


def _value(value: object) -> str:
    if isinstance(value, str) and value and " " not in value and '"' not in value:
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
