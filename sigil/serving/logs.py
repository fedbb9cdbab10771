"""JSON logs: one event, one line on standard output, which never waits for its reader (see `line_writer`). On a
terminal the lines are for people (see `terminal_log`).

    logs.configure("sigil", "info")
    logs.info("challenge_created", challenge_id=id, device=logs.short(fingerprint))

Exceptions are logged by type and location (file:line function), never with message or locals: a message can quote the
input, and the input can be a key or a mnemonic. Records of other libraries get the same format; only their first line
is kept, and only the template when an exception is attached (asyncio puts the repr of the failed task, with the
arguments of the exception, into the rest).
"""

import atexit
import contextlib
import logging
import os
import select
import sys
import threading
import time
from types import TracebackType
from typing import Literal

import msgspec

from sigil.console.style import is_terminal, wants_colour
from sigil.serving.log_output.line_writer import Count, LineWriter
from sigil.serving.log_output.redaction import clean, redact_line
from sigil.serving.log_output.terminal_lines import terminal_line

Level = Literal["debug", "info", "warn", "error"]
LEVELS: dict[str, int] = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}

# A write to a pipe is atomic up to PIPE_BUF bytes; longer lines of several workers would be interleaved.
_LINE_MAX = 4096
_TEXT_MAX = 256
_FRAMES_MAX = 8
_EVENTS = {"_granian": "http_server", "asyncio": "asyncio", "py.warnings": "warning", "granian.access": "access"}
# Their debug and info records contain URLs and headers, and so tokens: never below warn, at any LOG_LEVEL.
_VERBOSE = ("httpx", "httpcore", "hpack", "h2", "asyncpg", "urllib3")

# At the end of a process: a reader that stalls must not delay the exit.
_FLUSH_SECONDS = 0.5
_STDERR = 2

_encode = msgspec.json.Encoder().encode


class _Sink:
    """The destination and the settings of the log of this process."""

    service = "sigil"
    threshold = logging.INFO
    second = 0
    prefix = ""
    # Lines for a person at a terminal; in colour.
    human = False
    colours = False

    def __init__(self) -> None:
        self.write_to(1)

    def write_to(self, fd: int) -> None:
        self.writer = LineWriter(fd, _dropped_lines, _report_lost_log)


def _dropped_lines(count: int, seconds: float) -> bytes:
    return _formed(_line("warn", "log_lines_dropped", {"count": count, "seconds": round(seconds, 1)}))


def _report_lost_log(error: OSError) -> None:
    """On standard error, in one line: the log itself cannot show it. It never waits for a reader."""
    poll = select.poll()
    poll.register(_STDERR, select.POLLOUT)
    with contextlib.suppress(OSError):
        if poll.poll(0):
            text = f"the log on standard output cannot be written: {error.strerror}; lines are lost until it can"
            os.write(_STDERR, f"{_sink.service}: {text}\n".encode())


_sink = _Sink()


def configure(service: str, level: str) -> None:
    """Send events and all standard-library records of this process to stdout; call it once per process.

    `level` is debug, info, warn or error; anything else raises ValueError.
    """
    if level not in LEVELS:
        raise ValueError(f"unknown log level {level!r}: one of {', '.join(LEVELS)}")
    _sink.service, _sink.threshold = service, LEVELS[level]
    _sink.human = is_terminal(sys.stdout)
    _sink.colours = wants_colour(sys.stdout)
    root = logging.getLogger()
    root.handlers[:] = [_RecordHandler()]
    # At debug, other libraries log what they send: info is their lowest level.
    root.setLevel(max(_sink.threshold, logging.INFO if level == "debug" else logging.WARNING))
    for name in _VERBOSE:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    # Both would write to standard error, whose reader may stall too.
    logging.raiseExceptions = False
    sys.unraisablehook = _unraisable
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread
    _sink.writer.prepare()
    atexit.unregister(flush)
    atexit.register(flush)


def silence() -> None:
    """For a command whose standard output has a form of its own: nothing of this process is logged."""
    _sink.threshold = logging.CRITICAL + 1
    logging.disable(logging.CRITICAL)


def flush() -> None:
    """Wait for lines that the reader has not taken yet, for half a second at most."""
    _sink.writer.flush(_FLUSH_SECONDS)


def count_dropped_in(cell: Count) -> None:
    """Add the number of dropped lines to `cell[0]`."""
    cell[0] += _sink.writer.dropped[0]
    _sink.writer.dropped = cell


_LEVEL_OF_TELEMETRY: dict[str, Level] = {"full": "debug", "minimal": "warn", "none": "error"}


def stricter(level: Level, telemetry: str) -> Level:
    """The stricter of LOG_LEVEL and what a level of telemetry (full, minimal, none) allows."""
    return max(level, _LEVEL_OF_TELEMETRY[telemetry], key=LEVELS.__getitem__)


def enabled(level: str) -> bool:
    """True when events of this level are written: for callers whose fields are expensive to collect."""
    return LEVELS[level] >= _sink.threshold


def debug(event: str, /, **fields: object) -> None:
    """Write an event of level debug; `fields` are strings, numbers, booleans, None, or lists and dicts of them."""
    if _sink.threshold <= logging.DEBUG:
        _write("debug", event, fields)


def info(event: str, /, **fields: object) -> None:
    """Write an event of level info; see `debug`."""
    if _sink.threshold <= logging.INFO:
        _write("info", event, fields)


def warn(event: str, /, **fields: object) -> None:
    """Write an event of level warn; see `debug`."""
    if _sink.threshold <= logging.WARNING:
        _write("warn", event, fields)


def error(event: str, /, exc: BaseException | None = None, **fields: object) -> None:
    """Write an event of level error; of `exc` only the type and the location are written."""
    if _sink.threshold > logging.ERROR:
        return
    _write("error", event, {**fields, **describe(exc)} if exc else fields)


def report(level: str, event: str, fields: dict[str, object]) -> None:
    """Write an event whose level or fields are known only at run time."""
    if enabled(level):
        _write(level, event, fields)


def short(fingerprint: str) -> str:
    """The form of a fingerprint in logs: "a1b2c3…"."""
    return f"{fingerprint[:6]}…"


def describe(exc: BaseException) -> dict[str, object]:
    """{"exception": "KeyError < ValueError", "location": "file.py:12 inner < app.py:3 outer"}, innermost first."""
    chain, names = exc, [type(exc).__name__]
    while (cause := chain.__cause__ or chain.__context__) is not None and len(names) < 5:
        names.append(type(cause).__name__)
        chain = cause
    return {"exception": " < ".join(names), "location": _location(exc.__traceback__)}


def _location(trace: TracebackType | None) -> str:
    frames = []
    while trace is not None:
        code = trace.tb_frame.f_code
        frames.append(f"{'/'.join(code.co_filename.rsplit('/', 2)[-2:])}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return " < ".join(frames[: -_FRAMES_MAX - 1 : -1])


def _timestamp() -> str:
    now = time.time()
    second = int(now)
    if second != _sink.second:
        # gmtime and strftime take a third of the time of a line: once a second is enough.
        _sink.second, _sink.prefix = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
    return f"{_sink.prefix}.{int((now - second) * 1000):03d}Z"


def _write(level: str, event: str, fields: dict[str, object]) -> None:
    _sink.writer.write(_formed(_line(level, event, fields)), urgent=level == "error")


def _formed(line: bytes) -> bytes:
    return terminal_line(line, colours=_sink.colours) if _sink.human else line


def _line(level: str, event: str, fields: dict[str, object]) -> bytes:
    line: dict[str, object] = {
        "timestamp": _timestamp(),
        "level": level,
        "service": _sink.service,
        "event": event,
    }
    try:
        for name, value in fields.items():
            line[f"{name}_" if name in line else name] = clean(name, value)
        data = _encode(line)
    # Lone surrogates, integers over 64 bits, a property that raises: logging must never raise in its caller.
    except Exception:
        data = _encode_as_text(line)
    data = redact_line(data)
    return (data if len(data) < _LINE_MAX else _shorten(data)) + b"\n"


def _encode_as_text(line: dict[str, object]) -> bytes:
    texts = {_valid(name): value if type(value) is bool else _valid(str(value)) for name, value in line.items()}
    return _encode(texts)


def _valid(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _shorten(data: bytes) -> bytes:
    fields = msgspec.json.decode(data, type=dict[str, object])
    for name, value in fields.items():
        text = value if isinstance(value, str) else _encode(value).decode()
        if len(text) > _TEXT_MAX:
            fields[name] = text[:_TEXT_MAX] + "…"
    cut = _encode({**fields, "truncated": True})
    head = {name: fields[name] for name in ("timestamp", "level", "service", "event")}
    return cut if len(cut) < _LINE_MAX else _encode({**head, "truncated": True})


class _RecordHandler(logging.Handler):
    """Standard-library records in the format of events."""

    def emit(self, record: logging.LogRecord) -> None:
        level = next((name for name in ("error", "warn", "info") if record.levelno >= LEVELS[name]), "debug")
        event = _EVENTS.get(record.name, "log")
        fields: dict[str, object] = {} if event != "log" else {"logger": record.name}
        fields["message"] = _message(record)
        if record.exc_info and record.exc_info[1] is not None:
            fields |= describe(record.exc_info[1])
        _write(level, event, fields)


def _message(record: logging.LogRecord) -> str:
    try:
        text = str(record.msg) if record.exc_info else record.getMessage()
    except Exception:
        text = str(record.msg)
    return text.partition("\n")[0]


def _uncaught(kind: type[BaseException], exc: BaseException, _trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        error("uncaught_exception", exc=exc)


def _unraisable(args: "sys.UnraisableHookArgs") -> None:
    if args.exc_value is not None:
        error("uncaught_exception", exc=args.exc_value)


def _uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None:
        error("uncaught_exception", exc=args.exc_value, thread=args.thread.name if args.thread else None)
