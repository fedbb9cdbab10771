"""HTTP for any service: ASGI edge, bodies, errors, rate limits, client addresses, metrics."""
