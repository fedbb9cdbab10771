"""Traces over OTLP: settings, spans, and their export, which costs no request anything (docs/observability.md)."""
